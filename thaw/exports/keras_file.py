"""The format ``keras``: one file that takes batches of pixels of any size, of layers that Keras itself has.

The labels are in it. No TensorFlow before a file is loaded.
"""

import io
import json
import re
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from thaw import paths, records
from thaw.config import schema
from thaw.exports import pixels
from thaw.exports.exported import UNSAID, Answer, Deployed, Exported, ForeignError, answered
from thaw.images import decoding
from thaw.runtime import threads

CLASSES = f"{paths.LABELS} in {paths.KERAS_FILE}"  # the place where it names them
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold


def write(path: Path, deployed: Deployed) -> None:
    """Save, then write the zip again: without dates, so that equal models are equal files, and with the labels."""
    with records.replaced(path) as part:
        deployed.serving.save(part)
    with zipfile.ZipFile(path) as saved:
        parts = {name: saved.read(name) for name in saved.namelist()}
    metadata = json.loads(parts["metadata.json"])
    metadata.pop("date_saved", None)
    parts["metadata.json"] = json.dumps(metadata, sort_keys=True).encode()
    parts["config.json"] = _renumbered(parts["config.json"])
    parts[paths.LABELS] = json.dumps(deployed.about, sort_keys=True, ensure_ascii=False).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in sorted(parts):
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), parts[name])
    records.write_bytes(path, packed.getvalue())


def _renumbered(graph: bytes) -> bytes:
    """Keras tells shared objects by their addresses, which differ in each process; their order tells them as well."""
    numbers: dict[bytes, int] = {}

    def number(found: re.Match[bytes]) -> bytes:
        return b"%s%d" % (found[1], numbers.setdefault(found[2], len(numbers)))

    return re.sub(rb'("shared_object_id": )(\d+)', number, graph)


def is_one(path: Path) -> bool:
    """Return whether a path of any name is such a file."""
    return path.is_file() and (path.suffix == Path(paths.KERAS_FILE).suffix or zipfile.is_zipfile(path))


def load(path: Path) -> Exported:
    """Load a file that ``write`` wrote."""
    from thaw.runtime.framework import keras, tf  # noqa: PLC0415 -- seconds, which `thaw predict --help` need not wait

    with zipfile.ZipFile(path) as archive:
        if paths.LABELS not in archive.namelist():
            raise ForeignError(f"{path}: expected {paths.LABELS} in the file, found none; was it exported by thaw?")
        about = json.loads(archive.read(paths.LABELS))
    image = schema.Image(**about["image"])
    reading = decoding.Reading(**about["files"]) if "files" in about else UNSAID
    deployed = tf.function(keras.saving.load_model(path, compile=False, safe_mode=True), reduce_retracing=True)
    pool = ThreadPoolExecutor(threads.used(), "thaw")

    def say(files: Sequence[bytes]) -> list[Answer]:
        pictures = list(pool.map(lambda data: decoding.pixels(data, reading, image), files))
        return pixels.by_shape(pictures, lambda batch: answered(deployed(tf.constant(batch)).numpy()))

    return Exported(about["classes"], say, reading, about)
