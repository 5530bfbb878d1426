"""Convert the frozen layers to ONNX for ONNX Runtime, and keep what was converted, since that takes seconds.

What is kept is a graph with its weights, no code that runs when it is read. Its name stands for what it was made of,
and whoever reads it compares it with the layers before it is trusted.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from thaw import records
from thaw.runtime import onnx_conversion, threads
from thaw.runtime.framework import keras, tf

KEPT = 8  # graphs in a folder; those that were not used for longest go first


def function(frozen: keras.Model) -> tuple[Callable[..., list[tf.Tensor]], tf.TensorSpec]:
    """Return the layers as a function of images whose outputs are float32, and what it takes."""
    spec = tf.TensorSpec((None, *frozen.input_shape[1:]), tf.float32, name="images")

    def run(images: tf.Tensor) -> list[tf.Tensor]:
        return [tf.cast(output, tf.float32) for output in tf.nest.flatten(frozen(images, training=False))]

    return run, spec


def convert(frozen: keras.Model) -> bytes:
    """Return the layers as an ONNX graph.

    Raises:
        Exception: whatever tf2onnx may raise.
    """
    run, spec = function(frozen)
    data: bytes = onnx_conversion.converted(tf.function(run, input_signature=[spec]), spec).SerializeToString()
    return data


def session(graph: bytes) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Return what runs a graph in ONNX Runtime: images, (batch, size, size, 3) float32 → one array an output."""
    import onnxruntime  # noqa: PLC0415 -- loaded only where it runs

    options = onnxruntime.SessionOptions()
    # Each core takes a part of the batch. Cores that share each layer wait for one another, most of all when another
    # process takes a little of one of them.
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    (name,) = (value.name for value in session.get_inputs())
    workers = threads.used()
    pool = ThreadPoolExecutor(workers, "onnxruntime")

    def run(images: np.ndarray) -> list[np.ndarray]:
        parts = np.array_split(images, min(workers, len(images)))
        answers = pool.map(lambda part: session.run(None, {name: part}), parts)
        return [np.concatenate(outputs) for outputs in zip(*answers, strict=True)]

    return run


def kept(path: Path | None) -> bytes:
    """Return a graph that was kept; nothing where there is none."""
    if path is None or not path.is_file():
        return b""
    with suppress(OSError):  # another user's
        os.utime(path)
    return path.read_bytes()


def keep(path: Path, graph: bytes) -> None:
    """Keep a graph, and no more than ``KEPT`` with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with records.replaced(path) as beside:
        beside.write_bytes(graph)
    for old in sorted(path.parent.glob("*.onnx"), key=lambda each: each.stat().st_mtime)[:-KEPT]:
        old.unlink(missing_ok=True)
