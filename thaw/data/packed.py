"""Rows of a dataclass kept by column, in tens of bytes each where objects take hundreds, and read like a list.

A field says in its metadata how its column is kept: ``TEXT`` whatever it is, ``WORD`` where few values differ, ``HEX``
for digits of one length, ``ON_DISK`` for such as are seldom read, ``NUMBER`` for
whole ones as text, and ``INT`` and ``FLOAT``.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, Protocol, SupportsIndex, TypeVar, overload

from thaw.data import text_columns

AT_ONCE = 1024  # rows that are made Python's at once: memory, not results

Row = TypeVar("Row")
Value_co = TypeVar("Value_co", covariant=True)


class Column(Protocol[Value_co]):
    """A column that grows at its end."""

    def append(self, value: Any, /) -> None:
        """Take one more value."""
        ...

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Value_co: ...
    def __iter__(self) -> Iterator[Value_co]: ...


_Made = Callable[[Path | None], Column[Any]]
TEXT: dict[str, _Made] = {"column": lambda _: text_columns.Texts()}
WORD: dict[str, _Made] = {"column": lambda _: text_columns.Words()}
HEX: dict[str, _Made] = {"column": lambda _: text_columns.Hexes()}
ON_DISK: dict[str, _Made] = {"column": text_columns.HexesOnDisk}
INT: dict[str, _Made] = {"column": lambda _: array("i")}
NUMBER: dict[str, _Made] = {"column": lambda _: text_columns.Numbers()}
FLOAT: dict[str, _Made] = {"column": lambda _: array("d")}


class Rows(Sequence[Row], Generic[Row]):
    """Rows of a dataclass.

    Args:
        kind: the dataclass, each field of which says how it is kept.
        rows: the first ones.
        folder: where columns on disk have their files.
    """

    def __init__(self, kind: type[Row], rows: Iterable[Row] = (), folder: Path | None = None) -> None:
        self.kind, self.folder = kind, folder
        self.columns: dict[str, Any] = {
            each.name: each.metadata["column"](folder)
            for each in fields(kind)  # type: ignore[arg-type]  # a dataclass
        }
        self._of = [(name, column.append) for name, column in self.columns.items()]
        self.extend(rows)

    def append(self, row: Row) -> None:
        """Take one more row."""
        for name, add in self._of:
            add(getattr(row, name))

    def extend(self, rows: Iterable[Row]) -> None:
        """Take more rows."""
        for row in rows:
            self.append(row)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @overload
    def __getitem__(self, index: SupportsIndex) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Row | list[Row]:
        """Return one row, or a list of some."""
        places = range(len(self))[index]
        if isinstance(places, range):
            return [self[place] for place in places]
        return self.kind(*(column[places] for column in self.columns.values()))

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, len(self), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            yield from map(self.kind, *(column[part] for column in self.columns.values()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(a == b for a, b in zip(self, other))  # noqa: B905

    __hash__ = None  # type: ignore[assignment]  # as of a list

    def put(self, name: str, column: Column[Any]) -> None:
        """Let a column take the place of another."""
        self.columns[name] = column
        self._of = [(name, column.append) for name, column in self.columns.items()]

    def sorted_by(self, name: str) -> "Rows[Row]":
        """Return the rows in the order of a column; such as are in it already are the same."""
        column = self.columns[name]
        if all(one <= other for one, other in pairwise(column)):
            return self
        return self.take(sorted(range(len(self)), key=column.__getitem__))

    def take(self, places: Iterable[int]) -> "Rows[Row]":
        """Return some rows, in the order of ``places``."""
        return Rows(self.kind, map(self.__getitem__, places), self.folder)


def rows(kind: type[Row], found: Sequence[Row]) -> Rows[Row]:
    """Return rows kept by column; such as are already as they are."""
    return found if isinstance(found, Rows) else Rows(kind, found)
