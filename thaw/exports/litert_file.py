"""The format ``litert``: one flatbuffer for LiteRT, on phones and small boards. It takes pixels of any size.

No TensorFlow before one is written, and none to load one.
"""

import json
import queue
from pathlib import Path
from typing import Any

import numpy as np

from thaw import paths, records
from thaw.exports import flatbuffer, pixels, quiet
from thaw.exports.exported import UNFAMILIARITY, Answer, Deployed, Exported, unknown

CLASSES = f"metadata of {paths.LITERT_FILE}"  # the place where it names its classes
FLOAT16_CLASSES = f"metadata of {paths.LITERT_FLOAT16_FILE}"


def write(path: Path, deployed: Deployed) -> None:
    """Convert the graph to LiteRT's own operations, and write it with its metadata."""
    records.write_bytes(path, flatbuffer.finished(graph(deployed), deployed.about_file("litert")))


def write_float16(path: Path, deployed: Deployed) -> None:
    """Write the same with weights of 16 bits, which are computed with in float32."""
    content = graph(deployed, float16=True)
    records.write_bytes(path, flatbuffer.finished(content, deployed.about_file("litert_float16")))


def graph(deployed: Deployed, *, float16: bool = False) -> bytes:
    """Return the deployed graph as LiteRT's converter gives it; ``float16``: with weights of 16 bits."""
    from thaw.exports import graph as graphs  # noqa: PLC0415 -- seconds, for TensorFlow
    from thaw.runtime.framework import numbered_from_the_start, tf  # noqa: PLC0415

    with quiet.python(), numbered_from_the_start():
        answer, _, module = graphs.function(deployed, batch=1)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([answer.get_concrete_function()], module)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if float16:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        return bytes(converter.convert())


def is_one(path: Path) -> bool:
    """Return whether a path of any name is such a file."""
    return path.is_file() and path.suffix == Path(paths.LITERT_FILE).suffix


def load(path: Path) -> Exported:
    """Load a file that ``write`` wrote.

    Raises:
        thaw.exports.exported.ForeignError: it was written by another program.
    """
    content = path.read_bytes()
    said = flatbuffer.metadata(content)
    if said is None:
        raise unknown(path, flatbuffer.METADATA)
    about = json.loads(said)
    run = Interpreters(content)
    return pixels.exported(about, run.answer)


class Interpreters:
    """LiteRT interpreters, as many as threads ask at once: one of them answers one thread at a time."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.idle.put(self._another())  # so that a damaged file is found when it is loaded

    def _another(self) -> Any:
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 -- loaded only where it runs

        with quiet.descriptor(2):  # it greets
            interpreter = Interpreter(model_content=self.content, num_threads=1)
            interpreter.allocate_tensors()
        return interpreter

    def answer(self, images: np.ndarray) -> list[Answer]:
        """Return an answer an image; labels it gives none."""
        try:
            interpreter = self.idle.get_nowait()
        except queue.Empty:
            interpreter = self._another()
        found = [_asked(interpreter, picture) for picture in images]
        self.idle.put(interpreter)  # not where it failed
        return found


def _asked(interpreter: Any, picture: np.ndarray) -> Answer:
    """Return the answer for one picture, (height, width, 3) uint8."""
    (given,) = interpreter.get_input_details()
    outputs = {each["name"]: each["index"] for each in interpreter.get_output_details()}
    if tuple(given["shape"]) != (1, *picture.shape):
        interpreter.resize_tensor_input(given["index"], (1, *picture.shape))
        interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], picture[None])
    interpreter.invoke()
    score = float(interpreter.get_tensor(outputs[UNFAMILIARITY])[0]) if UNFAMILIARITY in outputs else None
    return Answer(interpreter.get_tensor(outputs["probabilities"])[0], "", score)
