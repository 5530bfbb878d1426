"""A tiny exported classifier as an ONNX file, made without TensorFlow: it tells green from red by the mean colour."""

import json
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from thaw import paths, records

CLASSES = ["grün, hell", "red"]
ABOUT: dict[str, Any] = {
    "classes": CLASSES,
    "image": {"size": 32, "fit": "squash", "interpolation": "bilinear", "antialias": True},
    "files": {"max_pixels": 89478485, "stretch": True},
    "format": "onnx",
    "temperature": 1.0,
    "provenance": {"data_sha256": "0" * 64},
    "limits": {"max_pixels": 89478485},
}


def write(path: Path, *, scored: bool = False, **about: Any) -> None:
    """Write it with the interface that `export` gives to ``model.onnx``; ``scored``: what is blue is unfamiliar."""
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "kernel"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["likeliest"], axis=1, keepdims=0),
        helper.make_node("Gather", ["names", "likeliest"], ["label"], axis=0),
    ]
    kernel = helper.make_tensor("kernel", TensorProto.FLOAT, [3, 2], [-5 / 255, 5 / 255, 5 / 255, -5 / 255, 0, 0])
    names = helper.make_tensor("names", TensorProto.STRING, [2], list(map(str.encode, CLASSES)))  # type: ignore[arg-type]
    more = [helper.make_tensor_value_info("unfamiliarity", TensorProto.FLOAT, ["batch"])] if scored else []
    if scored:
        nodes.append(helper.make_node("MatMul", ["mean", "blue"], ["unfamiliarity"]))
        about["unfamiliar"] = {"threshold": 100.0, "share": 0.05}
    graph = helper.make_graph(
        nodes,
        "thaw",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", "height", "width", 3])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("label", TensorProto.STRING, ["batch"]),
            *more,
        ],
        [kernel, names, helper.make_tensor("blue", TensorProto.FLOAT, [3], [0, 0, 0.01])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"thaw": json.dumps(ABOUT | about, ensure_ascii=False)})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def leave(folder: Path, *_: str, **__: object) -> None:
    """Leave what the stages would of a project on green and red images: figures, report, model."""
    figures = {"accuracy": 0.75, "accuracy_low": 0.5, "accuracy_high": 0.875, "images": 8}
    records.write_json(folder / paths.metrics("evaluate"), {"phase1": figures, "phase2": figures})
    records.write_text(folder / paths.REPORT, "<p>The report</p>")
    write(folder / paths.EXPORTED / paths.ONNX_FILE, classes=["green", "red"])
