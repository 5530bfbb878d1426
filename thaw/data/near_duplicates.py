"""Find near-duplicates: the pairs of images whose fingerprints (``thaw.data.fingerprints``) correlate.

Two pictures are alike if their fingerprints correlate by a threshold, as they are, mirrored or turned by quarters, or
one of them cut by a few percent. All of these are linear in the frequencies, so they are tried without the pictures.
Whether two images are alike depends on these two only, never on the others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw.data import cuts, fingerprints, similar_vectors, text_columns
from thaw.data.fingerprints import ACROSS, BAND, COUNT, DOWN, KEPT, RADIUS, TOP, Levels
from thaw.data.similar_vectors import Pairs

Floats = NDArray[np.float32]

LOW, COARSE = 11.5, 7.5  # frequencies up to there: candidates are found by their lengths, and as they lie
TURNED, CUT = 0.93, 0.78  # correlation of the frequencies by which candidates are found: turned ones, and all others
CENTRE, SPREAD = 0.9, 0.75  # how near the lengths of most pictures are to those of noise, and how alike the rest is
MANY = 1000  # pairs named between the images of two fingerprints
LIKELY = 0.6  # correlation of the coarse frequencies from which turned candidates are looked at as a whole
BLOCK = 2048  # fingerprints compared at once: memory, not results
WAITING = 500_000  # pairs that wait to be made one: memory, not results


def alike(texts: Sequence[str], threshold: float, same: NDArray[np.int32] | None = None) -> NDArray[np.int64]:
    """Find the pairs of near-duplicates.

    Args:
        texts: the fingerprint of each image.
        threshold: correlation of two fingerprints, 0.5 to 1, from which they are one picture.
        same: from ``fingerprints.numbers``; None: it is computed.

    Returns:
        (pairs, 2) indices, the smaller first, sorted; of more than ``MANY`` pairs between the images of two
        fingerprints only those with the first image.

    Time goes with the square of the number of images up to 50,000, a second for 10,000; beyond with a smaller power,
    see ``thaw.data.similar_vectors`` for when, and for what may then be missed. Of images of one kind, all alike from
    afar, the pairs that are looked at closely go with the square too. Memory goes with the number, a hundred bytes
    each.
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

    def bytes_of(self, some: slice | NDArray[np.integer[Any]]) -> text_columns.Bytes:
        """Return some of them as bytes, (some, width)."""
        return self.column.some(self.images[self.start[some]])

    def blocks(self) -> Iterator[tuple[slice, Levels]]:
        """Yield the levels of all, some at a time, with their places."""
        for start in range(0, len(self), BLOCK):
            part = slice(start, start + BLOCK)
            yield part, fingerprints.parsed(self.bytes_of(part))


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
    """Vectors of length 1, two channels of which are a byte until they are compared."""

    codes: NDArray[np.uint8]  # (n, channels / 2)
    values: Floats  # (numbers,) that a channel has, 16 at most
    channels: int
    scale: Floats | float = 1.0  # (channels,)

    @classmethod
    def empty(cls, count: int, channels: int, values: Floats, scale: Floats | float = 1.0) -> "_Unit":
        """Return such whose numbers are to be put in."""
        return cls(np.empty((count, -(-channels // 2)), np.uint8), values, channels, scale)

    def put(self, rows: slice, numbers: NDArray[np.integer[Any]]) -> None:
        """Take the channels of some vectors, as places in ``values``: (rows, channels)."""
        even = np.zeros((len(numbers), 2 * self.codes.shape[1]), np.uint8)
        even[:, : self.channels] = numbers
        self.codes[rows] = even[:, ::2] * len(self.values) + even[:, 1::2]

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Floats:
        both = self._pairs[self.codes[rows]].view(np.float32)
        return _unit(both[:, : self.channels] * self.scale)

    @cached_property
    def _pairs(self) -> NDArray[np.float64]:
        """Return the two values that a byte stands for, side by side, (bytes,)."""
        return np.stack([np.repeat(self.values, len(self.values)), np.tile(self.values, len(self.values))], 1).view(
            np.float64
        )[:, 0]


def _up_to(prints: _Prints, radius: float) -> _Unit:
    """Return the frequencies up to ``radius``, at length 1."""
    low = np.flatnonzero(RADIUS[KEPT] <= radius)
    found = _Unit.empty(len(prints), len(low), np.arange(-TOP, TOP + 1, dtype=np.float32))
    for part, levels in prints.blocks():
        found.put(part, levels[:, low] + TOP)
    return found


def _upright(prints: _Prints, threshold: float) -> Iterator[Pairs]:
    """Return the pairs that are alike as they are, or when something is cut off one of them."""
    for rows, columns in similar_vectors.pairs(_up_to(prints, COARSE), CUT):
        once, places = np.unique(np.concatenate([rows, columns]), return_inverse=True)
        own, one, other = prints.bytes_of(once), places[: len(rows)], places[len(rows) :]
        found = np.zeros(len(rows), np.bool_)
        for start in range(0, len(rows), BLOCK):
            part = slice(start, start + BLOCK)
            ours, theirs = fingerprints.parsed(own[one[part]]), fingerprints.parsed(own[other[part]])
            lengths = fingerprints.lengths(ours) * fingerprints.lengths(theirs)
            found[part] = fingerprints.products(ours, theirs) >= threshold * lengths
        left = np.flatnonzero(~found)
        found[left] = cuts.alike(own, one[left], other[left], threshold)
        yield rows[found], columns[found]


def _turned(prints: _Prints, threshold: float) -> Iterator[Pairs]:
    """Return the pairs that are alike when one is mirrored or turned by quarters.

    Candidates are found by the lengths of a frequency together with its exchanged one, which no turn changes. Lengths
    of other pictures are much alike too, so the coarse frequencies are compared before, in all eight positions.
    """
    low = np.flatnonzero(RADIUS[KEPT] <= LOW)
    half = low[DOWN[KEPT][low] <= ACROSS[KEPT][low]]
    squares = np.unique(np.add.outer(np.arange(TOP + 1) ** 2, np.arange(TOP + 1) ** 2))  # of two levels
    once = np.where(_EXCHANGED[half] == half, np.sqrt(0.5), 1.0).astype(np.float32)
    lengths = _Unit.empty(len(prints), len(half), np.sqrt(squares, dtype=np.float32), once)
    for part, levels in prints.blocks():
        lengths.put(part, np.searchsorted(squares, levels[:, half] ** 2 + levels[:, _EXCHANGED[half]] ** 2))
    # Lengths are positive, so all lie in one direction: that of the mean lengths of Gaussian noise.
    noise = np.where(_EXCHANGED[half] == half, 2.0, np.pi).astype(np.float32)
    centre = CENTRE * noise / np.linalg.norm(noise)
    coarse = np.flatnonzero(RADIUS[KEPT] <= COARSE)
    second = similar_vectors.Second(
        _up_to(prints, COARSE),
        lambda one, other: _in_eight(one, other, coarse) >= LIKELY,  # of length 1
    )
    for rows, columns in similar_vectors.pairs(lengths, TURNED, centre, SPREAD, second):
        for start in range(0, len(rows), BLOCK):
            part = slice(start, start + BLOCK)
            one, other = (fingerprints.parsed(prints.bytes_of(side[part])) for side in (rows, columns))
            products = _in_eight(one.astype(np.float32), other.astype(np.float32), np.arange(COUNT))
            found = products >= threshold * fingerprints.lengths(one) * fingerprints.lengths(other)
            yield rows[part][found], columns[part][found]


def _in_eight(one: Floats, other: Floats, places: NDArray[np.int64]) -> Floats:
    """Return the largest product of one row with one row each, that is turned to each of the eight positions.

    Args:
        one: (n, frequencies) some of all, and with each the exchanged one.
        other: as many.
        places: of these frequencies among all.
    """
    signs, exchanged = _SIGNS[places], np.searchsorted(places, _EXCHANGED[places])
    products: Floats = np.maximum(((one * other) @ signs).max(1), ((one * other[:, exchanged]) @ signs).max(1))
    return products


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9).astype(np.float32)
    return unit
