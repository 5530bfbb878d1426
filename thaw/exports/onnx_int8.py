"""The format ``onnx_int8``: the network of an ONNX file in int8, its ranges found on training images.

Weights are int8 with a scale a channel, activations uint8 with one a tensor, as pairs of QuantizeLinear and
DequantizeLinear that ONNX Runtime joins to whole-number kernels. What fits the pixels stays float32, and so do output
and softmax.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from thaw import paths, records
from thaw.exports import onnx_file, quiet
from thaw.exports.exported import Deployed

CLASSES = f"metadata of {paths.ONNX_INT8_FILE}"  # the place where it names its classes
# Clip and Relu among them, since a pair between a convolution and its bound would keep the two apart.
QUANTIZED = ("Conv", "MatMul", "Gemm", "Add", "Clip", "Relu", "GlobalAveragePool")


def write(path: Path, deployed: Deployed) -> None:
    """Convert the graph, quantise the network in it, and write it under canonical names with its metadata."""
    from thaw.exports import onnx_graph  # noqa: PLC0415 -- loaded only where it converts

    model = _quantized(onnx_file.converted(deployed), deployed)
    records.write_bytes(path, onnx_graph.content(model, deployed.about_file("onnx_int8")))


def _quantized(model: Any, deployed: Deployed) -> Any:
    import onnx  # noqa: PLC0415 -- loaded only where it quantises

    onnx_file.untold()
    from onnxruntime import quantization  # noqa: PLC0415

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        """The images, one at a time."""

        def __init__(self, images: Iterator[np.ndarray]) -> None:
            self.images = images

        def get_next(self) -> dict[str, np.ndarray] | None:
            pixels = next(self.images, None)
            return None if pixels is None else {given: pixels[None]}

    (given,) = (value.name for value in model.graph.input)
    with tempfile.TemporaryDirectory() as folder, quiet.python():
        folded, made = _folded(model, Path(folder, "folded.onnx")), Path(folder, "quantized.onnx")
        quantization.quantize_static(
            folded,
            str(made),
            Reader(deployed.calibration()),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            op_types_to_quantize=QUANTIZED,
            nodes_to_exclude=_before_the_network(folded),
        )
        return onnx.load(made)


def _folded(model: Any, path: Path) -> Any:
    """Return the model with BatchNorm in its convolutions, which otherwise stands between int8 and int8 as float."""
    import onnx  # noqa: PLC0415
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(path)


def _before_the_network(model: Any) -> list[str]:
    """Return the nodes that fit the pixels: those that the first layer with weights needs, and all of its own kind."""
    maker = {output: node for node in model.graph.node for output in node.output}
    weights = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) > 1}
    first = next(node for node in model.graph.node if node.op_type in QUANTIZED and weights & set(node.input))
    found, waiting = set[str](), list(first.input)
    while waiting:
        node = maker.get(waiting.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            waiting += node.input
    return sorted(found)
