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
LARGEST = float(np.finfo(np.float16).max)


def chosen(count: int, most: int = LIMIT) -> NDArray[np.int64]:
    """Return the places of at most ``most`` of ``count`` images, evenly spread over the manifest's order."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)) if count else np.arange(0)


def save(path: Path, images: NDArray[np.int64], chunks: Iterable[NDArray[np.floating[Any]]]) -> None:
    """Write embeddings with the places of their images: ``rows`` (n, channels) float16 and ``images`` (n,) int64.

    Args:
        path: of the .npz.
        images: (n,) places in the split, in the manifest's order.
        chunks: of embeddings, (b, channels) each, n together.
    """
    rows = np.concatenate([np.clip(chunk, -LARGEST, LARGEST).astype(np.float16) for chunk in chunks])
    records.write_arrays(path, rows=rows, images=images)
