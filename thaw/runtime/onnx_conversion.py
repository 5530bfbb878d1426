"""Convert a function of TensorFlow to an ONNX graph: the frozen layers for ONNX Runtime, and what `export` deploys."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from thaw.runtime.framework import tf

OPSET = 17


def converted(function: Callable[[tf.Tensor], Any], spec: tf.TensorSpec) -> Any:
    """Return a function of one tensor, with the variables that it reads as constants, as an ``onnx.ModelProto``.

    Args:
        function: a ``tf.function`` that has not been traced yet.
        spec: the tensor that it takes.

    Raises:
        Exception: whatever tf2onnx may raise.
    """
    import tf2onnx  # noqa: PLC0415 -- loaded only where it converts

    handlers: dict[str, tuple[Callable[..., None], list[str]]] = {"Erfc": (_without_erfc, [])}
    with _inlined():
        model, _ = tf2onnx.convert.from_function(function, [spec], opset=OPSET, custom_op_handlers=handlers)
    return model


@contextmanager
def _inlined() -> Iterator[None]:
    """Trace calls of functions as what they do. Keras compiles grouped convolutions, as those of ConvNeXt, with XLA,
    and a call of compiled code cannot be converted.
    """
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _without_erfc(graph: Any, node: Any, name: str, _arguments: Any) -> None:
    """Rewrite the complementary error function, of which TensorFlow makes the exact GELU and which ONNX has not."""
    kind, shape = graph.get_dtype(node.output[0]), graph.get_shape(node.output[0])
    one = graph.make_const(f"{name}_one", np.array(1, np.float32))
    error_function = graph.make_node("Erf", node.input)
    graph.remove_node(node.name)
    inputs = [one.output[0], error_function.output[0]]
    graph.make_node("Sub", inputs, outputs=node.output, name=node.name, dtypes=[kind], shapes=[shape])
