"""A map of the test images: their embeddings on the two directions in which these vary most (PCA)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import svds
from threadpoolctl import threadpool_limits

from thaw import paths, records

SIDE = 1000  # places of a coordinate


@threadpool_limits.wrap(limits=1)  # type: ignore[untyped-decorator]  # the last bits go by the number of threads
def project(embeddings: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], list[float]]:
    """Return the two principal components of embeddings (Pearson 1901), and what share of the variance each has.

    Args:
        embeddings: (images, channels) float.

    Returns:
        (images, 2) float64, the first component first; its sign is such that the largest channel counts as positive.
        The shares are 0 where all images are alike. Fewer than three images or channels have no map: all is 0.
    """
    centred = np.asarray(embeddings, np.float64)
    centred = centred - centred.mean(axis=0)
    total = float((centred**2).sum())
    if min(centred.shape) < 3 or total == 0:
        return np.zeros((len(centred), 2)), [0.0, 0.0]
    # Two of a thousand components, so not all are computed. A fixed start, for the same bytes each time; not all ones,
    # to which centred images are orthogonal where they are fewer than the channels.
    start = np.random.default_rng(0).standard_normal(min(centred.shape))
    left, sizes, right = svds(centred, k=2, v0=start)
    order = np.argsort(-sizes)
    left, sizes, right = left[:, order], sizes[order], right[order]
    signs = np.sign(right[np.arange(2), np.abs(right).argmax(axis=1)])
    return left * sizes * signs, [float(share) for share in sizes**2 / total]


def write(embeddings: NDArray[np.floating[Any]], images: Sequence[int] | NDArray[np.integer[Any]]) -> None:
    """Write the map of test images: ``x`` and ``y`` from 0 to ``SIDE``, and ``explained``, the share of each axis.

    Args:
        embeddings: (n, channels) float, the pooled features of the model to ship.
        images: (n,) their places among the test images.
    """
    places, explained = project(embeddings)
    low, high = places.min(axis=0), places.max(axis=0)
    span = max(float((high - low).max()), np.finfo(np.float64).tiny)
    whole = np.rint((places - (low + high) / 2) / span * SIDE + SIDE / 2).astype(int)
    coordinates = {"x": whole[:, 0].tolist(), "y": whole[:, 1].tolist()}
    found = {"images": [int(each) for each in images], "explained": [round(each, 4) for each in explained]}
    records.write_json(paths.EMBEDDING_MAP, coordinates | found)


def spread(count: int, most: int) -> NDArray[np.int64]:
    """Return the places of at most so many of ``count`` images, evenly spread over the manifest's order."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
