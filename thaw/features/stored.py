"""How an image's activations are stored: as float16, or as int8 with a scale a channel, in about half the bytes.

A scale is that of one channel of one image, so what is stored of an image depends on no other. The scales come first:

    float16   the values, 2 bytes each
    int8      a scale a channel, 2 bytes each; then the values divided by it and rounded, -127 to 127, a byte each
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOAT16, INT8 = "float16", "int8"
KINDS = (FLOAT16, INT8)
LEVELS = 127
LARGEST = np.float16(515.5)  # scale, of which 127 are still in the range of float16

Halves = NDArray[np.float16]
Bytes = NDArray[np.uint8]


def of(kind: str, shape: Sequence[int]) -> str:
    """Return how activations of a shape are stored: pooled features, one value a channel, always as float16."""
    return kind if len(shape) > 1 else FLOAT16


def size(kind: str, shape: Sequence[int]) -> int:
    """Return the bytes of an image's activations."""
    count = int(np.prod(shape))
    return 2 * count if kind == FLOAT16 else 2 * shape[-1] + count


def encoded(kind: str, values: Halves) -> Bytes:
    """Return what is stored of some images: (n, *shape) float16 → (n, bytes) uint8.

    Args:
        kind: one of ``KINDS``.
        values: finite, the channels last.
    """
    values = np.ascontiguousarray(values, np.float16)
    if kind == FLOAT16:
        return values.reshape(len(values), int(np.prod(values.shape[1:]))).view(np.uint8)
    if not len(values):
        return np.zeros((0, size(kind, values.shape[1:])), np.uint8)
    wide = values.reshape(len(values), -1, values.shape[-1]).astype(np.float32)
    scales = np.minimum((np.abs(wide).max(axis=1) / LEVELS).astype(np.float16), LARGEST)
    divisors = np.where(scales == 0, np.float16(1), scales).astype(np.float32)[:, None]
    levels = np.rint(wide / divisors).clip(-LEVELS, LEVELS).astype(np.int8)
    return np.concatenate([scales.view(np.uint8), levels.reshape(len(values), -1).view(np.uint8)], axis=1)


def decoded(kind: str, rows: Bytes, shape: Sequence[int]) -> NDArray[Any]:
    """Return the activations that are stored: (n, bytes) uint8 → (n, *shape), float16 or of int8 float32."""
    rows = np.ascontiguousarray(rows)
    if kind == FLOAT16:
        return rows.view(np.float16).reshape(len(rows), *shape)
    scales = np.ascontiguousarray(rows[:, : 2 * shape[-1]]).view(np.float16).astype(np.float32)
    levels = rows[:, 2 * shape[-1] :].view(np.int8).reshape(len(rows), int(np.prod(shape[:-1])), shape[-1])
    return (levels * scales[:, None]).reshape(len(rows), *shape)
