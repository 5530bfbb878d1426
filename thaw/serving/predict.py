"""``thaw predict``: predict files and folders with an exported model. Only the exported model is read."""

import argparse
import json
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thaw import paths, pipes
from thaw.data import folders
from thaw.exports import exported, formats
from thaw.images import decoding

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")


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
    loaded = formats.load(model) if usable else None
    classes = loaded.classes if loaded else []
    good = exported.answers(loaded, usable) if loaded else iter(())
    for file in files:
        answer = wrong[file] if file in wrong else next(good)[1]
        if isinstance(answer, str):
            yield file, answer
        else:
            yield file, {name: float(value) for name, value in zip(classes, answer, strict=True)}


def _printable(path: Path) -> str:
    """Return a name as text: it need not be Unicode, what is printed must."""
    return str(path).encode("utf-8", "replace").decode()
