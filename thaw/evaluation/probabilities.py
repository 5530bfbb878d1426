"""Tables of class probabilities, (images, classes), of which some rows at a time are looked at.

A table of ten thousand classes does not fit the memory several times, in double precision. So what is computed of one
goes through it in blocks, and keeps a few numbers an image.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

AT_ONCE = 4_000_000  # probabilities in a block: 32 MB in double precision, and a few arrays of that size
# What a row may miss 1 by: rounding of half precision, far below any mistake (logits, a sigmoid, percent).
ROW_TOLERANCE = 1e-3


class Table(Protocol):
    """Rows of probabilities: an array, or what computes them when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (images, classes)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of a row's numbers, which is floating."""

    def __getitem__(self, rows: slice, /) -> Any: ...  # (some, classes) float


@dataclass
class Answers:
    """The numbers that are kept of each image's probabilities."""

    labels: NDArray[np.int64]  # (images,)
    predicted: NDArray[np.int64]  # (images,) the likeliest class, of equally likely ones the first
    sure: NDArray[np.float64]  # (images,) its probability
    own: NDArray[np.float64]  # (images,) the probability of the label
    ahead: NDArray[np.int64]  # (images,) classes that are likelier than the label, or as likely and before it
    squares: NDArray[np.float64]  # (images,) the sum of the squared probabilities

    @property
    def right(self) -> NDArray[np.bool_]:
        """Return whether each answer is right, (images,)."""
        right: NDArray[np.bool_] = self.predicted == self.labels
        return right


def blocks(table: Table) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield the rows in their order, some at a time: their places, and (some, classes) float64."""
    count, classes = table.shape
    size = max(1, AT_ONCE // max(classes, 1))
    for first in range(0, count, size):
        rows = slice(first, min(first + size, count))
        yield rows, np.asarray(table[rows], np.float64)


def read(table: Table, labels: Integers) -> Answers:
    """Return what is kept of each image.

    Args:
        table: (images, classes), rows that sum to 1.
        labels: (images,) integer.

    Raises:
        ValueError: these are no probabilities, or no labels of them.
    """
    if len(table.shape) != 2 or 0 in table.shape or not np.issubdtype(table.dtype, np.floating):
        received = f"{table.dtype} of shape {table.shape}"
        raise ValueError(f"probabilities: expected float of shape (images, classes), received {received}")
    count, classes = table.shape
    given = indices("labels", labels, classes)
    if len(given) != count:
        raise ValueError(f"labels: expected one for each of the {count} images, received {len(given)}")
    whole, real = np.empty((2, count), np.int64), np.empty((3, count), np.float64)
    found = Answers(given, whole[0], real[0], real[1], whole[1], real[2])
    for some, rows in blocks(table):
        _check(rows)
        label = given[some]
        own = rows[np.arange(len(rows)), label]
        earlier = np.arange(classes) < label[:, None]
        found.predicted[some], found.sure[some], found.own[some] = rows.argmax(axis=1), rows.max(axis=1), own
        found.ahead[some] = ((rows > own[:, None]) | ((rows == own[:, None]) & earlier)).sum(axis=1)
        found.squares[some] = (rows**2).sum(axis=1)
    return found


def of_labels(table: Table, labels: Integers) -> NDArray[np.float64]:
    """Return the probability of each image's label, (images,)."""
    return np.concatenate([rows[np.arange(len(rows)), labels[some]] for some, rows in blocks(table)])


def indices(name: str, values: Integers, classes: int) -> NDArray[np.int64]:
    """Return numbers of classes, checked: (images,).

    Raises:
        ValueError: these are no integers from 0 to ``classes`` - 1.
    """
    values = np.asarray(values)
    if values.ndim != 1 or values.size == 0 or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{name}: expected one integer per image, received {values.dtype} of shape {values.shape}")
    if values.min() < 0 or values.max() >= classes:
        raise ValueError(f"{name}: expected 0 to {classes - 1}, received {values.min()} to {values.max()}")
    return values.astype(np.int64)


def _check(rows: NDArray[np.float64]) -> None:
    lost = int((~np.isfinite(rows)).sum())
    if lost:
        raise ValueError(
            f"probabilities: expected finite numbers, received {lost} that are not; did training diverge?"
        )
    sums = rows.sum(axis=1)
    if rows.min() < 0 or np.abs(sums - 1).max() > ROW_TOLERANCE:
        received = f"values from {rows.min():g} and sums of {sums.min():g} to {sums.max():g}"
        raise ValueError(f"probabilities: expected rows of 0 to 1 that sum to 1, received {received}; apply a softmax")
