"""The files that the words of a command name: files, folders, patterns, and what comes on standard input."""

import glob
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from thaw.data import folders
from thaw.images import header

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")
STANDARD_INPUT = "-"
NOTHING = "expected an image or a folder of images, found nothing there"


@dataclass
class Meant:
    """The files that the arguments of a command name."""

    files: list[Path] = field(default_factory=list)  # in order; among them what is in ``wrong``
    wrong: dict[Path, str] = field(default_factory=dict)  # what cannot be read, a folder without an image, and why
    skipped: dict[Path, str] = field(default_factory=dict)  # what lies in a folder and is passed over, and why
    given: dict[Path, bytes] = field(default_factory=dict)  # the bytes of those that are no files


def find(words: Sequence[str]) -> Meant:
    """Find the files that are meant: each file named, and in each folder named what `prepare` would find there.

    What neither its name nor its bytes call an image is passed over in a folder, and so are links that lead nowhere.
    A word that is no path but a pattern (``*``, ``?``, ``[…]``, ``**`` for folders at any depth) means what it fits,
    in the order of the names. ``-`` means what comes on standard input: an image, or paths, one a line.
    """
    meant = Meant()
    for word in words:
        if word == STANDARD_INPUT:
            _on_standard_input(sys.stdin.buffer, meant)
        elif glob.has_magic(word) and not os.path.lexists(word):
            _matching(word, meant)
        else:
            _named(Path(word), meant)
    return meant


def _on_standard_input(stream: BinaryIO, meant: Meant) -> None:
    data = stream.read()
    if header.may_be_image(data[:16]):
        meant.files.append(Path(STANDARD_INPUT))
        meant.given[Path(STANDARD_INPUT)] = data
        return
    lines = [line.removesuffix(b"\r") for line in data.split(b"\n")]
    named = [Path(os.fsdecode(line)) for line in lines if line.strip() and b"\0" not in line]
    if len(named) < sum(1 for line in lines if line.strip()) or not named:
        meant.files.append(Path(STANDARD_INPUT))
        received = "other bytes" if data.strip() else "nothing"
        meant.wrong[Path(STANDARD_INPUT)] = (
            f"expected an image or paths, one a line, on standard input, received {received}"
        )
        return
    for path in named:
        _named(path, meant)


def _matching(pattern: str, meant: Meant) -> None:
    found = sorted(map(Path, glob.iglob(pattern, recursive=True)))  # noqa: PTH207 -- Path's takes no absolute pattern
    if not found:
        meant.files.append(Path(pattern))
        meant.wrong[Path(pattern)] = NOTHING
    folders_too = {path for path in found if path.is_dir()}
    for path in found:
        if not folders_too.isdisjoint(path.parents):
            continue  # what is below a folder that fits as well is found there
        _named(path, meant)


def _named(path: Path, meant: Meant) -> None:
    if path.is_dir():
        _in_folder(path, meant)
        return
    meant.files.append(path)
    if not path.is_file():
        meant.wrong[path] = NOTHING


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
            return "" if header.may_be_image(file.read(16)) else "no image by its name and its bytes"
    except OSError:  # which is said when it is read
        return ""
