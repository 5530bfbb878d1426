"""Export the classifier for deployment: raw images in, probabilities and labels out, preprocessing inside.

``keras``: one file, batches of pixels of any size, only layers that Keras itself has. ``saved_model``: a folder for
TensorFlow Serving and all that reads SavedModel, for pixels and for encoded files. Both name their classes themselves.
"""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from thaw import paths, records
from thaw.classifier import model
from thaw.images import decoding, preprocessing
from thaw.runtime.framework import keras, tf

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold


def serving(classifier: model.Classifier) -> keras.Model:
    """Return the deployed model: (batch, height, width, 3) uint8 RGB of any size → (batch, classes) float32
    probabilities.
    """
    pixels = keras.Input((None, None, 3), dtype="uint8", name="images")
    fitted = preprocessing.resizer(classifier.card.image)(pixels)
    features = classifier.pool(classifier.backbone(fitted, training=False))
    logits = classifier.head(features)
    probabilities = keras.layers.Softmax(dtype="float32", name="probabilities")(logits)
    return keras.Model(pixels, probabilities, name="thaw")


def write(
    folder: Path, classifier: model.Classifier, formats: list[str], reading: decoding.Reading = decoding.USUAL
) -> None:
    """Write the formats asked for, and the labels beside them.

    Args:
        formats: of ``thaw.config.schema.FORMATS``.
        reading: how training read files; both formats carry it for ``thaw predict``.
    """
    records.make_new(folder)
    deployed = serving(classifier)
    about = {"classes": classifier.card.classes, "image": asdict(classifier.card.image), "files": asdict(reading)}
    records.write_json(folder / paths.LABELS, about)
    if "keras" in formats:
        _write_keras(folder / paths.KERAS_FILE, deployed, about)
    if "saved_model" in formats:
        _write_saved_model(folder / paths.SAVED_MODEL, deployed, classifier, reading)


def _write_keras(path: Path, deployed: keras.Model, about: Mapping[str, Any]) -> None:
    """Save, then write the zip again: without dates, so that equal models are equal files, and with the labels."""
    with _unless_refused("a .keras file", "saved_model"), records.replaced(path) as part:
        deployed.save(part)
    with zipfile.ZipFile(path) as saved:
        parts = {name: saved.read(name) for name in saved.namelist()}
    metadata = json.loads(parts["metadata.json"])
    metadata.pop("date_saved", None)
    parts["metadata.json"] = json.dumps(metadata, sort_keys=True).encode()
    parts["config.json"] = _renumbered(parts["config.json"])
    parts[paths.LABELS] = json.dumps(about, sort_keys=True, ensure_ascii=False).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in sorted(parts):
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), parts[name])
    records.write_bytes(path, packed.getvalue())


@contextmanager
def _unless_refused(kind: str, instead: str) -> Iterator[None]:
    """Say in one line what a layer raises that can't describe itself, or has a state that can't be written."""
    try:
        yield
    except OSError:  # of the disk, not of the network
        raise
    except Exception as error:  # of many classes, AssertionError among them
        raise ValueError(
            f"export.formats: expected a network that {kind} can hold, received one that it can't hold "
            f"({type(error).__name__}: {' '.join(str(error).split()):.200}); set export.formats=[{instead}]"
        ) from error


def _renumbered(graph: bytes) -> bytes:
    """Renumber shared objects by their order: Keras tells them by their addresses, which differ in each process."""
    numbers: dict[bytes, int] = {}

    def number(found: re.Match[bytes]) -> bytes:
        return b"%s%d" % (found[1], numbers.setdefault(found[2], len(numbers)))

    return re.sub(rb'("shared_object_id": )(\d+)', number, graph)


def _write_saved_model(
    folder: Path, deployed: keras.Model, classifier: model.Classifier, reading: decoding.Reading
) -> None:
    labels = tf.constant(classifier.card.classes)
    load = preprocessing.load(classifier.card.image)
    size = classifier.card.image.size
    whole = model.whole(classifier)

    def answer(probabilities: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": probabilities, "label": tf.gather(labels, tf.argmax(probabilities, axis=1))}

    def encoded(files: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = tf.TensorSpec((size, size, 3), tf.float32)
        return answer(tf.nn.softmax(whole(tf.map_fn(load, files, fn_output_signature=spec), training=False)))

    def pixels(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(deployed(images, training=False))

    def classes() -> dict[str, tf.Tensor]:
        return {"classes": labels}

    def files() -> dict[str, tf.Tensor]:
        return {"max_pixels": tf.constant(reading.max_pixels, tf.int64), "stretch": tf.constant(reading.stretch)}

    # Keras's own ExportArchive keeps the variables in a set, whose order differs in each process.
    exported = tf.Module()
    # Weights, not all variables: the states of Dropout are drawn anew in each process, and nothing here uses them.
    exported.model_variables = [variable.value for variable in deployed.weights]
    signatures = {
        "encoded": tf.function(encoded, input_signature=[tf.TensorSpec((None,), tf.string, name="encoded")]),
        "images": tf.function(pixels, input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")]),
        "classes": tf.function(classes, input_signature=[]),
        "files": tf.function(files, input_signature=[]),
    }
    # TensorFlow Serving answers with this one if none is named.
    signatures["serving_default"] = signatures["encoded"]
    with _unless_refused("a SavedModel", "keras"), records.room_said(folder):
        tf.saved_model.save(exported, folder, signatures)
    _name_by_content(folder / "fingerprint.pb")


def _name_by_content(path: Path) -> None:
    """Replace the random identity of a SavedModel by one that follows from its content."""
    # Not above: TensorFlow is quiet only where thaw.runtime.framework is the first to import it.
    from tensorflow.core.protobuf import fingerprint_pb2  # noqa: PLC0415

    fingerprint = fingerprint_pb2.FingerprintDef.FromString(path.read_bytes())
    fingerprint.uuid = ""
    digest = hashlib.sha256(fingerprint.SerializeToString(deterministic=True)).digest()
    fingerprint.uuid = str(int.from_bytes(digest[:16]))
    path.write_bytes(fingerprint.SerializeToString(deterministic=True))
