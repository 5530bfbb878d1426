"""The activation cache's entries on disk: an entry is one view of many images at one cut, a row an image.

An entry is a growing table in which rows are found by the image's sha256.

    <folder>/<entry>/rows.f16     the rows, one after the other, in the order of the index; rows.i8 where they are int8
    <folder>/<entry>/index.csv    a line a row: sha256 of the image, crc32 of the row's bytes
    <folder>/<entry>/users/       a file for each process that reads the entry
    <folder>/*.lock               held while rows are added, or entries removed

A row is written before its line of the index, so after a crash the index names whole rows only; a row that
does not have its checksum counts as missing.
"""

import hashlib
import json
import mmap
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thaw import paths, records
from thaw.features import stored

FORMAT = 1  # of an entry; a new number makes old entries unknown, never wrong
LOST = 0.01  # most that fp16 may take of activations, of their length; of usual ones it takes 0.0002
_LINE = 64 + 1 + 8 + 1  # sha256 hex, comma, crc32 hex, newline


def folder(cache_dir: str) -> Path:
    """Return where entries lie: the same for the workspace and for all isolated experiments of the repository."""
    return Path(cache_dir) if cache_dir else paths.main_root() / ".thaw" / "activations"


def name(**determinants: Any) -> str:
    """Return the entry's name: a hash of all that determines its numbers, given as JSON-able values."""
    text = json.dumps({"format": FORMAT, **determinants}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def names(entry: Path) -> set[str]:
    """Return the images that an entry's index names; none where there is no entry."""
    return {line[:64].decode("ascii", "replace") for line in _lines(entry / "index.csv")}


def _lines(index: Path) -> list[bytes]:
    return split(index.read_bytes()) if index.exists() else []


def split(text: bytes) -> list[bytes]:
    """Return the whole lines of an index by their length: damage within one moves no other."""
    return [text[start : start + _LINE] for start in range(0, len(text) - _LINE + 1, _LINE)]


def is_whole(row: bytes, line: bytes) -> bool:
    """Return whether a row has the checksum of its line."""
    return f"{zlib.crc32(row):08x}".encode() == line[65:73]


class TooLargeError(ValueError):
    """fp16 can't hold a value."""

    what = "one is too large for the cache's fp16"


class TooSmallError(TooLargeError):
    """fp16 holds hardly anything of values that are near zero."""

    what = "they are too small for the cache's fp16"


def check_small(values: np.ndarray, rows: np.ndarray) -> None:
    """Refuse rows that are far from what they were made of.

    fp16 holds 11 bits down to 6e-5, fewer below, and takes for zero what is below 3e-8.

    Args:
        values: (n, ...) float32.
        rows: the same in float16.

    Raises:
        TooSmallError: the difference is more than ``LOST`` of the values, by their root mean squares.
    """
    whole = np.asarray(values, np.float64)
    length = float(np.linalg.norm(whole))
    if np.isfinite(rows).all() and float(np.linalg.norm(whole - rows)) > LOST * length:
        raise TooSmallError(
            "activations at this cut are too small for the cache's fp16, which takes for zero what is below 3e-8; "
            "set phase2.activations=streaming, or choose another phase2.unfreeze; pooled features are always cached, "
            "so for these choose another network, weights or backbone.pixels"
        )


class Entry:
    """One view of many images at one cut, on disk.

    Args:
        path: the entry's folder, made if missing.
        shape: of a row, an image's activations.
        kind: how they are stored, of ``thaw.features.stored``.
    """

    def __init__(self, path: Path, shape: Sequence[int], kind: str = stored.FLOAT16):
        self.path, self.shape, self.kind = path, tuple(shape), kind
        self.row_bytes = stored.size(kind, self.shape)
        self.data = path / ("rows.f16" if kind == stored.FLOAT16 else "rows.i8")
        self.index, self.mark = path / "index.csv", path / "too_large"
        # The index as far as it was looked at, and of each row 1 if it is known to be whole.
        self._seen, self._whole = bytearray(), bytearray()
        path.mkdir(parents=True, exist_ok=True)

    def find(self, hashes: Sequence[str]) -> np.ndarray:
        """Return the row of each image, checked against its checksum the first time, or written by this object.

        Returns:
            (n,) int64; -1 where the image is not in the entry, or its row is damaged.
        """
        lines = _lines(self.index)
        known = {line[:64].decode("ascii", "replace"): row for row, line in enumerate(lines)}
        rows = np.array([known.get(sha, -1) for sha in hashes], np.int64)
        rows[rows >= (self.data.stat().st_size // self.row_bytes if self.data.exists() else 0)] = -1  # cut off
        if (rows >= 0).any():
            with self.data.open("rb") as file:
                for position in np.argsort(rows):
                    row = int(rows[position])
                    if row >= 0 and not self._is_whole(file, row, lines[row]):
                        rows[position] = -1
        return rows

    def _is_whole(self, file: Any, row: int, line: bytes) -> bool:
        """Return whether a row has the checksum of its line; its bytes are read once."""
        if row < len(self._whole) and self._whole[row] and self._seen[row * _LINE : (row + 1) * _LINE] == line:
            return True
        whole = is_whole(_read(file, row, self.row_bytes), line)
        self._note(row, line, whole)
        return whole

    def _note(self, row: int, line: bytes, whole: bool) -> None:
        more = max(0, row + 1 - len(self._whole))
        self._whole.extend(bytes(more))
        self._seen.extend(bytes(more * _LINE))
        self._whole[row], self._seen[row * _LINE : (row + 1) * _LINE] = whole, line

    def append(self, hashes: Sequence[str], values: np.ndarray) -> None:
        """Add rows. The caller holds the lock.

        Args:
            values: (n, *shape) float16.

        Raises:
            TooLargeError: fp16 can't hold a value.
            OSError: the disk is full. What of the rows is there counts as missing.
        """
        if not np.isfinite(values).all():
            raise TooLargeError(
                "an activation at this cut is too large for the cache's fp16 (65504 at most) or not a number; "
                "set phase2.activations=streaming, or choose another phase2.unfreeze"
            )
        self.copy(hashes, [row.tobytes() for row in stored.encoded(self.kind, values)])

    def copy(self, hashes: Sequence[str], rows: Sequence[bytes]) -> None:
        """Add rows as they are stored. The caller holds the lock.

        Raises:
            OSError: as of ``append``.
        """
        count = self.index.stat().st_size // _LINE if self.index.exists() else 0
        # What lies beyond the index was left by a crash; what is missing before its end is damage that find() saw.
        for path, size in ((self.data, count * self.row_bytes), (self.index, count * _LINE)):
            path.touch()
            os.truncate(path, size)
        with records.room_said(self.data), self.data.open("ab") as file:
            file.write(b"".join(rows))
        lines = [f"{sha},{zlib.crc32(row):08x}\n".encode() for sha, row in zip(hashes, rows, strict=True)]
        with records.room_said(self.index), self.index.open("ab") as index:
            index.write(b"".join(lines))
        for row, line in enumerate(lines, start=count):
            self._note(row, line, True)

    def refuse(self) -> None:
        """Remember that fp16 can't hold the entry's rows, and keep none."""
        self.mark.touch()
        for path in (self.index, self.data):
            path.unlink(missing_ok=True)

    def size(self) -> int:
        """Return the bytes on disk."""
        return sum(path.stat().st_size for path in (self.data, self.index) if path.exists())


def _read(file: Any, row: int, row_bytes: int) -> bytes:
    file.seek(row * row_bytes)
    return bytes(file.read(row_bytes))


class Reader:
    """A ``thaw.images.manifest.Source`` on entries: draws the rows of some images from the entries of their views.

    Args:
        entries: one a view.
        rows: the row of each image in each entry, as ``Entry.find`` gives them.

    Raises:
        ValueError: an image has no row.
    """

    def __init__(self, entries: Sequence[Entry], rows: Sequence[np.ndarray]):
        if any((each < 0).any() for each in rows):
            raise ValueError(
                "the activation cache lost rows while they were read; give the command again. If it happens again, "
                "the disk of compute.cache_dir is damaged, or another program changes it"
            )
        self.entries, self.rows = list(entries), list(rows)
        self.shape = self.entries[0].shape
        self.row_bytes = stored.size(stored.FLOAT16, self.shape)  # as ``half`` gives them
        self.maps: list[mmap.mmap] = []
        for entry in self.entries:
            with entry.data.open("rb") as file:
                self.maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def __call__(self, indices: np.ndarray, views: np.ndarray) -> np.ndarray:
        """(b,) int64 images and (b,) int64 views → (b, *shape) float32."""
        return self._read(indices, views, np.float32)

    def half(self, indices: np.ndarray, views: np.ndarray) -> np.ndarray:
        """Return the same in half precision: (b, *shape) float16."""
        return self._read(indices, views, np.float16)

    def _read(self, indices: np.ndarray, views: np.ndarray, kind: type) -> np.ndarray:
        values: np.ndarray = np.empty((len(indices), *self.shape), kind)
        for view in np.unique(views):
            wanted = views == view
            # A crash may have left part of a row at the end, which no index names.
            entry = self.entries[view]
            whole = len(self.maps[view]) // entry.row_bytes * entry.row_bytes
            table = np.frombuffer(self.maps[view], np.uint8, whole).reshape(-1, entry.row_bytes)
            values[wanted] = stored.decoded(entry.kind, table[self.rows[view][indices[wanted]]], self.shape)
            del table
            # The pages stay in the system's cache, but no longer count as this process's memory.
            if hasattr(mmap, "MADV_DONTNEED"):
                self.maps[view].madvise(mmap.MADV_DONTNEED)
        return values
