"""``thaw predict``: an exported model's answers for files and folders. Only the exported model is read."""

import argparse
import json
import re
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from thaw import formats, layout
from thaw.findings import Unusable

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")
BATCH = 32  # files read and answered at once
CONTROL = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029]")  # what a line of the output cannot hold as it is


class ForeignError(ValueError):
    """A model that may be whole, but was not exported by thaw."""


@dataclass
class Exported:
    """A model as it is deployed."""

    classes: list[str]
    answer: Callable[[Sequence[bytes]], np.ndarray]  # n encoded images → (n, classes) float32 probabilities
    # The same with the label that the model itself gives each image; None where it gives none.
    labelled: Callable[[Sequence[bytes]], tuple[np.ndarray, list[str]]] | None = None


def load(path: Path) -> Exported:
    """Load what the stage `export` wrote.

    Args:
        path: the folder that it wrote, or the ``.keras`` file or the SavedModel in it.

    Raises:
        ValueError: there is no exported model, or it is damaged.
    """
    if (path / layout.SAVED_MODEL).is_dir():
        return _whole(_saved_model, path / layout.SAVED_MODEL)
    if (path.name == layout.SAVED_MODEL and path.is_dir()) or (path / "saved_model.pb").is_file():
        return _whole(_saved_model, path)
    for each in (path / layout.KERAS_FILE, path):
        if each.is_file() and (each.suffix == Path(layout.KERAS_FILE).suffix or zipfile.is_zipfile(each)):
            return _whole(_keras, each)
    raise ValueError(
        f"{path}: expected an exported model ({layout.SAVED_MODEL}/ or {layout.KERAS_FILE}), found none; "
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
    from thaw.framework import tf  # noqa: PLC0415 -- seconds, which `thaw predict --help` need not wait

    loaded = tf.saved_model.load(str(path))
    names = loaded.signatures["classes"]()["classes"].numpy()

    def labelled(files: Sequence[bytes]) -> tuple[np.ndarray, list[str]]:
        said = loaded.signatures["encoded"](encoded=tf.constant(list(files)))
        return said["probabilities"].numpy(), [name.decode() for name in said["label"].numpy()]

    return Exported([name.decode() for name in names], lambda files: labelled(files)[0], labelled)


def _keras(path: Path) -> Exported:
    from thaw import preprocessing, schema  # noqa: PLC0415 -- seconds, which `thaw predict --help` need not wait
    from thaw.framework import keras, tf  # noqa: PLC0415

    with zipfile.ZipFile(path) as archive:
        if layout.LABELS not in archive.namelist():
            raise ForeignError(f"{path}: expected {layout.LABELS} in the file, found none; was it exported by thaw?")
        about = json.loads(archive.read(layout.LABELS))
    image = schema.Image(**about["image"])
    deployed = tf.function(keras.saving.load_model(path, compile=False), reduce_retracing=True)

    def answer(files: Sequence[bytes]) -> np.ndarray:
        decoded = (preprocessing.decode(tf.constant(file), image)[None] for file in files)
        return np.concatenate([deployed(pixels).numpy() for pixels in decoded])

    return Exported(about["classes"], answer)


def find(paths: Sequence[str]) -> tuple[list[Path], dict[Path, str]]:
    """The files that are meant: each file named, and the images below each folder named.

    Returns:
        These files; among them each path that is neither, or a folder without an image. And what is wrong with those.
    """
    found: list[Path] = []
    wrong: dict[Path, str] = {}
    for path in map(Path, paths):
        if path.is_dir():
            below = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            found += below
            if not below:
                wrong[path] = f"expected images ({', '.join(SUFFIXES)}) in the folder, found none"
        elif not path.is_file():
            wrong[path] = "expected an image or a folder of images, found nothing there"
        if path.is_file() or path in wrong:
            found.append(path)
    return found, wrong


def answers(exported: Exported, files: Sequence[Path]) -> Iterator[tuple[Path, np.ndarray | str]]:
    """The probabilities for each file, (classes,) float32, or what is wrong with it."""
    waiting = iter(files)
    while batch := list(islice(waiting, BATCH)):
        contents = [_read(path) for path in batch]
        try:
            rows: list[Any] = list(exported.answer([data for data in contents if isinstance(data, bytes)]))
        except Exception:  # one of them is no image; TensorFlow says so with several classes of errors
            rows = [_alone(exported, data) for data in contents if isinstance(data, bytes)]
        good = iter(rows)
        for path, data in zip(batch, contents, strict=True):
            yield path, next(good) if isinstance(data, bytes) else data


def _read(path: Path) -> bytes | str:
    """What the model is given for a file, which is what training was given; or what is wrong with the file."""
    try:
        data = path.read_bytes()
        return formats.servable(data) if data else "can't be used: empty, a file of no bytes"
    except OSError as error:
        return f"can't be read: {error.strerror}"
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
    command.add_argument("--model", type=Path, default=layout.EXPORTED, help="exported model (default: %(default)s)")
    command.add_argument("--json", action="store_true", help="JSON with the probability of every class")
    command.set_defaults(run=_predict)


def _predict(options: argparse.Namespace) -> None:
    files, wrong = find(options.images)
    results: list[dict[str, Any]] = []
    failed = 0
    for file, answer in _all(options.model, files, wrong):
        path = str(file).encode("utf-8", "replace").decode()  # a name need not be Unicode, what is printed must
        if isinstance(answer, str):
            failed += 1
            print(f"{_on_one_line(path)}: {answer}", file=sys.stderr)
            results.append({"path": path, "error": answer})
            continue
        label, probability = max(answer.items(), key=lambda item: item[1])
        results.append({"path": path, "label": label, "probability": probability, "probabilities": answer})
        if not options.json:
            print(f"{_on_one_line(path)}\t{_on_one_line(label)}\t{probability:.1%}")
    if options.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    if failed:
        raise ValueError(f"{failed} of {len(files)} files could not be used")


def _all(
    model: Path, files: Sequence[Path], wrong: Mapping[Path, str]
) -> Iterator[tuple[Path, dict[str, float] | str]]:
    """The probability of each class for each file, or what is wrong with it; no model is loaded for none."""
    usable = [file for file in files if file not in wrong]
    exported = load(model) if usable else Exported([], np.asarray)
    good = answers(exported, usable)
    for file in files:
        answer = wrong[file] if file in wrong else next(good)[1]
        if isinstance(answer, str):
            yield file, answer
        else:
            yield file, {name: float(value) for name, value in zip(exported.classes, answer, strict=True)}


def _on_one_line(text: str) -> str:
    """Tabs, ends of lines, other signs of control and backslashes as Python writes them: \\t, \\n, \\x1b, \\\\."""
    return CONTROL.sub(lambda sign: sign[0].encode("unicode_escape").decode("ascii"), text)
