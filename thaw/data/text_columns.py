"""Columns of text in tens of bytes a value, where objects take hundreds: they grow at the end, and read like lists."""

import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 1024  # values that are read at once: memory, not results
NEAR = 64  # values apart that are read together, with those between: time, not results
IN_MEMORY = 1 << 18  # bytes of a column on disk that wait to be written
MOST = 2**32 - 1  # bytes of text in a column whose places take 4 bytes
WIDER = {2**7: "h", 2**15: "i"}  # how numbers of values are kept from so many values on

Bytes = NDArray[np.uint8]


class _Strings(Sequence[str]):
    """What columns of text have in common: they equal lists, and a slice is one."""

    def _value(self, index: int) -> str:
        raise NotImplementedError

    @overload
    def __getitem__(self, index: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> str | list[str]:
        """Return one value, or a list of some."""
        places = range(len(self))[index]
        return [self._value(place) for place in places] if isinstance(places, range) else self._value(places)

    def __iter__(self) -> Iterator[str]:
        return map(self._value, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(str.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]  # as of a list


class Texts(_Strings):
    """Text of any kind, as UTF-8 in one block: its bytes and 4 more each. Names that are no UTF-8 are kept too."""

    def __init__(self) -> None:
        self._text, self._ends = bytearray(), array("I", [0])

    def append(self, text: str) -> None:
        """Take one more value."""
        self._text += text.encode("utf-8", "surrogateescape")
        if len(self._text) > MOST and self._ends.typecode == "I":
            self._ends = array("Q", self._ends)
        self._ends.append(len(self._text))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def _value(self, index: int) -> str:
        return self._text[self._ends[index] : self._ends[index + 1]].decode("utf-8", "surrogateescape")


class Words(_Strings):
    """Text of which few values differ: 1 to 4 bytes each, by how many do, and each value once."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self.values: list[str] = []  # in the order in which they came
        self._codes = array("b")
        self._of: dict[str, int] = {}
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Take one more value."""
        code = self._of.get(text)
        if code is None:
            code = self._of[text] = len(self.values)
            self.values.append(text)
            if code in WIDER:
                self._codes = array(WIDER[code], self._codes)
        self._codes.append(code)

    def __len__(self) -> int:
        return len(self._codes)

    def _value(self, index: int) -> str:
        return self.values[self._codes[index]]

    def __contains__(self, text: object) -> bool:
        return text in self._of

    @property
    def codes(self) -> NDArray[np.int32]:
        """Return each value as an index into ``values``, (n,): a copy, so that more can be appended."""
        return np.array(self._codes, np.int32)

    def are(self, text: str) -> NDArray[np.bool_]:
        """Return which values are ``text``, (n,)."""
        found: NDArray[np.bool_] = self.codes == self._of.get(text, -1)
        return found

    def count(self, text: str) -> int:
        """Return how many values are ``text``."""
        return int(self.are(text).sum())


class Numbers(_Strings):
    """Whole numbers from 1 on, written as text, and empty for 0: 4 bytes each."""

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._numbers = array("i", numbers)

    def append(self, text: str) -> None:
        """Take one more value."""
        self._numbers.append(int(text or 0))

    def __len__(self) -> int:
        return len(self._numbers)

    def _value(self, index: int) -> str:
        return str(self._numbers[index] or "")


class Hexes(_Strings):
    """Hexadecimal digits, as many in each value: half a byte a digit."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self.width = 0  # bytes a value; the first one says it
        self._bytes, self._count = bytearray(), 0
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Take one more value."""
        value = bytes.fromhex(text)
        self.width = self.width or len(value)
        if len(value) != self.width or not value:
            raise ValueError(f"expected {2 * self.width or 'some'} hexadecimal digits, received {text!r}")
        self._add(value)
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def _value(self, index: int) -> str:
        return self.block(index, index + 1).tobytes().hex()

    def _add(self, value: bytes) -> None:
        self._bytes += value

    def _read(self, start: int, stop: int) -> bytes:
        return bytes(self._bytes[start:stop])

    def block(self, start: int, stop: int) -> Bytes:
        """Return some values one after the other, (values, width)."""
        stop = min(stop, self._count)
        found = np.frombuffer(self._read(start * self.width, stop * self.width), np.uint8)
        return found.reshape(max(stop - start, 0), self.width)

    def blocks(self, size: int = AT_ONCE) -> Iterator[tuple[int, Bytes]]:
        """Yield all values, some at a time, each time with the place of the first."""
        for start in range(0, self._count, size):
            yield start, self.block(start, start + size)

    def some(self, places: NDArray[np.integer[Any]]) -> Bytes:
        """Return the values at ``places``, (places, width)."""
        once, of = np.unique(places, return_inverse=True)
        found = np.empty((len(once), self.width), np.uint8)
        apart = (np.diff(once) > NEAR) | (np.diff(once // AT_ONCE) > 0)
        breaks = [0, *(np.flatnonzero(apart) + 1).tolist(), len(once)] if len(once) else []
        for start, stop in pairwise(breaks):  # of values near one another, which are read together
            first = int(once[start])
            found[start:stop] = self.block(first, int(once[stop - 1]) + 1)[once[start:stop] - first]
        return found[of]

    def beginning(self, width: int) -> "Hexes":
        """Return the first ``width`` bytes of each value as a column."""
        found = Hexes()
        found.width, found._count = min(width, self.width), self._count
        for _, block in self.blocks():
            found._bytes += block[:, :width].tobytes()
        return found


class HexesOnDisk(Hexes):
    """Hexadecimal digits in a file that has no name and is gone with the column; few are kept in memory.

    Args:
        folder: where the file is; None, or where that may not be written to: where temporary files are.
    """

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        self.folder = folder
        self._file: BinaryIO | None = None
        self._written = 0

    def _add(self, value: bytes) -> None:
        self._bytes += value  # those that are not written yet
        if len(self._bytes) >= IN_MEMORY:
            self._write()

    def _write(self) -> BinaryIO:
        if self._file is None:
            try:
                self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 -- as long as the column is there
            except (FileNotFoundError, PermissionError):  # a project that may only be read
                self._file = tempfile.TemporaryFile()  # noqa: SIM115
            weakref.finalize(self, self._file.close)
        self._file.seek(self._written)
        self._written += self._file.write(self._bytes)
        self._bytes.clear()
        return self._file

    def _read(self, start: int, stop: int) -> bytes:
        if self._file is None:
            return super()._read(start, stop)
        file = self._write() if self._bytes else self._file
        file.seek(start)
        return file.read(stop - start)


def words(found: Sequence[str]) -> Words:
    """Return text of few values kept as numbers; such as is already as it is."""
    return found if isinstance(found, Words) else Words(found)


def numbers(found: Sequence[str] | NDArray[np.integer[Any]]) -> NDArray[np.int32]:
    """Return a number for each value, the same for equal ones, and -1 for an empty one: (n,).

    Of hexadecimal digits of more than 64 bits only the first 64 count.
    """
    if isinstance(found, np.ndarray):
        return found.astype(np.int32, copy=False)
    if isinstance(found, Hexes) and found.width >= 8:
        keys = np.empty(len(found), np.uint64)
        for start, block in found.blocks():
            keys[start : start + len(block)] = np.ascontiguousarray(block[:, :8]).view(">u8")[:, 0]
        return np.unique(keys, return_inverse=True)[1].astype(np.int32)
    kept = words(found)
    codes = kept.codes
    codes[kept.are("")] = -1
    return codes
