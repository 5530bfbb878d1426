"""Find near-duplicates: the pairs of images whose fingerprints (``thaw.data.fingerprints``) correlate.

Two pictures are alike if their fingerprints correlate by a threshold, as they are, mirrored or turned by quarters, or
one of them cut by a few percent. All of these are linear in the frequencies, so they are tried without the pictures.
Whether two images are alike depends on these two only, never on the others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw.data import fingerprints, similar_vectors, text_columns
from thaw.data.fingerprints import ACROSS, BAND, CENTRES, COUNT, DCT, DOWN, KEPT, RADIUS, TOP, Levels
from thaw.data.similar_vectors import Pairs

Floats = NDArray[np.float32]

LOW, COARSE = 12, 8  # the part of them that candidates are found by
TURNED, CUT = 0.93, 0.78  # correlation of the frequencies by which candidates are found: turned ones, and all others
CENTRE, SPREAD = 0.9, 0.75  # how near the lengths of most pictures are to those of noise, and how alike the rest is
MANY = 1000  # pairs named between the images of two fingerprints
BLOCK = 2048  # fingerprints compared at once with as many others: memory, not results
WAITING = 500_000  # candidates looked at together: memory, not results


def _margins() -> list[tuple[float, float, float, float]]:
    """Return the margins that a cropped copy may have lost: left, top, right and bottom, as shares of the sides."""
    even = [(share,) * 4 for share in (0.025, 0.0125, 0.035, 0.05)]
    corners = [(x, y, share - x, share - y) for share in (0.025, 0.05) for x in (0, share) for y in (0, share)]
    sides = [tuple(0.05 * (side == other) for other in range(4)) for side in range(4)]
    return [*even, *corners, *sides]  # type: ignore[list-item]  # tuples of four


CUTS = _margins()


def alike(texts: Sequence[str], threshold: float, same: NDArray[np.int32] | None = None) -> NDArray[np.int64]:
    """Find the pairs of near-duplicates.

    Args:
        texts: the fingerprint of each image.
        threshold: correlation of two fingerprints, 0.5 to 1, from which they are one picture.
        same: from ``fingerprints.numbers``; None: it is computed.

    Returns:
        (pairs, 2) indices, the smaller first, sorted; of more than ``MANY`` pairs between the images of two
        fingerprints only those with the first image.

    Time goes with the square of the number of images up to 50,000, a second for 10,000; beyond with the power 1.5,
    see ``thaw.data.similar_vectors`` for what may then be missed. Memory goes with the number, a hundred bytes each.
    """
    column = fingerprints.packed(texts)
    same = fingerprints.numbers(column) if same is None else same
    images = np.argsort(same, kind="stable")[int((same < 0).sum()) :].astype(np.int32)
    start = np.flatnonzero(np.diff(same[images], prepend=-1))
    order = np.argsort(images[start])  # by the first image that has it
    stop = np.append(start, len(images))[order + 1].astype(np.int32)
    prints = _Prints(column, images, start[order].astype(np.int32), stop)
    found = _Found(len(column))
    for number in np.flatnonzero(prints.stop - prints.start > 1).tolist():
        found.add_all(prints.images_of(number), prints.images_of(number))
    for pairs in (_upright(prints, threshold), _turned(prints, threshold)):
        for rows, columns in pairs:
            alone = (prints.stop - prints.start)[rows] * (prints.stop - prints.start)[columns] == 1
            found.add(prints.first[rows[alone]], prints.first[columns[alone]])
            for row, column_ in zip(rows[~alone].tolist(), columns[~alone].tolist(), strict=True):
                found.add_all(prints.images_of(row), prints.images_of(column_))
    return found.pairs()


@dataclass(frozen=True)
class _Prints:
    """The fingerprints that differ, and the images of each."""

    column: text_columns.Hexes  # of each image
    images: NDArray[np.int32]  # those of one fingerprint one after the other
    start: NDArray[np.int32]  # of each fingerprint the place of its first image in ``images``
    stop: NDArray[np.int32]  # and of the one behind its last

    def __len__(self) -> int:
        return len(self.start)

    @property
    def first(self) -> NDArray[np.int32]:
        """Return the first image of each, (n,)."""
        return self.images[self.start]

    def images_of(self, number: int) -> NDArray[np.int32]:
        """Return the images of one."""
        return self.images[self.start[number] : self.stop[number]]

    def levels(self, some: slice | NDArray[np.integer[Any]]) -> Levels:
        """Return the levels of some of them, (some, frequencies)."""
        return fingerprints.parsed(self.column.some(self.images[self.start[some]]))

    def blocks(self) -> Iterator[tuple[slice, Levels]]:
        """Yield the levels of all, some at a time, with their places."""
        for start in range(0, len(self), BLOCK):
            part = slice(start, start + BLOCK)
            yield part, self.levels(part)


class _Found:
    """Pairs of images, eight bytes each."""

    def __init__(self, count: int) -> None:
        self.count, self.keys, self.waiting = max(count, 1), np.empty(0, np.int64), list[NDArray[np.int64]]()

    def add(self, ones: NDArray[np.integer[Any]], others: NDArray[np.integer[Any]]) -> None:
        """Take pairs, one with one."""
        differ = ones != others
        ones, others = ones[differ].astype(np.int64), others[differ].astype(np.int64)
        self.waiting.append(np.minimum(ones, others) * self.count + np.maximum(ones, others))
        if sum(map(len, self.waiting)) > WAITING or len(self.waiting) > WAITING // BLOCK:
            self.keys, self.waiting = np.unique(np.concatenate([self.keys, *self.waiting])), []

    def add_all(self, ours: NDArray[np.int32], theirs: NDArray[np.int32]) -> None:
        """Take all pairs; of very many images only those with the first one, which is enough to hold them together."""
        if len(ours) * len(theirs) > MANY:
            ours, theirs = ours[:1], np.concatenate([ours[1:], theirs])
        self.add(np.repeat(ours, len(theirs)), np.tile(theirs, len(ours)))

    def pairs(self) -> NDArray[np.int64]:
        """Return each pair once, the smaller image first, sorted: (pairs, 2)."""
        return np.stack(np.divmod(np.unique(np.concatenate([self.keys, *self.waiting])), self.count), axis=1)


# Each of the four flips keeps or turns the sign of a frequency; quarter turns also exchange its two directions.
_FLIPS = [(v, h) for v in (0, 1) for h in (0, 1)]
_SIGNS = np.stack([(-1.0) ** (v * DOWN[KEPT] + h * ACROSS[KEPT]) for v, h in _FLIPS], 1).astype(np.float32)
_GRID = np.zeros((BAND, BAND), np.int64)
_GRID[KEPT] = np.arange(COUNT)
_EXCHANGED = _GRID.T[KEPT]


@dataclass(frozen=True)
class _Unit:
    """Vectors of length 1, made of numbers of a byte when they are compared."""

    codes: NDArray[np.uint8]  # (n, channels)
    values: Floats  # (codes,)
    scale: Floats | float = 1.0  # (channels,)

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Floats:
        return _unit(self.values[self.codes[rows]] * self.scale)


def _upright(prints: _Prints, threshold: float) -> Iterator[Pairs]:
    """Return the pairs that are alike as they are, or when something is cut off one of them."""
    low = np.flatnonzero(RADIUS[KEPT] <= COARSE - 0.5)
    coarse, norms = np.empty((len(prints), len(low)), np.uint8), np.empty(len(prints), np.float32)
    for part, levels in prints.blocks():
        coarse[part], norms[part] = levels[:, low] + TOP, _squares(levels)
    every = np.arange(-TOP, TOP + 1, dtype=np.float32)
    waiting: list[Pairs] = []
    for rows, columns in similar_vectors.pairs(_Unit(coarse, every), CUT):
        products = _products(prints.levels(rows), prints.levels(columns))
        found = products >= threshold * _lengths(norms[rows]) * _lengths(norms[columns])
        yield rows[found], columns[found]
        waiting.append((rows[~found], columns[~found]))
        if sum(len(one) for one, _ in waiting) >= WAITING:
            yield from _left_over(prints, waiting, threshold)
            waiting = []
    if waiting:
        yield from _left_over(prints, waiting, threshold)


def _turned(prints: _Prints, threshold: float) -> Iterator[Pairs]:
    """Return the pairs that are alike when one is mirrored or turned by quarters.

    Candidates are found by the lengths of a frequency together with its exchanged one, which no turn changes.
    """
    low = np.flatnonzero(RADIUS[KEPT] <= LOW - 0.5)
    half = low[DOWN[KEPT][low] <= ACROSS[KEPT][low]]
    squares = np.empty((len(prints), len(half)), np.uint8)
    for part, levels in prints.blocks():
        squares[part] = levels[:, half] ** 2 + levels[:, _EXCHANGED[half]] ** 2
    once = np.where(_EXCHANGED[half] == half, np.sqrt(0.5), 1.0).astype(np.float32)
    every = np.sqrt(np.arange(2 * TOP**2 + 1, dtype=np.float32))
    # Lengths are positive, so all lie in one direction: that of the mean lengths of Gaussian noise.
    noise = np.where(_EXCHANGED[half] == half, 2.0, np.pi).astype(np.float32)
    centre = CENTRE * noise / np.linalg.norm(noise)
    for rows, columns in similar_vectors.pairs(_Unit(squares, every, once), TURNED, centre, SPREAD):
        one, other = prints.levels(rows).astype(np.float32), prints.levels(columns).astype(np.float32)
        products = np.maximum(((one * other) @ _SIGNS).max(1), ((one * other[:, _EXCHANGED]) @ _SIGNS).max(1))
        found = products >= threshold * _lengths(_squares(one)) * _lengths(_squares(other))
        yield rows[found], columns[found]


def _left_over(prints: _Prints, waiting: Sequence[Pairs], threshold: float) -> Iterator[Pairs]:
    """Return the candidates that are alike when one is cut, by one margin after the other."""
    ones, others = (np.concatenate(side) for side in zip(*waiting, strict=True))
    rows, columns = np.concatenate([ones, others]), np.concatenate([others, ones])  # either may be the cut one
    order = np.argsort(columns, kind="stable")
    rows, columns = rows[order], columns[order]
    unique = np.unique(columns)
    for start in range(0, len(unique), BLOCK):
        some = unique[start : start + BLOCK]
        own = slice(*np.searchsorted(columns, [some[0], some[-1] + 1]))
        levels, places = prints.levels(some), np.searchsorted(some, columns[own])
        for first in range(0, len(places), BLOCK):
            part = slice(first, first + BLOCK)
            one = prints.levels(rows[own][part])
            for cut in CUTS:
                left = _without(levels, cut)
                lengths = _lengths(_squares(one)) * _lengths(_squares(left))[places[part]]
                found = _products(one, left[places[part]]) >= threshold * lengths
                yield rows[own][part][found], columns[own][part][found]


def _without(levels: Levels, cut: tuple[float, float, float, float]) -> Levels:
    """Return the levels of what is left of the fingerprints' pictures when shares of them are cut off."""
    return fingerprints.levels_of(levels.astype(np.float32) @ _cutting(cut))


@cache
def _cutting(cut: tuple[float, float, float, float]) -> Floats:
    """Return the matrix from weighted frequencies to those of what is left, (count, count)."""
    left, top, right, bottom = cut
    across = DCT @ fingerprints.waves(left + (1 - left - right) * CENTRES, BAND)
    down = DCT @ fingerprints.waves(top + (1 - top - bottom) * CENTRES, BAND)
    both = down[DOWN[KEPT][None], DOWN[KEPT][:, None]] * across[ACROSS[KEPT][None], ACROSS[KEPT][:, None]]
    weighted: Floats = (both / RADIUS[KEPT][:, None] * RADIUS[KEPT][None]).astype(np.float32)
    return weighted


def _products(one: Levels, other: Levels) -> Floats:
    """Return the products of one row with one row each, exact: whole numbers that a float32 holds."""
    products: Floats = np.einsum("pk,pk->p", one.astype(np.float32), other.astype(np.float32))
    return products


def _squares(levels: Levels | Floats) -> Floats:
    """Return the sums of squares, (n,): whole numbers that a float32 holds."""
    squares: Floats = np.square(levels, dtype=np.float32).sum(1)
    return squares


def _lengths(squares: Floats) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.sqrt(squares.astype(np.float64))
    return lengths


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9).astype(np.float32)
    return unit
