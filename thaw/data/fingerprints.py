"""Make the fingerprint of an image, a perceptual hash: what a copy has in common with it, and others have not.

It goes on from the perceptual hash (Zauner, "Implementation and benchmarking of perceptual image hash functions",
2010), which keeps the signs of 8 × 8 low frequencies of a small grey picture. It keeps 319 frequencies, up to 20 half
waves over the picture, of a thumbnail of 32 × 32 pixels, each in three bits. Two steps make it deaf to what pictures
have in common and not to what tells them apart:

- The constant is left out, and a frequency is multiplied by its distance from it. Natural pictures fall off by just
  that much (Field, "Relations between the statistics of natural images", 1987), so all frequencies count alike, and an
  even background, a gradient of light or a vignette, which are one or two of them, count almost nothing.
- What is left is scaled to one contrast, so brightness and contrast do not count, and colour is not looked at.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from thaw.data import text_columns

Levels = NDArray[np.int8]  # (n, frequencies), -3 to 3

SIDE = 32  # pixels of the thumbnail
BAND = 20  # half waves over the picture, at most
STEP = 0.5  # of a level, in standard deviations
TOP = 3  # the highest level; three bits hold -3 to 3
FAINT = 1.5  # grey levels of 256: a picture whose structure is weaker has none that a copy would keep

DOWN, ACROSS = np.mgrid[:BAND, :BAND]  # half waves downwards, half waves to the right
RADIUS = np.hypot(DOWN, ACROSS)
KEPT = (RADIUS > 0) & (RADIUS <= BAND - 0.5)
COUNT = int(KEPT.sum())
DIGITS = 2 * -(-3 * COUNT // 8)  # of the text


def waves(places: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return the orthonormal cosines of a thumbnail at ``places`` in [0, 1], (places, count)."""
    waves: NDArray[np.float64] = np.cos(np.pi * np.outer(places, np.arange(count))) * np.sqrt(2 / SIDE)
    waves[:, 0] /= np.sqrt(2)
    return waves


CENTRES = (np.arange(SIDE) + 0.5) / SIDE
DCT = waves(CENTRES, BAND).T  # (band, side)


def fingerprint(image: Image.Image) -> str:
    """Return the fingerprint of an image, as text.

    Args:
        image: upright, RGB.

    Returns:
        240 hexadecimal digits; all zero if there is nothing to see, as on a blank page.
    """
    box = Image.Resampling.BOX if min(image.size) >= SIDE else Image.Resampling.BILINEAR
    grey = np.asarray(image.resize((SIDE, SIDE), box, reducing_gap=2.0).convert("L"), np.float64)
    if grey.std() < FAINT:
        return "0" * DIGITS
    return _text(levels_of(((DCT @ grey @ DCT.T) * RADIUS)[KEPT]))


def levels_of(waves: NDArray[np.floating[Any]]) -> Levels:
    """Quantise weighted frequencies (..., count) to levels of -3 to 3."""
    deviation = np.sqrt(np.mean(np.square(waves), axis=-1, keepdims=True))
    levels: Levels = np.clip(np.rint(waves / np.maximum(deviation * STEP, 1e-9)), -TOP, TOP).astype(np.int8)
    return levels


def _text(levels: Levels) -> str:
    bits = np.unpackbits((levels + TOP + 1).astype(np.uint8)[:, None], axis=1)[:, 5:]
    return np.packbits(bits).tobytes().hex() if levels.any() else "0" * DIGITS


def _fours() -> NDArray[np.int32]:
    """Return four levels in one number, by the twelve bits that they have in a fingerprint, (4096,)."""
    block = np.arange(4096)[:, None] >> np.array([9, 6, 3, 0]) & 7
    levels = np.where(block == 0, 0, block - TOP - 1).astype(np.int8)
    return np.ascontiguousarray(levels).view(np.int32)[:, 0]


_FOURS = _fours()


def parsed(values: text_columns.Bytes) -> Levels:
    """Return the levels of fingerprints, (n, count), whose texts stand for these bytes."""
    threes = values.reshape(len(values), -1, 3).astype(np.uint16)  # bytes of eight levels
    twelve = np.empty((len(values), threes.shape[1], 2), np.uint16)
    twelve[..., 0] = threes[..., 0] << 4 | threes[..., 1] >> 4
    twelve[..., 1] = (threes[..., 1] & 15) << 8 | threes[..., 2]
    levels: Levels = _FOURS[twelve].view(np.int8).reshape(len(values), -1)[:, :COUNT]
    return levels


def products(one: Levels, other: Levels) -> NDArray[np.float32]:
    """Return the products of one row with one row each, exact: whole numbers that a float32 holds."""
    found: NDArray[np.float32] = np.einsum("pk,pk->p", one.astype(np.float32), other.astype(np.float32))
    return found


def lengths(levels: Levels) -> NDArray[np.float64]:
    """Return the lengths of rows of levels, (n,)."""
    squares = np.square(levels, dtype=np.float32).sum(1)  # whole numbers that a float32 holds
    found: NDArray[np.float64] = np.sqrt(squares.astype(np.float64))
    return found


def packed(texts: Sequence[str]) -> text_columns.Hexes:
    """Return fingerprints as a column of bytes; such as are one already are as they are.

    Raises:
        ValueError: one is none.
    """
    if isinstance(texts, text_columns.Hexes):
        wrong = texts[:1] if len(texts) and 2 * texts.width != DIGITS else []
    else:
        wrong = [text for text in texts if len(text) != DIGITS]
    if wrong:
        raise ValueError(f"fingerprint: expected {DIGITS} hexadecimal digits, received {wrong[0]!r}")
    return texts if isinstance(texts, text_columns.Hexes) else text_columns.Hexes(texts)


def numbers(texts: Sequence[str]) -> NDArray[np.int32]:
    """Return a number for each fingerprint, the same for equal ones, and -1 where there is nothing to see: (n,)."""
    column = packed(texts)
    # Of the bits a hash of 64: two that differ have the same once in thirty million times a million fingerprints.
    keys = np.zeros(len(column), np.uint64)
    for start, block in column.blocks():
        digests = (hashlib.blake2b(row, digest_size=8).digest() if row.any() else bytes(8) for row in block)
        keys[start : start + len(block)] = np.frombuffer(b"".join(digests), np.uint64)
    found = np.unique(keys, return_inverse=True)[1].astype(np.int32)
    found[keys == 0] = -1
    return found
