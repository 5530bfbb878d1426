"""Find near-duplicates: a fingerprint of each image (a perceptual hash), and the pairs whose fingerprints correlate.

The fingerprint goes on from the perceptual hash (Zauner, "Implementation and benchmarking of perceptual image hash
functions", 2010), which keeps the signs of 8 × 8 low frequencies of a small grey picture. It keeps 319 frequencies, up
to 20 half waves over the picture, of a thumbnail of 32 × 32 pixels, each in three bits. Two steps make it deaf to
what pictures have in common and not to what tells them apart:

- The constant is left out, and a frequency is multiplied by its distance from it. Natural pictures fall off by just
  that much (Field, "Relations between the statistics of natural images", 1987), so all frequencies count alike, and an
  even background, a gradient of light or a vignette, which are one or two of them, count almost nothing.
- What is left is scaled to one contrast, so brightness and contrast do not count, and colour is not looked at.

Two pictures are alike if their fingerprints correlate by a threshold, as they are, mirrored or turned by quarters, or
one of them cut by a few percent. All of these are linear in the frequencies, so they are tried without the pictures.
Whether two images are alike depends on these two only, never on the others.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from thaw.data import similar_vectors
from thaw.data.similar_vectors import Pairs

Floats = NDArray[np.float32]
Levels = NDArray[np.int8]  # (n, frequencies), -3 to 3

SIDE = 32  # pixels of the thumbnail
BAND = 20  # half waves over the picture, at most
LOW, COARSE = 12, 8  # the part of them that candidates are found by
STEP = 0.5  # of a level, in standard deviations
TOP = 3  # the highest level; three bits hold -3 to 3
FAINT = 1.5  # grey levels of 256: a picture whose structure is weaker has none that a copy would keep
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

_V, _H = np.mgrid[:BAND, :BAND]  # half waves downwards, half waves to the right
_RADIUS = np.hypot(_V, _H)
_KEPT = (_RADIUS > 0) & (_RADIUS <= BAND - 0.5)
_COUNT = int(_KEPT.sum())
_DIGITS = 2 * -(-3 * _COUNT // 8)  # of the text


def _waves(places: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return the orthonormal cosines of a thumbnail at ``places`` in [0, 1], (places, count)."""
    waves: NDArray[np.float64] = np.cos(np.pi * np.outer(places, np.arange(count))) * np.sqrt(2 / SIDE)
    waves[:, 0] /= np.sqrt(2)
    return waves


_CENTRES = (np.arange(SIDE) + 0.5) / SIDE
_DCT = _waves(_CENTRES, BAND).T  # (band, side)


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
        return "0" * _DIGITS
    return _text(_levels(((_DCT @ grey @ _DCT.T) * _RADIUS)[_KEPT]))


def _levels(waves: NDArray[np.floating[Any]]) -> Levels:
    """Quantise weighted frequencies (..., count) to levels of -3 to 3."""
    deviation = np.sqrt(np.mean(np.square(waves), axis=-1, keepdims=True))
    levels: Levels = np.clip(np.rint(waves / np.maximum(deviation * STEP, 1e-9)), -TOP, TOP).astype(np.int8)
    return levels


def _text(levels: Levels) -> str:
    bits = np.unpackbits((levels + TOP + 1).astype(np.uint8)[:, None], axis=1)[:, 5:]
    return np.packbits(bits).tobytes().hex() if levels.any() else "0" * _DIGITS


def _read(texts: Sequence[str]) -> Levels:
    """Parse the texts of fingerprints → (n, count) levels."""
    if wrong := [text for text in texts if len(text) != _DIGITS]:
        raise ValueError(f"fingerprint: expected {_DIGITS} hexadecimal digits, received {wrong[0]!r}")
    packed = np.frombuffer(bytes.fromhex("".join(texts)), np.uint8).reshape(len(texts), _DIGITS // 2)
    levels = np.empty((len(texts), _COUNT), np.int8)
    for start in range(0, len(texts), BLOCK):
        bits = np.unpackbits(packed[start : start + BLOCK], axis=1)[:, : 3 * _COUNT].reshape(-1, _COUNT, 3)
        block = bits @ np.array([4, 2, 1], np.uint8)
        levels[start : start + BLOCK] = np.where(block == 0, 0, block.astype(np.int8) - TOP - 1)
    return levels


def alike(fingerprints: Sequence[str], threshold: float) -> list[tuple[int, int]]:
    """Find the pairs of near-duplicates.

    Args:
        fingerprints: of each image.
        threshold: correlation of two fingerprints, 0.5 to 1, from which they are one picture.

    Returns:
        Pairs of indices, the smaller first, sorted; of more than ``MANY`` pairs between the images of two fingerprints
        only those with the first image.

    Time goes with the square of the number of images up to 50,000, a second for 10,000; beyond with the power 1.5,
    see ``thaw.data.similar_vectors`` for what may then be missed. Memory goes with the number.
    """
    images: dict[str, list[int]] = {}
    for index, text in enumerate(fingerprints):
        images.setdefault(text, []).append(index)
    images.pop("0" * _DIGITS, None)
    texts = list(images)
    levels = _read(texts)
    pairs = {pair for own in images.values() for pair in _all(own, own)}
    for found in (_upright(levels, threshold), _turned(levels, threshold)):
        for rows, columns in found:
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
                pairs.update(_all(images[texts[row]], images[texts[column]]))
    return sorted(pairs)


def _all(ours: Sequence[int], theirs: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Return all pairs; of very many images only those with the first one, which is enough to hold them together."""
    if len(ours) * len(theirs) > MANY:
        ours, theirs = ours[:1], [*ours[1:], *theirs]
    for one, other in product(ours, theirs):
        if one != other:
            yield min(one, other), max(one, other)


# Each of the four flips keeps or turns the sign of a frequency; quarter turns also exchange its two directions.
_SIGNS = np.stack([(-1.0) ** (v * _V[_KEPT] + h * _H[_KEPT]) for v in (0, 1) for h in (0, 1)], 1).astype(np.float32)
_GRID = np.zeros((BAND, BAND), np.int64)
_GRID[_KEPT] = np.arange(_COUNT)
_EXCHANGED = _GRID.T[_KEPT]


def _upright(levels: Levels, threshold: float) -> Iterator[Pairs]:
    """Return the pairs that are alike as they are, or when something is cut off one of them."""
    coarse, norms = _coarse(levels), _norms(levels)
    waiting: list[Pairs] = []
    for rows, columns in similar_vectors.pairs(coarse, CUT):
        found = _products(levels[rows], levels[columns]) >= threshold * norms[rows] * norms[columns]
        yield rows[found], columns[found]
        waiting.append((rows[~found], columns[~found]))
        if sum(len(one) for one, _ in waiting) >= WAITING:
            yield from _left_over(levels, waiting, threshold)
            waiting = []
    if waiting:
        yield from _left_over(levels, waiting, threshold)


def _turned(levels: Levels, threshold: float) -> Iterator[Pairs]:
    """Return the pairs that are alike when one is mirrored or turned by quarters.

    Candidates are found by the lengths of a frequency together with its exchanged one, which no turn changes.
    """
    norms = _norms(levels)
    low = np.flatnonzero(_RADIUS[_KEPT] <= LOW - 0.5)
    half = low[_V[_KEPT][low] <= _H[_KEPT][low]]
    once = np.where(_EXCHANGED[half] == half, np.sqrt(0.5), 1.0).astype(np.float32)
    lengths = _unit(np.hypot(levels[:, half].astype(np.float32), levels[:, _EXCHANGED[half]]) * once)
    # Lengths are positive, so all lie in one direction: that of the mean lengths of Gaussian noise.
    noise = np.where(_EXCHANGED[half] == half, 2.0, np.pi).astype(np.float32)
    centre = CENTRE * noise / np.linalg.norm(noise)
    for rows, columns in similar_vectors.pairs(lengths, TURNED, centre, SPREAD):
        one, other = levels[rows].astype(np.float32), levels[columns].astype(np.float32)
        products = np.maximum(((one * other) @ _SIGNS).max(1), ((one * other[:, _EXCHANGED]) @ _SIGNS).max(1))
        found = products >= threshold * norms[rows] * norms[columns]
        yield rows[found], columns[found]


def _left_over(levels: Levels, waiting: Sequence[Pairs], threshold: float) -> Iterator[Pairs]:
    """Return the candidates that are alike when one is cut, by one margin after the other."""
    ones, others = (np.concatenate(side) for side in zip(*waiting, strict=True))
    rows, columns = np.concatenate([ones, others]), np.concatenate([others, ones])  # either may be the cut one
    unique, places = np.unique(columns, return_inverse=True)
    norms = _norms(levels)
    for cut in CUTS:
        starts = range(0, len(unique), BLOCK)
        blocks = [_without(levels[unique[start : start + BLOCK]], cut) for start in starts]
        left = np.concatenate([levels[:0], *blocks])
        left_norms = _norms(left)
        for start in range(0, len(rows), 4 * BLOCK):
            one, other = rows[start : start + 4 * BLOCK], places[start : start + 4 * BLOCK]
            found = _products(levels[one], left[other]) >= threshold * norms[one] * left_norms[other]
            yield one[found], columns[start : start + 4 * BLOCK][found]


def _without(levels: Levels, cut: tuple[float, float, float, float]) -> Levels:
    """Return the levels of what is left of the fingerprints' pictures when shares of them are cut off."""
    return _levels(levels.astype(np.float32) @ _cutting(cut))


@cache
def _cutting(cut: tuple[float, float, float, float]) -> Floats:
    """Return the matrix from weighted frequencies to those of what is left, (count, count)."""
    left, top, right, bottom = cut
    across = _DCT @ _waves(left + (1 - left - right) * _CENTRES, BAND)
    down = _DCT @ _waves(top + (1 - top - bottom) * _CENTRES, BAND)
    both = down[_V[_KEPT][None], _V[_KEPT][:, None]] * across[_H[_KEPT][None], _H[_KEPT][:, None]]
    weighted: Floats = (both / _RADIUS[_KEPT][:, None] * _RADIUS[_KEPT][None]).astype(np.float32)
    return weighted


def _coarse(levels: Levels) -> Floats:
    return _unit(levels[:, _RADIUS[_KEPT] <= COARSE - 0.5].astype(np.float32))


def _products(one: Levels, other: Levels) -> Floats:
    """Return the products of one row with one row each, exact: whole numbers that a float32 holds."""
    products: Floats = np.einsum("pk,pk->p", one.astype(np.float32), other.astype(np.float32))
    return products


def _norms(levels: Levels) -> NDArray[np.float64]:
    norms: NDArray[np.float64] = np.sqrt(np.square(levels, dtype=np.float32).sum(1, dtype=np.float64))
    return norms


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9).astype(np.float32)
    return unit
