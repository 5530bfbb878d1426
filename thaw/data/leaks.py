"""Leaks between splits: the same bytes, near-duplicates or a group in two of them; none where all is drawn at once."""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw.data import clusters, placement, text_columns, units
from thaw.data.placement import LEFT_OUT, NUMBERS
from thaw.paths import SPLITS


def contents(hashes: Sequence[str], divided: Sequence[str]) -> dict[str, int]:
    """Return how many contents each pair of splits has in common; 0 unless the splits came with the images."""
    numbers, placed = text_columns.numbers(hashes), placement.splits(divided, none=NUMBERS[LEFT_OUT])
    held = np.zeros((len(SPLITS) + 1, int(numbers.max(initial=-1)) + 1), np.bool_)
    held[placed, numbers] = True
    return {
        f"{one}_{other}": int((held[NUMBERS[one]] & held[NUMBERS[other]]).sum())
        for one, other in combinations(SPLITS, 2)
    }


def pairs(divided: Sequence[str], links: clusters.Links = (), keys: clusters.Keys = ()) -> NDArray[np.int64]:
    """Return the pairs of images in two splits that belong together, (pairs, 2), sorted.

    Of those with the same word each is named with the first of every other split, or a large group would fill a disk.
    """
    placed = placement.splits(divided, none=NUMBERS[LEFT_OUT])
    there = placed != NUMBERS[LEFT_OUT]
    linked = clusters.pairs(links)
    found = [linked[(placed[linked[:, 0]] != placed[linked[:, 1]]) & there[linked].all(axis=1)]]
    for words in keys:
        numbers = text_columns.numbers(words)
        own = np.where(there, numbers, np.int32(-1))
        for split in range(len(SPLITS)):
            first = clusters.first(np.where(placed == split, own, np.int32(-1)))
            index = np.flatnonzero((own >= 0) & (placed != split))
            index = index[own[index] < len(first)]
            other = first[own[index]]
            index, other = index[other < len(own)], other[other < len(own)]
            found.append(np.stack([np.minimum(index, other), np.maximum(index, other)], axis=1))
    return np.unique(np.concatenate(found), axis=0).astype(np.int64)


def linked(
    unit: Sequence[int] | NDArray[np.integer[Any]], divided: Sequence[str], listed: clusters.Links
) -> NDArray[np.int64]:
    """Return a pair for each leaked image that the others do not name: with the first image that it leaks from.

    Both belong together by way of other images alone, such as one in no split.

    Args:
        unit: of each image.
        listed: the pairs of ``pairs``.
    """
    own, placed = np.asarray(unit), placement.splits(divided, none=NUMBERS[LEFT_OUT])
    named, named_in = np.zeros(len(own), np.bool_), clusters.pairs(listed)
    for held, other in (named_in.T, named_in.T[::-1]):
        for split, sources in units.LEARNT_FROM.items():
            learnt = np.isin(placed[other], [NUMBERS[source] for source in sources])
            named[held[(placed[held] == NUMBERS[split]) & learnt]] = True
    leaked = units.leaked(own, divided) & ~named
    if not leaked.any():
        return np.empty((0, 2), np.int64)
    firsts = {split: clusters.first(np.where(placed == NUMBERS[split], own, -1)) for split in SPLITS}
    found = []
    for index in np.flatnonzero(leaked).tolist():
        learnt_from = (firsts[split] for split in units.LEARNT_FROM[divided[index]])
        others = (first[own[index]] for first in learnt_from if own[index] < len(first))
        other = next(int(other) for other in others if other < len(own))
        found.append((min(index, other), max(index, other)))
    return np.array(found, np.int64)


def expected(whole: Sequence[int] | NDArray[np.integer[Any]], *, val: float, test: float) -> float:
    """Return how many held-out images would on average have a copy in training if each image were drawn by itself.

    Args:
        whole: the cluster of each image.
        val, test: shares of the images.
    """
    sizes, numbers = np.unique(np.unique(np.asarray(whole), return_counts=True)[1], return_counts=True)
    return math.fsum(
        number * size * (val + test) * (1 - (val + test) ** (size - 1))
        for size, number in zip(sizes.tolist(), numbers.tolist(), strict=True)
    )
