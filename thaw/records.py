"""Read and write JSON and CSV in deterministic bytes: sorted keys, fixed number format, LF at line ends.

A file is there as a whole or not at all, also if the process is killed or the disk is full while it is written. It is
never written over: it may be a hard link, one file with an entry of DVC's cache, which must keep its bytes.

People open the CSV files in spreadsheets, which run a cell that begins like a formula, and names of files and classes
are anybody's. So text that begins like one is written with an apostrophe in front, which spreadsheets take for "this
is text"; ``read_csv`` takes it off again.
"""

import csv
import errno
import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO
from uuid import uuid4

import numpy as np

# A disk, a quota or a file takes no more; and what HDF5, TensorFlow and NumPy say of it, whose errors have no number.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_WORDS = (*map(os.strerror, FULL), *(f"errno = {number}," for number in FULL), " requested and ")
# Text that a spreadsheet would run, and text that reading would take for such text with its apostrophe.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write ``record`` with sorted keys; the folder is made if missing."""
    text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with _whole(path) as file:
        file.write(text + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return the record that ``write_json`` has written.

    Raises:
        ValueError: the file is none that it has.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # also of bytes that are no UTF-8
        cut = f"{path}: expected JSON, received what cannot be read ({error})"
        raise ValueError(f"{cut}; delete the file and give the command again") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path}: expected a JSON object, received {type(record).__name__}")
    return record


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, guarded: bool = True) -> None:
    """Write ``rows`` under ``columns``; floats in their shortest exact form, so that reading gives the same bits.

    Args:
        path, columns, rows: what is written where.
        guarded: with an apostrophe before what a spreadsheet would run, which ``read_csv`` takes off. A table of
            images is read as the user's own is, so it has none.
    """
    with _whole(path) as file:
        write_rows(file, columns, rows, guarded=guarded)


def write_rows(
    file: TextIO, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, guarded: bool = True
) -> None:
    """Write ``rows`` as ``write_csv`` does, to a file that is open, each as soon as it is there."""
    # It quotes only those ends of lines that are its own, and a reader takes either for one.
    writer = csv.DictWriter(_LineFeeds(file), columns, lineterminator="\r\n", extrasaction="raise")
    writer.writeheader()
    shown = _guarded if guarded else (lambda value: value)
    writer.writerows({name: shown(value) for name, value in row.items()} for row in rows)


class _LineFeeds:
    """Ends with LF each row that a csv writer ends with CRLF."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, row: str) -> int:
        return self.file.write(row.removesuffix("\r\n") + "\n")


def _guarded(value: Any) -> Any:
    is_formula = isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value)
    return f"'{value}" if is_formula else value


def write_text(path: Path, text: str) -> None:
    with _whole(path) as file:
        file.write(text)


def write_bytes(path: Path, content: bytes) -> None:
    with replaced(path) as part:
        part.write_bytes(content)


def write_array(path: Path, rows: np.ndarray) -> None:
    """Write an array as .npy."""
    with replaced(path) as part:
        np.save(part, rows, allow_pickle=False)


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays under their names as .npz, without compression.

    ``np.savez`` has the sizes of every array in 64 bits, for which Python 3.11.4 and earlier ones write other headers.
    """
    with replaced(path) as part, zipfile.ZipFile(part, "w") as archive:
        for name, array in arrays.items():
            about = zipfile.ZipInfo(f"{name}.npy")
            about.file_size = array.nbytes  # by which 64 bits are used where they must be
            with archive.open(about, "w") as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


@contextmanager
def _whole(path: Path) -> Iterator[TextIO]:
    with replaced(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        yield file


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Give a path to write to. Once that is done the file takes its place; if it fails nothing is left of it.

    Raises:
        OSError: the disk is full; the line says where.
    """
    # In the same folder, since only there it can be moved at once; no name that is looked for, nor one too long. With
    # its endings, by which some libraries choose the format.
    part = path.with_name(f".{uuid4().hex}{''.join(path.suffixes[-2:])}")
    try:
        with room_said(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def room_said(path: Path) -> Iterator[None]:
    """Let the error of a full disk name the file or folder that is written inside.

    Raises:
        OSError: the disk is full.
    """
    try:
        yield
    except Exception as error:  # of HDF5 and TensorFlow too
        if getattr(error, "errno", None) in FULL or any(words in str(error) for words in FULL_WORDS):
            raise OSError(
                f"{path}: expected room to write it, received a full disk ({' '.join(str(error).split()):.200}); free "
                "some, and give the command again"
            ) from error
        raise


def check_room(path: Path, size: int) -> None:
    """Require room for a file of so many bytes, for writers that end the process where there is none.

    Raises:
        OSError: there is less.
    """
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        elif shutil.disk_usage(path.parent).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def make_new(folder: Path) -> None:
    """Make an empty folder: files that were there are removed, not written over, and none of an earlier run stays."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows that ``write_csv`` has written."""
    with path.open(encoding="utf-8", newline="") as file:
        return rows(file)


def rows(lines: Iterable[str]) -> list[dict[str, str]]:
    """Return the rows of an opened CSV file that ``write_csv`` has written."""
    return [{name: unguarded(cell) for name, cell in row.items()} for row in csv.DictReader(lines)]


def unguarded(cell: str) -> str:
    """Return the text of a cell that ``write_csv`` has written."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def made_from(paths: Iterable[Path]) -> list[dict[str, str]]:
    """Return path and sha256 of each file that a record was made from: a list, which ``dvc metrics show`` omits."""
    return [{"path": path.as_posix(), "sha256": sha256(path)} for path in paths]


def sha256(path: Path) -> str:
    """Return the hex digest of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_sha256(path: Path) -> str:
    """Return the hex sha256 of a folder: of each file's path in it, size and bytes, in order of the paths."""
    total = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        total.update(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                total.update(block)
    return total.hexdigest()
