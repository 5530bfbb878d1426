"""The smallest difference of two accuracies that a test of so many images can show."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

POWER = 0.8  # how often a test that can show a difference finds it, by convention (Cohen 1988)
HALVINGS = 30  # of a difference of 1: finer than any test
TAIL = 1e-9  # of the chances of counts, left out


def smallest_difference(n: int, discordant: float, confidence: float) -> float | None:
    """Return the smallest difference of two accuracies that the exact McNemar test finds four times in five.

    Args:
        n: independent images, both answered by both models.
        discordant: the share of images that only one of them gets right, as it was seen; 0 to 1. A difference needs
            at least as many, so it counts as larger where the difference is.
        confidence: above 0 and below 1; the test finds a difference at a p-value below 1 less this.

    Returns:
        0 to 1, or None where so few images can show none at all.
    """
    if not 0 < confidence < 1 or not 0 <= discordant <= 1:
        raise ValueError(
            f"power: expected a confidence within 0 to 1 and a share of images, received {confidence} and {discordant}"
        )
    if _power(n, 1.0, discordant, 1 - confidence) < POWER:
        return None
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if _power(n, middle, discordant, 1 - confidence) >= POWER else (middle, high)
    return high


def _power(n: int, difference: float, discordant: float, level: float) -> float:
    """Return how likely the exact McNemar test finds a difference."""
    if n < 1:
        return 0.0
    share = max(difference, discordant)
    # How many images tell the models apart, and how likely so many.
    spread = 7 * (n * share * (1 - share)) ** 0.5 + 7
    counts = np.arange(max(0, int(n * share - spread)), min(n, int(n * share + spread)) + 1).astype(np.float64)
    chances = _cdf(counts, n, share) - _cdf(counts - 1, n, share)
    counts, chances = counts[chances > TAIL], chances[chances > TAIL]
    # The most of them against the better model at which the test still finds the difference.
    against = np.floor(special.bdtrik(level / 2, np.maximum(counts, 1), 0.5) + 1e-9)
    against = np.where(_cdf(against, counts, 0.5) < level / 2, against, against - 1)
    better = (share + difference) / (2 * share)  # the chance that an image speaks for the better model
    found = _cdf(against, counts, 1 - better) + _cdf(against, counts, better)
    return float((chances * found).sum())


def _cdf(k: NDArray[Any], n: int | NDArray[Any], share: float) -> NDArray[np.float64]:
    """Return the binomial distribution function, also below 0 and above n."""
    n = np.broadcast_to(np.asarray(n, np.int64), np.shape(k))
    inside = special.bdtr(np.clip(k, 0, n), n, share)
    value: NDArray[np.float64] = np.where(k < 0, 0.0, np.where(k >= n, 1.0, inside))
    return value
