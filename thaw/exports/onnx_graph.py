"""ONNX graphs as they are written: the label beside the probabilities, and names that follow from the graph alone."""

import json
from collections.abc import Mapping
from typing import Any

import onnx
from onnx import helper

from thaw.exports.exported import UNFAMILIARITY

METADATA = "thaw"  # the key under which a file holds, as JSON, what it is to be known by
IR_VERSION = 8
IMAGES, PROBABILITIES, LABEL, SCORE = "images", "probabilities", "label", UNFAMILIARITY
_CLASSES, _LIKELIEST = "thaw/classes", "thaw/likeliest"


def content(model: onnx.ModelProto, about: Mapping[str, Any]) -> bytes:
    """Return the bytes of the finished model."""
    made: bytes = finished(model, about).SerializeToString(deterministic=True)
    return made


def finished(model: onnx.ModelProto, about: Mapping[str, Any]) -> onnx.ModelProto:
    """Return the model with its label output and metadata, in canonical order and names: equal models, equal bytes.

    Args:
        model: of one input, the images; the probabilities are its first output, and a second one has a value an image.
        about: what it is to be known by; ``classes`` are the labels.
    """
    (given,), (answer, *score) = model.graph.input, model.graph.output
    names = [name.encode() for name in about["classes"]]
    parts = [*model.graph.initializer, helper.make_tensor(_CLASSES, onnx.TensorProto.STRING, [len(names)], names)]
    nodes = [
        *model.graph.node,
        helper.make_node("ArgMax", [answer.name], [_LIKELIEST], axis=1, keepdims=0),
        helper.make_node("Gather", [_CLASSES, _LIKELIEST], [LABEL], axis=0),
    ]
    named = {given.name: IMAGES, answer.name: PROBABILITIES, LABEL: LABEL, **{each.name: SCORE for each in score}}
    nodes, parts = _canonical(nodes, parts, named)
    graph = helper.make_graph(
        nodes,
        "thaw",
        [helper.make_tensor_value_info(IMAGES, onnx.TensorProto.UINT8, ["batch", "height", "width", 3])],
        [
            helper.make_tensor_value_info(PROBABILITIES, onnx.TensorProto.FLOAT, ["batch", len(names)]),
            helper.make_tensor_value_info(LABEL, onnx.TensorProto.STRING, ["batch"]),
            *(helper.make_tensor_value_info(SCORE, onnx.TensorProto.FLOAT, ["batch"]) for _ in score),
        ],
        parts,
    )
    used = {node.domain for node in nodes}
    opsets = [each for each in model.opset_import if each.domain in used]
    made = helper.make_model(graph, producer_name="thaw", opset_imports=opsets, ir_version=IR_VERSION)
    helper.set_model_props(made, {METADATA: json.dumps(about, sort_keys=True, ensure_ascii=False)})
    return made


def _canonical(
    nodes: list[onnx.NodeProto], initializers: list[onnx.TensorProto], named: Mapping[str, str]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Return nodes and constants in the order in which the outputs lead to them, numbered in that order.

    Args:
        nodes, initializers: of the graph, under any names in any order.
        named: the new names of the graph's inputs and outputs, by their old ones.
    """
    maker = {output: node for node in nodes for output in node.output if output}
    constants = {tensor.name: tensor for tensor in initializers}
    names = dict(named)
    ordered: list[onnx.NodeProto] = []
    used: list[onnx.TensorProto] = []
    done: set[int] = set()
    waiting = [(maker[output], False) for output in reversed(list(named)) if output in maker]
    while waiting:  # depth first, without recursion: networks are deep
        node, ready = waiting.pop()
        if id(node) in done:
            continue
        sources = [*node.input, *(name for graph in _inner(node) for name in _captured(graph))]
        if not ready:
            waiting.append((node, True))
            waiting += [(maker[name], False) for name in reversed(sources) if name in maker]
            continue
        done.add(id(node))
        for name in sources:
            if name in constants and name not in names:
                names[name] = f"constant_{len(used)}"
                used.append(constants[name])
        for name in node.output:
            if name:
                names.setdefault(name, f"value_{len(names)}")
        ordered.append(node)
    return [_renamed(node, names, number) for number, node in enumerate(ordered)], [
        _with_name(tensor, names[tensor.name]) for tensor in used
    ]


def _inner(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the graphs inside of a node, of a loop or a branch."""
    return [graph for each in node.attribute for graph in ([each.g] if each.HasField("g") else each.graphs)]


def _captured(graph: onnx.GraphProto) -> list[str]:
    """Return the names that a graph inside of a node may take from outside."""
    own = [*graph.node, *(node for outer in graph.node for inner in _inner(outer) for node in inner.node)]
    return [name for node in own for name in node.input] + [each.name for each in graph.output]


def _renamed(node: onnx.NodeProto, names: Mapping[str, str], number: int) -> onnx.NodeProto:
    made = onnx.NodeProto()
    made.CopyFrom(node)
    made.name, made.doc_string = f"{node.op_type}_{number}", ""
    _rename(made, names)
    return made


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    node.input[:] = [names.get(name, name) for name in node.input]
    node.output[:] = [names.get(name, name) for name in node.output]
    for graph in _inner(node):
        for inner in graph.node:
            _rename(inner, names)
        for output in graph.output:
            output.name = names.get(output.name, output.name)


def _with_name(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    made = onnx.TensorProto()
    made.CopyFrom(tensor)
    made.name, made.doc_string = name, ""
    return made
