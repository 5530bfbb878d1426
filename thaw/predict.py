"""``thaw predict``: an exported model's answers for files and folders. Only the exported model is read."""

import argparse
import json
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from thaw import formats, layout
from thaw.findings import Unusable

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")
BATCH = 32  # files read and answered at once


@dataclass
class Exported:
    """A model as it is deployed."""

    classes: list[str]
    answer: Callable[[Sequence[bytes]], np.ndarray]  # n encoded images → (n, classes) float32 probabilities


def load(path: Path) -> Exported:
    """Load what the stage `export` wrote.

    Args:
        path: the folder that it wrote, or the ``.keras`` file or the SavedModel in it.

    Raises:
        ValueError: there is no exported model.
    """
    for each in (path / layout.SAVED_MODEL, path):
        if (each / "saved_model.pb").is_file():
            return _saved_model(each)
    for each in (path / layout.KERAS_FILE, path):
        if each.is_file() and zipfile.is_zipfile(each):
            return _keras(each)
    raise ValueError(
        f"{path}: expected an exported model ({layout.SAVED_MODEL}/ or {layout.KERAS_FILE}), found none; "
        "run `dvc repro`, or give its folder with --model"
    )


def _saved_model(path: Path) -> Exported:
    from thaw.framework import tf  # noqa: PLC0415 -- seconds, which `thaw predict --help` need not wait

    loaded = tf.saved_model.load(str(path))
    names = loaded.signatures["classes"]()["classes"].numpy()

    def answer(files: Sequence[bytes]) -> np.ndarray:
        result: np.ndarray = loaded.signatures["encoded"](encoded=tf.constant(list(files)))["probabilities"].numpy()
        return result

    return Exported([name.decode() for name in names], answer)


def _keras(path: Path) -> Exported:
    from thaw import preprocessing, schema  # noqa: PLC0415 -- seconds, which `thaw predict --help` need not wait
    from thaw.framework import keras, tf  # noqa: PLC0415

    with zipfile.ZipFile(path) as archive:
        if layout.LABELS not in archive.namelist():
            raise ValueError(f"{path}: expected {layout.LABELS} in the file, found none; was it exported by thaw?")
        about = json.loads(archive.read(layout.LABELS))
    image = schema.Image(**about["image"])
    deployed = tf.function(keras.saving.load_model(path, compile=False), reduce_retracing=True)

    def answer(files: Sequence[bytes]) -> np.ndarray:
        decoded = (preprocessing.decode(tf.constant(file), image)[None] for file in files)
        return np.concatenate([deployed(pixels).numpy() for pixels in decoded])

    return Exported(about["classes"], answer)


def find(paths: Sequence[str]) -> list[Path]:
    """The files that are meant: each file named, and the images below each folder named.

    Raises:
        ValueError: a path is neither, or a folder has no image.
    """
    found: list[Path] = []
    for name in paths:
        path = Path(name)
        if path.is_dir():
            below = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            if not below:
                raise ValueError(f"{name}: expected images ({', '.join(SUFFIXES)}) in the folder, found none")
            found += below
        elif path.is_file():
            found.append(path)
        else:
            raise ValueError(f"{name}: expected an image or a folder of images, found nothing there")
    return found


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
        return formats.servable(path.read_bytes())
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
    files = find(options.images)
    exported = load(options.model)
    results: list[dict[str, Any]] = []
    failed = 0
    for file, answer in answers(exported, files):
        path = str(file).encode("utf-8", "replace").decode()  # a name need not be Unicode, what is printed must
        if isinstance(answer, str):
            failed += 1
            print(f"{path}: {answer}", file=sys.stderr)
            results.append({"path": path, "error": answer})
            continue
        best = int(answer.argmax())
        label, probability = exported.classes[best], float(answer[best])
        every = {name: float(value) for name, value in zip(exported.classes, answer, strict=True)}
        results.append({"path": path, "label": label, "probability": probability, "probabilities": every})
        if not options.json:
            print(f"{path}\t{label}\t{probability:.1%}")
    if options.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    if failed:
        raise ValueError(f"{failed} of {len(files)} files could not be used")
