"""Read the user's own columns of a table of images, such as camera or site, by which ``evaluate`` slices the test.

What is taken is bounded, since a slice needs images, and a page readers. Text is taken as it is, where the column has
at most ``MOST`` values. Numbers are too, where there are few of them; of more, a value becomes one of four ranges that
hold a quarter of the rows each. All else is left out, and said.
"""

import math
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from thaw import paths
from thaw.data import cells, table

PREFIX = "table:"  # of the columns in the manifest, which has others of its own
MOST_COLUMNS = 20
MOST = 50  # values of text, the empty one too; the same as ``thaw.evaluation.slices`` shows
MOST_NUMBERS = 12  # values that are numbers; more become ranges
RANGES = 4
LONGEST = 100  # characters of a value
SHOWN = ".15g"  # the bounds of ranges: with fewer digits those of times would be one


@dataclass
class Attributes:
    """The columns that are taken, and why others are not."""

    of: dict[str, tuple[str, ...]] = field(default_factory=dict)  # by path, a value of each column that is taken
    columns: list[str] = field(default_factory=list)  # as the table calls them
    ranged: list[str] = field(default_factory=list)  # those of them whose numbers have become ranges
    left_out: dict[str, str] = field(default_factory=dict)  # by column, why

    def row(self, path: str) -> dict[str, str]:
        """Return what the manifest has of an image besides its own columns."""
        return dict(zip(self.names, self.of.get(path, ("",) * len(self.columns)), strict=True))

    @property
    def names(self) -> list[str]:
        """Return the columns as the manifest calls them."""
        return [PREFIX + name for name in self.columns]

    def describe(self) -> str:
        """Return one line for people; empty where the table has no such column."""
        as_is = [name for name in self.columns if name not in self.ranged]
        parts = [f"taken for slices: {', '.join(as_is)}"] if as_is else []
        parts += [f"in {RANGES} ranges: {', '.join(self.ranged)}"] if self.ranged else []
        parts += [f"left out: {name} ({why})" for name, why in self.left_out.items()]
        return f"columns of the table {'; '.join(parts)}" if parts else ""


@dataclass
class _Column:
    """What is known of a column after some of its rows."""

    texts: set[str] = field(default_factory=set)  # of values, so far as they are not too many
    numbers: "array[float] | None" = field(default_factory=lambda: array("d"))  # None: not all are numbers
    empty: bool = False

    def add(self, value: str) -> None:
        """Look at one more value."""
        if not value:
            self.empty = True
            return
        if len(self.texts) <= MOST:
            self.texts.add(value[: LONGEST + 1])
        if self.numbers is not None:
            number = _number(value)
            if number is None:
                self.numbers = None
            else:
                self.numbers.append(number)

    @property
    def is_ranged(self) -> bool:
        """Return whether the values are so many numbers that they become ranges."""
        return self.numbers is not None and len(self.texts) > MOST_NUMBERS

    def left_out(self) -> str:
        """Return why the column is of no use; empty if it is."""
        values = len(self.texts) + self.empty
        if values < 2:
            return "one value"
        if any(len(text) > LONGEST for text in self.texts):
            return f"more than {LONGEST} characters"
        return f"more than {MOST} values" if values > MOST and not self.is_ranged else ""


def read(raw: str) -> Attributes:
    """Return the user's own columns; none where the images are not listed in a table.

    Args:
        raw: the folder or table of ``data.raw``, whose rows were found to be right.
    """
    if not paths.is_listing(raw):
        return Attributes()
    path = paths.local(raw)
    own = [name for name in cells.heads(path) if name and name not in (*table.NEEDED, *table.OPTIONAL)]
    columns = {name: _Column() for name in own[:MOST_COLUMNS]}
    for _, values in cells.rows(path, own[:MOST_COLUMNS]) if own else ():
        for name, column in columns.items():
            column.add(values[name].strip())
    left_out = {name: why for name, column in columns.items() if (why := column.left_out())}
    left_out |= dict.fromkeys(own[MOST_COLUMNS:], f"more than {MOST_COLUMNS} columns")
    taken = {name: column for name, column in columns.items() if name not in left_out}
    found = Attributes({}, list(taken), [name for name in taken if taken[name].is_ranged], left_out)
    if taken:
        found.of = _values(path, found, taken)
    return found


def _values(path: Path, found: Attributes, taken: Mapping[str, _Column]) -> dict[str, tuple[str, ...]]:
    bounds = {name: ranges(list(taken[name].numbers or ())) for name in found.ranged}
    same: dict[tuple[str, ...], tuple[str, ...]] = {}  # few differ, and each is kept once
    of = {}
    for _, values in cells.rows(path, found.columns):
        row = tuple(
            _ranged(values[name].strip(), bounds[name]) if name in bounds else values[name].strip()
            for name in found.columns
        )
        of[table.place(path, values["path"])] = same.setdefault(row, row)
    return of


def ranges(numbers: Sequence[float]) -> list[tuple[float, float]]:
    """Return the smallest and the largest number of each range; equal numbers are in one, so there may be fewer.

    Args:
        numbers: one or more.
    """
    ordered, start, found = sorted(numbers), 0, []
    for parts in range(RANGES, 0, -1):
        if start < len(ordered):
            last = ordered[start + math.ceil((len(ordered) - start) / parts) - 1]
            found.append((ordered[start], last))
            start = bisect_right(ordered, last)
    return found


def _ranged(value: str, bounds: Sequence[tuple[float, float]]) -> str:
    number = _number(value)
    if number is None:
        return ""
    low, high = bounds[bisect_right([first for first, _ in bounds], number) - 1]
    return f"{low:{SHOWN}}" if low == high else f"{low:{SHOWN}} to {high:{SHOWN}}"


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
