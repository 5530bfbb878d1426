"""Clusters of images: images joined by pairs and by words that they share, such as near-duplicates and groups."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from thaw.data import text_columns

Links = Sequence[tuple[int, int]] | NDArray[np.integer[Any]]  # indices of images that belong together, (pairs, 2)
Keys = Sequence[Sequence[str] | NDArray[np.integer[Any]]]  # for each image a word or the number of one


def pairs(links: Links) -> NDArray[np.int64]:
    """Return links as an array, (pairs, 2)."""
    return np.asarray(links, np.int64).reshape(-1, 2)


def joined(
    count: int, links: Links = (), keys: Keys = (), among: Sequence[bool] | NDArray[np.bool_] | None = None
) -> NDArray[np.int32]:
    """Return for each of ``count`` images the index of the first image of its cluster, (count,).

    Args:
        links: pairs that belong together.
        keys: lists with a word for each image; those with the same word belong together. An empty one says nothing,
            nor does a number below 0.
        among: which images count, (count,). The others are clusters of their own, and hold nobody together.
    """
    counted = np.ones(count, np.bool_) if among is None else np.asarray(among, np.bool_)
    found = pairs(links)
    edges = [found[counted[found].all(axis=1)]]
    edges += [_with_the_first(text_columns.numbers(words), counted) for words in keys]
    ones, others = np.concatenate(edges).T
    graph = coo_array((np.ones(len(ones), np.bool_), (ones, others)), (count, count))
    components = connected_components(graph, directed=False)[1] if len(ones) else np.arange(count, dtype=np.int32)
    firsts: NDArray[np.int32] = first(components)[components]
    return firsts


def first(numbers: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
    """Return the first place of each number from 0 on, (numbers,); where there is none, how many places there are."""
    places = np.full(int(numbers.max(initial=-1)) + 1, len(numbers), np.int32)
    known = np.flatnonzero(numbers >= 0)[::-1].astype(np.int32)
    places[numbers[known]] = known  # the last that is written stays, which is the first
    return places


def _with_the_first(numbers: NDArray[np.int32], counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the pairs of each image with the first one of its number, where that is another."""
    own = np.where(counted, numbers, np.int32(-1))
    others = np.flatnonzero(own >= 0)
    ones = first(own)[own[others]]
    other = ones != others
    return np.stack([ones[other], others[other]], axis=1).astype(np.int64)


def torn(contents: NDArray[np.int32], labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return of which images the content carries more than one label.

    Args:
        contents, labels: the numbers of each image's, (n,), from 0 on.
    """
    kinds = np.zeros(int(contents.max(initial=-1)) + 1, np.bool_)
    kinds[contents[labels[first(contents)[contents]] != labels]] = True
    return kinds[contents]
