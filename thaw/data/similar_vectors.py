"""Find the pairs of unit vectors whose product reaches a limit: all with all, or of very many by spherical caps.

All with all takes time with the square of their number, and finds every pair. Of more than ``EXACT`` vectors only
those are compared that lie in one of many caps, each around a direction that is drawn at random (locality-sensitive
filters: Becker, Ducas, Gama & Laarhoven, "New directions in nearest neighbor searching", SODA 2016). A cap of a
direction d holds the vectors v with v·d from some height on. For Gaussian directions the heights of two vectors are
binormal, and their correlation is the product of the two. So the chance that no cap holds both is known, and depends
on their product only: not on the data, and not on which other vectors there are. The height is chosen so that it is
``MISSED`` for pairs right at the limit; beyond it falls fast, from a limit of 0.78 to 1 in 70,000 at 0.9.

The directions are always the same. So whether a pair is found by caps depends on these two and on the number of
vectors. Where vectors crowd in few directions, caps there hold so many, and so many pairs several times, that they
would take longer than comparing all with all. That is estimated from some of the vectors, and then all are compared,
which finds every pair.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from threadpoolctl import ThreadpoolController

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Pairs = tuple[Rows, Rows]  # rows of one set and rows of the other, one with one

EXACT = 50_000  # vectors of which all are compared with all: seconds
SAMPLE = 2048, 256  # vectors and caps by which it is estimated how full caps are, and how many pairs there are
HANDED_ON, LOOKED_AT = 2500, 100  # what a pair that reaches the limit costs, in products: as it is, or looked at again
COST = 2.0  # of a product in caps, in such of all with all: blocks are smaller, and a pair is compared in several
MISSED = 1e-3  # chance to miss a pair right at the limit
SIDE = 512  # vectors compared at once with as many others, whose products stay near the processor: not results
BLOCK = 2048  # vectors put into caps at once, and pairs looked at: memory, not results
CAPS, PASSES = 128, 32  # of which the members are in memory at once, or all in so many parts: memory, not results
WAITING = 500_000  # pairs of caps that are gathered, each once: memory, not results
HANDED = 100_000  # pairs that are handed over at once: memory, not results
SEED = 0  # of the directions


class Vectors(Protocol):
    """Vectors of length 1, (n, channels), that are made when they are asked for. An array is such too."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any, /) -> Floats: ...


@dataclass(frozen=True)
class Second:
    """A second look at a pair whose product reaches the limit: at other vectors of the same rows."""

    vectors: Vectors
    alike: Callable[[Floats, Floats], NDArray[np.bool_]]  # of one vector with one vector each, (pairs, channels)

    def of(self, rows: Any) -> "Second":
        """Return the same for some rows only."""
        return Second(self.vectors[rows], self.alike)

    def held(self, one: slice, other: slice, rows: Rows, columns: Rows) -> tuple[Rows, Rows]:
        """Return the pairs that stand it, of two slices of the vectors and places in these."""
        ours, theirs = self.vectors[one], self.vectors[other]
        alike = [
            self.alike(ours[rows[part : part + BLOCK]], theirs[columns[part : part + BLOCK]])
            for part in range(0, len(rows), BLOCK)
        ]
        held = np.concatenate(alike)
        return rows[held], columns[held]


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
    vectors: Vectors,
    limit: float,
    centre: Floats | None = None,
    spread: float | None = None,
    second: Second | None = None,
) -> Iterator[Pairs]:
    """Yield the pairs of rows, the first before the second, whose product reaches ``limit``, many at a time.

    Args:
        vectors: (n, channels) of length 1.
        limit: the product of two.
        centre: (channels,) what is taken off before vectors are put into caps, where all lie in one direction; None:
            nothing.
        spread: with ``centre``, the product of what is left, at length 1, of a pair that must not be missed.
        second: what a pair must stand besides; None: nothing.
    """
    if len(vectors) <= EXACT:
        yield from _gathered(_all(vectors, limit, second))
    else:
        placed = vectors if centre is None else _Rest(vectors, centre)
        price = HANDED_ON if second is None else LOOKED_AT
        if COST * _work(vectors, limit, placed, spread or limit, price) < 1:
            yield from _in_caps(vectors, limit, placed, spread or limit, second)
        else:
            yield from _gathered(_all(vectors, limit, second))


def _all(vectors: Vectors, limit: float, second: Second | None) -> Iterator[Pairs]:
    size = min(SIDE, len(vectors))
    room = np.empty(size * size, np.float32)
    for start in range(0, len(vectors), SIDE):
        ours = slice(start, start + SIDE)
        one = vectors[ours]
        for other in range(start, len(vectors), SIDE):
            theirs = slice(other, other + SIDE)
            two = vectors[theirs]
            products = np.matmul(one, two.T, out=room[: len(one) * len(two)].reshape(len(one), len(two)))
            if products.max() < limit:
                continue
            rows, columns = np.divmod(np.flatnonzero(products >= limit), len(two))
            later = rows + start < columns + other
            rows, columns = rows[later], columns[later]
            if second is not None and len(rows):
                rows, columns = second.held(ours, theirs, rows, columns)
            if len(rows):
                yield rows + start, columns + other


def _gathered(found: Iterable[Pairs]) -> Iterator[Pairs]:
    """Yield the same pairs, ``HANDED`` at a time."""
    waiting: list[Pairs] = []
    for some in found:
        waiting.append(some)
        if sum(len(rows) for rows, _ in waiting) >= HANDED:
            yield from _parts(waiting)
            waiting = []
    yield from _parts(waiting)


def _parts(waiting: list[Pairs]) -> Iterator[Pairs]:
    if waiting:
        rows, columns = (np.concatenate(side) for side in zip(*waiting, strict=True))
        for part in range(0, len(rows), HANDED):
            yield rows[part : part + HANDED], columns[part : part + HANDED]


def _in_caps(
    vectors: Vectors, limit: float, placed: Vectors, product: float, second: Second | None
) -> Iterator[Pairs]:
    """Yield the pairs of which a cap holds both, each once or a few times.

    Args:
        placed: (n, channels) of length 1, by which vectors are put into caps.
        product: of two rows of ``placed``, that a pair reaches.
    """
    count, caps = len(vectors), cap_count(len(vectors))
    height = _height(caps, product)
    draws, blas = np.random.default_rng(SEED), ThreadpoolController()
    keys, waiting = np.empty(0, np.int64), list[NDArray[np.int64]]()
    at_once = max(CAPS, caps // PASSES)
    for first in range(0, caps, at_once):
        directions = draws.standard_normal((min(at_once, caps - first), placed[:1].shape[1])).astype(np.float32)
        found = _compared(vectors, limit, _members(placed, directions, height), second)
        for some in _by_one_thread(blas, found):
            waiting.append(some[0] * count + some[1])
            if sum(map(len, waiting)) >= WAITING:
                keys, waiting = np.unique(np.concatenate([keys, *waiting])), []
            if len(keys) >= WAITING:
                yield from _parts([np.divmod(keys, count)])
                keys = keys[:0]
    yield from _parts([np.divmod(np.unique(np.concatenate([keys, *waiting])), count)])


def _compared(
    vectors: Vectors, limit: float, caps: Iterable[NDArray[np.int64]], second: Second | None
) -> Iterator[Pairs]:
    """Yield the pairs of the members of each cap."""
    for members in caps:
        for rows, columns in _all(vectors[members], limit, None if second is None else second.of(members)):
            yield members[rows], members[columns]


def _by_one_thread(blas: ThreadpoolController, found: Iterator[Pairs]) -> Iterator[Pairs]:
    """Yield the same; the products are so small that threads would wait for one another."""
    while True:
        with blas.limit(limits=1, user_api="blas"):
            some = next(found, None)
        if some is None:
            return
        yield some


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


def cap_count(count: int) -> int:
    """Return the number of caps: a power of two, so that putting vectors in costs about what comparing them does.

    Both costs then grow with the power 1.5 of the number of vectors.
    """
    return int(2 ** round(math.log2(20 * math.sqrt(count / 2))))


def _work(vectors: Vectors, limit: float, placed: Vectors, product: float, price: float) -> float:
    """Return what caps cost beyond what all with all does, as a share of the products of that.

    Args:
        vectors: (n, channels) of length 1.
        limit: the product of two.
        placed: (n, channels) of length 1, by which vectors are put into caps.
        product: of two rows of ``placed``, that a pair reaches.
        price: of a pair that reaches the limit, in products.
    """
    count, caps = len(placed), cap_count(len(placed))
    rows = np.linspace(0, count - 1, min(SAMPLE[0], count)).astype(np.int64)
    some, those = vectors[rows], placed[rows]
    directions = np.random.default_rng(SEED).standard_normal((SAMPLE[1], those.shape[1])).astype(np.float32)
    full = (those @ directions.T >= _height(caps, product)).mean(axis=0)
    near = (np.count_nonzero(some @ some.T >= limit) - len(rows)) / len(rows) ** 2
    again = -math.log(MISSED) - 1  # so many caps hold a pair at the limit, but one
    return float(caps * np.mean(np.square(full)) + 2 * caps / count + price * again * near)


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
