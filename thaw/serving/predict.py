"""``thaw predict``: predict files and folders with an exported model. Only the exported model is read."""

import argparse
import json
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from thaw import paths, pipes
from thaw.data import folders
from thaw.images import content, decoding
from thaw.images.integrity import Unusable

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")
BATCH = 32  # files read and answered at once
UNSAID = decoding.Reading(stretch=False)  # how files are read for a model of an earlier version, which does not say it


class ForeignError(ValueError):
    """A model that may be whole, but was not exported by thaw."""


@dataclass
class Exported:
    """An exported model, ready to predict."""

    classes: list[str]
    answer: Callable[[Sequence[bytes]], np.ndarray]  # n encoded images → (n, classes) float32 probabilities
    # The same with the label that the model itself gives each image; None where it gives none.
    labelled: Callable[[Sequence[bytes]], tuple[np.ndarray, list[str]]] | None = None
    reading: decoding.Reading = UNSAID  # as training read files


def load(path: Path) -> Exported:
    """Load what the stage `export` wrote.

    Args:
        path: the folder that it wrote, or the ``.keras`` file or the SavedModel in it.

    Raises:
        ValueError: there is no exported model, or it is damaged.
    """
    if (path / paths.SAVED_MODEL).is_dir():
        return _whole(_saved_model, path / paths.SAVED_MODEL)
    if (path.name == paths.SAVED_MODEL and path.is_dir()) or (path / "saved_model.pb").is_file():
        return _whole(_saved_model, path)
    for each in (path / paths.KERAS_FILE, path):
        if each.is_file() and (each.suffix == Path(paths.KERAS_FILE).suffix or zipfile.is_zipfile(each)):
            return _whole(_keras, each)
    raise ValueError(
        f"{path}: expected an exported model ({paths.SAVED_MODEL}/ or {paths.KERAS_FILE}), found none; "
        "run `dvc repro`, or give its folder with --model"
    )


def _whole(read: Callable[[Path], Exported], path: Path) -> Exported:
    """Load a model that is there: where a part is missing or cut off, errors of many classes are raised."""
    try:
        return read(path)
    except (ForeignError, ImportError, MemoryError, PermissionError):
        raise
    except Exception as error:
        if "deserialize" in str(error):  # Keras's word, of a class that it does not know or can't build as told
            raise ValueError(
                f"{path}: expected a model of Keras's own layers, received one that can't be built from the file "
                f"({' '.join(str(error).split()):.200}); set export.formats=[saved_model], which needs no layer's "
                "code, and run `dvc repro export`"
            ) from error
        raise ValueError(
            f"{path}: expected a whole exported model, received a damaged one, which does not load; run "
            "`dvc repro export`, or copy it again if it is a copy"
        ) from error


def _saved_model(path: Path) -> Exported:
    from thaw.runtime.framework import tf  # noqa: PLC0415 -- seconds, which `thaw predict --help` need not wait

    loaded = tf.saved_model.load(str(path))
    names = loaded.signatures["classes"]()["classes"].numpy()

    def labelled(files: Sequence[bytes]) -> tuple[np.ndarray, list[str]]:
        said = loaded.signatures["encoded"](encoded=tf.constant(list(files)))
        return said["probabilities"].numpy(), [name.decode() for name in said["label"].numpy()]

    reading = UNSAID
    if "files" in loaded.signatures:
        said = loaded.signatures["files"]()
        reading = decoding.Reading(int(said["max_pixels"]), bool(said["stretch"]))
    return Exported([name.decode() for name in names], lambda files: labelled(files)[0], labelled, reading)


def _keras(path: Path) -> Exported:
    from thaw.config import schema  # noqa: PLC0415 -- seconds, which `thaw predict --help` need not wait
    from thaw.images import preprocessing  # noqa: PLC0415
    from thaw.runtime.framework import keras, tf  # noqa: PLC0415

    with zipfile.ZipFile(path) as archive:
        if paths.LABELS not in archive.namelist():
            raise ForeignError(f"{path}: expected {paths.LABELS} in the file, found none; was it exported by thaw?")
        about = json.loads(archive.read(paths.LABELS))
    image = schema.Image(**about["image"])
    deployed = tf.function(keras.saving.load_model(path, compile=False), reduce_retracing=True)

    def answer(files: Sequence[bytes]) -> np.ndarray:
        decoded = (preprocessing.decode(tf.constant(file), image)[None] for file in files)
        return np.concatenate([deployed(pixels).numpy() for pixels in decoded])

    return Exported(
        about["classes"], answer, reading=decoding.Reading(**about["files"]) if "files" in about else UNSAID
    )


@dataclass
class Meant:
    """The files that the arguments of a command name."""

    files: list[Path] = field(default_factory=list)  # in order; among them what is in ``wrong``
    wrong: dict[Path, str] = field(default_factory=dict)  # what cannot be read, a folder without an image, and why
    skipped: dict[Path, str] = field(default_factory=dict)  # what lies in a folder and is passed over, and why


def find(paths: Sequence[str]) -> Meant:
    """Find the files that are meant: each file named, and in each folder named what `prepare` would find there.

    What neither its name nor its bytes call an image is passed over in a folder, and so are links that lead nowhere.
    """
    meant = Meant()
    for path in map(Path, paths):
        if path.is_dir():
            _in_folder(path, meant)
        else:
            meant.files.append(path)
            if not path.is_file():
                meant.wrong[path] = "expected an image or a folder of images, found nothing there"
    return meant


def _in_folder(folder: Path, meant: Meant) -> None:
    files, findings = folders.below(folder)
    for finding in findings:
        path = folder / finding.path
        if finding.kind == "link":
            meant.skipped[path] = finding.reason
        else:
            meant.files.append(path)
            meant.wrong[path] = f"can't be used: {finding.kind}, {finding.reason}"
    found = len(meant.files)
    for path in files:
        if reason := _no_image(path):
            meant.skipped[path] = reason
        else:
            meant.files.append(path)
    if len(meant.files) == found and folder not in meant.wrong:
        meant.files.append(folder)
        meant.wrong[folder] = f"expected images ({', '.join(SUFFIXES)}) in the folder, found none"


def _no_image(path: Path) -> str:
    """Return why a file in a folder is passed over; empty if it is not."""
    if not path.is_file():
        return "not a file"
    if path.suffix.lower() in SUFFIXES:
        return ""
    try:
        with path.open("rb") as file:
            return "" if decoding.may_be_image(file.read(16)) else "no image by its name and its bytes"
    except OSError:  # which is said when it is read
        return ""


def answers(exported: Exported, files: Sequence[Path]) -> Iterator[tuple[Path, np.ndarray | str]]:
    """Return the class probabilities of each file, (classes,) float32, or what is wrong with it."""
    waiting = iter(files)
    while batch := list(islice(waiting, BATCH)):
        contents = [_read(path, exported.reading) for path in batch]
        try:
            rows: list[Any] = list(exported.answer([data for data in contents if isinstance(data, bytes)]))
        except Exception:  # one of them is no image; TensorFlow says so with several classes of errors
            rows = [_alone(exported, data) for data in contents if isinstance(data, bytes)]
        good = iter(rows)
        for path, data in zip(batch, contents, strict=True):
            yield path, next(good) if isinstance(data, bytes) else data


def _read(path: Path, reading: decoding.Reading) -> bytes | str:
    """Return what the model is given for a file, which is what training was given; or what is wrong with the file."""
    try:
        return decoding.servable(content.read(path), reading.max_pixels, stretch=reading.stretch)
    except Unusable as refused:
        return f"can't be used: {refused.kind.replace('_', ' ')}, {refused.reason}"


def _alone(exported: Exported, data: bytes) -> np.ndarray | str:
    try:
        row: np.ndarray = exported.answer([data])[0]
        return row
    except Exception:  # see above
        return "expected an image that can be decoded, received a damaged one"


def add(commands: Any) -> None:
    """Add ``predict`` to the command ``thaw``."""
    command = commands.add_parser("predict", help="label and probability for images, from the exported model")
    command.add_argument("images", nargs="+", metavar="IMAGE", help="a file, or a folder of images")
    command.add_argument("--model", type=Path, default=paths.EXPORTED, help="exported model (default: %(default)s)")
    command.add_argument("--json", action="store_true", help="JSON with the probability of every class")
    command.set_defaults(run=_predict)


def _predict(options: argparse.Namespace) -> None:
    warnings.simplefilter("ignore")  # what Pillow warns of is either refused here or harmless
    meant = find(options.images)
    for file, reason in meant.skipped.items():
        print(f"{pipes.on_one_line(_printable(file))}: passed over: {reason}", file=sys.stderr)
    results: list[dict[str, Any]] = []
    failed = 0
    for file, answer in _all(options.model, meant.files, meant.wrong):
        path = _printable(file)
        if isinstance(answer, str):
            failed += 1
            print(f"{pipes.on_one_line(path)}: {answer}", file=sys.stderr)
            results.append({"path": path, "error": answer})
            continue
        label, probability = max(answer.items(), key=lambda item: item[1])
        results.append({"path": path, "label": label, "probability": probability, "probabilities": answer})
        if not options.json:
            print(f"{pipes.on_one_line(path)}\t{pipes.on_one_line(label)}\t{probability:.1%}")
    if options.json:
        print(json.dumps(results, indent=2, ensure_ascii=not pipes.takes_unicode()))
    if failed:
        raise ValueError(f"{failed} of {len(meant.files)} files could not be used")


def _all(
    model: Path, files: Sequence[Path], wrong: Mapping[Path, str]
) -> Iterator[tuple[Path, dict[str, float] | str]]:
    """Return the class probabilities of each file, or what is wrong with it; no model is loaded for none."""
    usable = [file for file in files if file not in wrong]
    exported = load(model) if usable else Exported([], np.asarray)
    good = answers(exported, usable)
    for file in files:
        answer = wrong[file] if file in wrong else next(good)[1]
        if isinstance(answer, str):
            yield file, answer
        else:
            yield file, {name: float(value) for name, value in zip(exported.classes, answer, strict=True)}


def _printable(path: Path) -> str:
    """Return a name as text: it need not be Unicode, what is printed must."""
    return str(path).encode("utf-8", "replace").decode()
