"""Embeddings that a phase leaves for evaluation: pooled features of training and validation images, not too many.

Embeddings are what the head sees. Phase 1's are those of the frozen backbone, phase 2's those of the fine-tuned one.
Both phases have them at hand when they end, so that evaluation needs no further pass over training images.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw import records

# Images at most: 50 MB of 1280 channels. What is fitted to so many, a linear model or a covariance, gains little more.
LIMIT = 20_000
SOME = 10  # images of a class before others have more
LARGEST = float(np.finfo(np.float16).max)


def chosen(count: int, most: int = LIMIT) -> NDArray[np.int64]:
    """Return the places of at most ``most`` of ``count`` images, evenly spread over the manifest's order."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)) if count else np.arange(0)


def by_class(labels: NDArray[np.integer[Any]], most: int = LIMIT) -> NDArray[np.int64]:
    """Return the places of at most ``most`` images: some of each class first, since one without any has no mean.

    What is left is evenly spread over all others, so that frequent classes have more. Of more classes than ``most``
    some have none.

    Args:
        labels: (images,), of all there are.
        most: images.

    Returns:
        (n,) ascending.
    """
    if len(labels) <= most:
        return np.arange(len(labels))
    order = np.argsort(labels, kind="stable")
    firsts, sizes = np.unique(labels[order], return_index=True, return_counts=True)[1:]
    each = min(SOME, most // len(sizes))
    taken = np.zeros(len(labels), np.bool_)
    for number in range(each):  # evenly spread over a class; of a small one all
        step = np.where(sizes > each, number * sizes // max(each, 1), np.minimum(number, sizes - 1))
        taken[order[firsts + step]] = True
    others = np.flatnonzero(~taken)
    taken[others[chosen(len(others), most - int(taken.sum()))]] = True
    return np.flatnonzero(taken)


def save(path: Path, images: NDArray[np.int64], chunks: Iterable[NDArray[np.floating[Any]]]) -> None:
    """Write embeddings with the places of their images: ``rows`` (n, channels) float16 and ``images`` (n,) int64.

    Args:
        path: of the .npz.
        images: (n,) places in the split, in the manifest's order.
        chunks: of embeddings, (b, channels) each, n together.
    """
    rows = np.concatenate([np.clip(chunk, -LARGEST, LARGEST).astype(np.float16) for chunk in chunks])
    records.write_arrays(path, rows=rows, images=images)
