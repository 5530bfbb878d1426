"""Tell whether two fingerprints are of one picture when something is cut off one of them, by a few percent of a side.

A cut is linear in the frequencies, so the fingerprint of what is left is made without the picture. To make all of it
for each cut takes long. So the frequencies up to ``MIDDLE`` are made first, of those up to ``WIDER``, and all
only where these agree. Fine frequencies of a copy suffer more than they do, so what agrees as a whole agrees there.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from thaw.data import fingerprints
from thaw.data.fingerprints import ACROSS, BAND, CENTRES, DCT, DOWN, KEPT, RADIUS, Levels
from thaw.data.text_columns import Bytes

Floats = NDArray[np.float32]
Cut = tuple[float, float, float, float]  # left, top, right and bottom, as shares of the sides

MIDDLE, WIDER = 11.5, 14.5  # half waves over the picture
LESS = 0.15  # below the threshold, where the middle frequencies must correlate at least
BLOCK = 2048  # pairs compared at once: memory, not results


def _margins() -> list[Cut]:
    """Return the margins that a cropped copy may have lost."""
    even = [(share,) * 4 for share in (0.025, 0.0125, 0.035, 0.05)]
    corners = [(x, y, share - x, share - y) for share in (0.025, 0.05) for x in (0, share) for y in (0, share)]
    sides = [tuple(0.05 * (side == other) for other in range(4)) for side in range(4)]
    return [*even, *corners, *sides]  # type: ignore[list-item]  # tuples of four


CUTS = _margins()


def alike(prints: Bytes, one: NDArray[np.int64], other: NDArray[np.int64], threshold: float) -> NDArray[np.bool_]:
    """Return which pairs are alike when one is cut, by one margin after the other, (pairs,).

    Args:
        prints: fingerprints as bytes, (n, width).
        one: rows of these, (pairs,).
        other: as many rows.
        threshold: correlation from which they are alike.
    """
    found = np.zeros(len(one), np.bool_)
    for whole, cut in ((one, other), (other, one)):  # either may be the cut one
        order = np.argsort(cut, kind="stable")
        for start in range(0, len(order), BLOCK):
            some = order[start : start + BLOCK]
            some = some[~found[some]]
            if len(some):
                once, places = np.unique(cut[some], return_inverse=True)
                found[some] = _alike(fingerprints.parsed(prints[whole[some]]), prints[once], places, threshold)
    return found


def _alike(whole: Levels, prints: Bytes, places: NDArray[np.int64], threshold: float) -> NDArray[np.bool_]:
    """Return which of the pictures are alike with what is left of that at their place, (pictures,)."""
    levels = fingerprints.parsed(prints)
    middle, wider = (np.flatnonzero(RADIUS[KEPT] <= radius) for radius in (MIDDLE, WIDER))
    coarse, given = whole[:, middle].astype(np.float32), levels[:, wider].astype(np.float32)
    least = (threshold - LESS) * np.linalg.norm(coarse, axis=1)
    found = np.zeros(len(whole), np.bool_)
    for cut in CUTS:
        left = given @ _part_of_cutting(cut)
        likely = np.einsum("pk,pk->p", coarse, left[places]) >= least * np.linalg.norm(left, axis=1)[places]
        at = np.flatnonzero(likely & ~found)
        if len(at):
            once, own = np.unique(places[at], return_inverse=True)
            rest = without(levels[once], cut)
            lengths = fingerprints.lengths(whole[at]) * fingerprints.lengths(rest)[own]
            found[at] = fingerprints.products(whole[at], rest[own]) >= threshold * lengths
    return found


def without(levels: Levels, cut: Cut) -> Levels:
    """Return the levels of what is left of the fingerprints' pictures when shares of them are cut off."""
    return fingerprints.levels_of(levels.astype(np.float32) @ _cutting(cut))


@cache
def _cutting(cut: Cut) -> Floats:
    """Return the matrix from weighted frequencies to those of what is left, (count, count)."""
    left, top, right, bottom = cut
    across = DCT @ fingerprints.waves(left + (1 - left - right) * CENTRES, BAND)
    down = DCT @ fingerprints.waves(top + (1 - top - bottom) * CENTRES, BAND)
    both = down[DOWN[KEPT][None], DOWN[KEPT][:, None]] * across[ACROSS[KEPT][None], ACROSS[KEPT][:, None]]
    weighted: Floats = (both / RADIUS[KEPT][:, None] * RADIUS[KEPT][None]).astype(np.float32)
    return weighted


@cache
def _part_of_cutting(cut: Cut) -> Floats:
    """Return the part of it that makes the middle frequencies of a few more."""
    whole = _cutting(cut)
    return np.ascontiguousarray(whole[np.ix_(RADIUS[KEPT] <= WIDER, RADIUS[KEPT] <= MIDDLE)])
