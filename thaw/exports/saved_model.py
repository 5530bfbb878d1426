"""The format ``saved_model``: a folder for TensorFlow Serving and all that reads SavedModel.

It takes pixels and encoded files. No TensorFlow before one is written or loaded.
"""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from thaw import paths, records
from thaw.config import schema
from thaw.exports import pixels
from thaw.exports.exported import BATCH, UNFAMILIARITY, UNSAID, Answer, Deployed, Exported, answered
from thaw.images import content, decoding
from thaw.runtime import threads

CLASSES = f"signature classes of {paths.SAVED_MODEL}"  # the place where it names them
EXTRA = "assets.extra"  # TensorFlow's name of the folder in a SavedModel for files that it does not read itself


def write(folder: Path, deployed: Deployed) -> None:
    """Save with signatures for encoded files and for pixels, and with what it is to be known by."""
    from thaw.exports import graph  # noqa: PLC0415 -- seconds, for TensorFlow
    from thaw.images import preprocessing  # noqa: PLC0415
    from thaw.runtime.framework import tf  # noqa: PLC0415

    classifier, reading = deployed.classifier, deployed.reading
    labels = tf.constant(classifier.card.classes)
    load = preprocessing.load(classifier.card.image)
    size = classifier.card.image.size
    fit = preprocessing.resizer(classifier.card.image)

    # Types are quoted, as AutoGraph takes the functions for a module's own and finds no `tf` there.
    def answer(pixels: "tf.Tensor") -> "dict[str, tf.Tensor]":
        found = graph.outputs(deployed, pixels)
        return {**found, "label": tf.gather(labels, tf.argmax(found["probabilities"], axis=1))}

    def encoded(files: "tf.Tensor") -> "dict[str, tf.Tensor]":
        spec = tf.TensorSpec((size, size, 3), tf.float32)
        return answer(tf.map_fn(load, files, fn_output_signature=spec))

    def pixels(images: "tf.Tensor") -> "dict[str, tf.Tensor]":
        return answer(fit(images))

    def classes() -> "dict[str, tf.Tensor]":
        return {"classes": labels}

    def files() -> "dict[str, tf.Tensor]":
        return {"max_pixels": tf.constant(reading.max_pixels, tf.int64), "stretch": tf.constant(reading.stretch)}

    # Keras's own ExportArchive keeps the variables in a set, whose order differs in each process.
    exported = tf.Module()
    # Weights, not all variables: the states of Dropout are drawn anew in each process, and nothing here uses them.
    exported.model_variables = [variable.value for variable in deployed.serving.weights]
    signatures = {
        "encoded": tf.function(encoded, input_signature=[tf.TensorSpec((None,), tf.string, name="encoded")]),
        "images": tf.function(pixels, input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")]),
        "classes": tf.function(classes, input_signature=[]),
        "files": tf.function(files, input_signature=[]),
    }
    # TensorFlow Serving answers with this one if none is named.
    signatures["serving_default"] = signatures["encoded"]
    with records.room_said(folder):
        tf.saved_model.save(exported, folder, signatures)
    _name_by_content(folder / "fingerprint.pb")
    records.write_json(folder / EXTRA / paths.LABELS, deployed.about_file("saved_model"))


def _name_by_content(path: Path) -> None:
    """Exchange the random identity of a SavedModel for one that follows from what is in it."""
    # Not above: TensorFlow is quiet only where thaw.runtime.framework is the first to import it.
    from tensorflow.core.protobuf import fingerprint_pb2  # noqa: PLC0415

    fingerprint = fingerprint_pb2.FingerprintDef.FromString(path.read_bytes())
    fingerprint.uuid = ""
    digest = hashlib.sha256(fingerprint.SerializeToString(deterministic=True)).digest()
    fingerprint.uuid = str(int.from_bytes(digest[:16]))
    path.write_bytes(fingerprint.SerializeToString(deterministic=True))


def is_one(path: Path) -> bool:
    """Return whether a path of any name is such a folder."""
    return path.is_dir() and (path.name == paths.SAVED_MODEL or (path / "saved_model.pb").is_file())


def load(path: Path) -> Exported:
    """Load a folder that ``write`` wrote."""
    from thaw.runtime.framework import tf  # noqa: PLC0415 -- seconds, which `thaw predict --help` need not wait

    loaded = tf.saved_model.load(str(path))
    names = loaded.signatures["classes"]()["classes"].numpy()

    def say(files: Sequence[bytes]) -> list[Answer]:
        return _answers(loaded.signatures["encoded"](encoded=tf.constant(list(files))))

    reading = UNSAID
    if "files" in loaded.signatures:
        said = loaded.signatures["files"]()
        reading = decoding.Reading(int(said["max_pixels"]), bool(said["stretch"]))
    scores = UNFAMILIARITY in loaded.signatures["encoded"].structured_outputs
    described = path / EXTRA / paths.LABELS  # which versions before had not
    about = records.read_json(described) if described.is_file() else {}
    return Exported([name.decode() for name in names], say, reading, about, scores=scores)


def _answers(said: Mapping[str, Any]) -> list[Answer]:
    """Return an answer an image, of the outputs of a signature."""
    labels, score = [name.decode() for name in said["label"].numpy()], said.get(UNFAMILIARITY)
    return answered(said["probabilities"].numpy(), labels, None if score is None else score.numpy())


def ask_pixels(path: Path, files: Sequence[str]) -> list[Answer]:
    """Return what it says of pixels, which its signature ``images`` takes."""
    from thaw.runtime.framework import tf  # noqa: PLC0415 -- seconds

    run = tf.saved_model.load(str(path)).signatures["images"]
    about = records.read_json(path.parent / paths.LABELS)
    image, reading = schema.Image(**about["image"]), decoding.Reading(**about["files"])

    def asked(batch: np.ndarray) -> list[Answer]:
        return _answers(run(images=tf.constant(batch)))

    def read(file: str) -> np.ndarray:
        return decoding.pixels(content.read(Path(file)), reading, image)

    found: list[Answer] = []
    with ThreadPoolExecutor(threads.used(), "thaw") as pool:
        for start in range(0, len(files), BATCH):
            found += pixels.by_shape(list(pool.map(read, files[start : start + BATCH])), asked)
    return found
