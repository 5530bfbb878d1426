"""Find the pairs of unit vectors whose product reaches a limit: all with all, or of very many by spherical caps.

All with all takes time with the square of their number, and finds every pair. Of more than ``EXACT`` vectors only
those are compared that lie in one of many caps, each around a direction that is drawn at random (locality-sensitive
filters: Becker, Ducas, Gama & Laarhoven, "New directions in nearest neighbor searching", SODA 2016). A cap of a
direction d holds the vectors v with v·d from some height on. For Gaussian directions the heights of two vectors are
binormal, and their correlation is the product of the two. So the chance that no cap holds both is known, and depends
on their product only: not on the data, and not on which other vectors there are. The height is chosen so that it is
``MISSED`` for pairs right at the limit; beyond it falls fast, from a limit of 0.78 to 1 in 70,000 at 0.9.

The directions are always the same. So whether a pair is found depends on these two and on the number of vectors.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from threadpoolctl import threadpool_limits

Floats = NDArray[np.float32]
Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]  # rows of one set and rows of the other, one with one

EXACT = 50_000  # vectors of which all are compared with all: seconds
MISSED = 1e-3  # chance to miss a pair right at the limit
BLOCK = 2048  # vectors compared at once with as many others: memory, not results
CAPS, PASSES = 128, 32  # of which the members are in memory at once, or all in so many parts: memory, not results
FEW = 256  # lists of pairs that are made one, each pair once: memory, not results
WAITING = 500_000  # pairs that are handed over at once: memory, not results
SEED = 0  # of the directions


class Vectors(Protocol):
    """Vectors of length 1, (n, channels), that are made when they are asked for. An array is such too."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any, /) -> Floats: ...


@dataclass(frozen=True)
class _Rest:
    """What is left of vectors without their common direction, at length 1."""

    vectors: Vectors
    centre: Floats

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: Any) -> Floats:
        return _unit(self.vectors[rows] - self.centre)


def pairs(
    vectors: Vectors, limit: float, centre: Floats | None = None, spread: float | None = None
) -> Iterator[Pairs]:
    """Yield the pairs of rows, the first before the second, whose product reaches ``limit``, some at a time.

    Args:
        vectors: (n, channels) of length 1.
        limit: the product of two.
        centre: (channels,) what is taken off before vectors are put into caps, where all lie in one direction; None:
            nothing.
        spread: with ``centre``, the product of what is left, at length 1, of a pair that must not be missed.
    """
    if len(vectors) <= EXACT:
        yield from _all(vectors, limit)
    else:
        yield from _in_caps(vectors, limit, vectors if centre is None else _Rest(vectors, centre), spread or limit)


def _all(vectors: Vectors, limit: float) -> Iterator[Pairs]:
    size = min(BLOCK, len(vectors))
    room = np.empty(size * size, np.float32)
    for start in range(0, len(vectors), BLOCK):
        one = vectors[start : start + BLOCK]
        for other in range(start, len(vectors), BLOCK):
            two = vectors[other : other + BLOCK]
            products = np.matmul(one, two.T, out=room[: len(one) * len(two)].reshape(len(one), len(two)))
            if products.max() < limit:
                continue
            rows, columns = np.divmod(np.flatnonzero(products >= limit), len(two))
            later = rows + start < columns + other
            rows, columns = rows[later] + start, columns[later] + other
            for part in range(0, len(rows), BLOCK):
                yield rows[part : part + BLOCK], columns[part : part + BLOCK]


def _in_caps(vectors: Vectors, limit: float, placed: Vectors, product: float) -> Iterator[Pairs]:
    """Yield the pairs of which a cap holds both, each once or a few times.

    Args:
        placed: (n, channels) of length 1, by which vectors are put into caps.
        product: of two rows of ``placed``, that a pair reaches.
    """
    count, caps = len(vectors), cap_count(len(vectors))
    height = _height(caps, product)
    draws = np.random.default_rng(SEED)
    waiting: list[NDArray[np.int64]] = []
    at_once = max(CAPS, caps // PASSES)
    for first in range(0, caps, at_once):
        directions = draws.standard_normal((min(at_once, caps - first), placed[:1].shape[1])).astype(np.float32)
        with threadpool_limits(1, "blas"):  # products so small that threads would wait for one another
            for members in _members(placed, directions, height):
                for rows, columns in _all(vectors[members], limit):
                    waiting.append(members[rows] * count + members[columns])
                if len(waiting) >= FEW:
                    waiting = [np.unique(np.concatenate(waiting))]
        if sum(map(len, waiting)) >= WAITING:
            yield from _parts(waiting, count)
            waiting = []
    yield from _parts(waiting, count)


def _members(placed: Vectors, directions: Floats, height: float) -> Iterator[NDArray[np.int64]]:
    """Yield the rows in each cap, ascending, where there are two at least."""
    rows, caps = [], []
    for start in range(0, len(placed), BLOCK):
        inside = np.flatnonzero(placed[start : start + BLOCK] @ directions.T >= height)
        row, cap = np.divmod(inside, len(directions))
        rows.append((row + start).astype(np.uint32))
        caps.append(cap.astype(np.uint16))
    of = np.concatenate(caps)
    every = np.concatenate(rows)[np.argsort(of, kind="stable")]
    for members in np.split(every, np.cumsum(np.bincount(of, minlength=len(directions)))[:-1]):
        if len(members) > 1:
            yield members.astype(np.int64)


def _parts(keys: list[NDArray[np.int64]], count: int) -> Iterator[Pairs]:
    if keys:
        rows, columns = np.divmod(np.unique(np.concatenate(keys)), count)
        for part in range(0, len(rows), BLOCK):
            yield rows[part : part + BLOCK], columns[part : part + BLOCK]


def cap_count(count: int) -> int:
    """Return the number of caps: a power of two, so that putting vectors in costs about what comparing them does.

    Both costs then grow with the power 1.5 of the number of vectors.
    """
    return int(2 ** round(math.log2(20 * math.sqrt(count / 2))))


def _height(caps: int, product: float) -> float:
    """Return the height of the caps, in standard deviations, at which a pair shares one but for ``MISSED``."""
    low, high = 0.0, 6.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if missed(caps, middle, product) < MISSED else (low, middle)
    return low


def missed(caps: int, height: float, product: float) -> float:
    """Return the chance that no cap holds both of two vectors.

    Args:
        caps: their number.
        height: from which a cap holds a vector, in standard deviations.
        product: of the two vectors, below 1.
    """
    steps = np.linspace(height, height + 8, 4001)
    rest = ndtr((product * steps - height) / math.sqrt(1 - product**2))
    both = float(np.trapezoid(np.exp(-(steps**2) / 2) / math.sqrt(2 * math.pi) * rest, steps))
    return float((1 - both) ** caps)


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9).astype(np.float32)
    return unit
