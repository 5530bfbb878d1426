"""Confidence intervals of an accuracy and of a difference, and paired tests, for images that need not be independent.

Near-duplicates and the images of one group are answered alike, so they count for less than as many others. Each
function takes the images' independent units (``thaw.data.units``), and without units, or where each image is one,
gives the plain result: Wilson's interval, Tango's interval, the exact McNemar test.

With units, an interval is the plain one for the effective number of images: their number divided by the design effect
(Rao & Scott 1992, Biometrics 48), ``1 + (size - 1) × correlation``, where ``size`` is how many images the unit of an
image has on average. The correlation is the larger of two estimates: that of Fleiss & Cuzick 1979 (Applied
Psychological Measurement 3), which looks within the units, and that of the variance between them, which also sees that
large units differ from small ones. It is moved towards 1 by ``1 / (k + 1)``, where ``k`` is the number of units of
several images that hold a mistake: with few mistakes little is known of it, and with none the units count, not the
images. So intervals are wide rather than wrong where units are few.

A test flips the signs of whole units (Fisher's randomisation test of paired data), which is exact.
"""

import math
from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

Bools = NDArray[np.bool_]
Units = NDArray[np.integer[Any]]  # (images,) equal numbers for images of one unit

# Halvings of an interval of length 2: beyond the resolution of a double.
BISECTIONS = 64


def wilson(successes: float, n: float, confidence: float) -> tuple[float, float]:
    """Return the score interval of a proportion (Wilson 1927, JASA 22): it holds up near 0 and 1 and for small ``n``.

    Args:
        successes: 0 to ``n``; no whole number where ``n`` is an effective number.
        n: above 0.
        confidence: above 0 and below 1.
    """
    if not 0 <= successes <= n or n <= 0:
        raise ValueError(f"wilson: expected 0 to n successes and n above 0, received {successes} of {n}")
    z = _quantile(confidence)
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # The ends are exact at no success and at nothing but success; rounding must not say otherwise.
    return 0.0 if successes == 0 else middle - reach, 1.0 if successes == n else middle + reach


def accuracy(correct: Bools, confidence: float, units: Units | None = None) -> tuple[float, float]:
    """Return the interval of the share of right answers: Wilson's, for the effective number of images.

    Args:
        correct: (images,) bool, whether each answer is right.
        confidence: of the interval, above 0 and below 1.
        units: (images,) integer; None: each image is one.
    """
    right, n = int(correct.sum()), len(correct)
    effective = effective_images(correct, units)
    return wilson(effective * right / n if right < n else effective, effective, confidence)


def mcnemar(correct_a: Bools, correct_b: Bools, units: Units | None = None) -> dict[str, Any]:
    """Test whether b does better or worse than a on the same images, exactly and two-sided.

    If both were equally good, what b gains or loses in a unit could as well have been lost or gained. All ways to turn
    the units' signs are counted. Where each image is a unit this is McNemar's exact test (1947, Psychometrika 12).

    Args:
        correct_a: (images,) bool, whether a is right.
        correct_b: (images,) bool, whether b is right, in the same order.
        units: (images,) integer; None: each image is one.

    Returns:
        ``only_a`` and ``only_b``, the images that only one gets right, and the ``p_value`` (0 to 1).
    """
    gains = _gains(correct_a, correct_b)
    sums = np.rint(_sums(gains, units)[0]).astype(np.int64)
    p_value = _flipped(np.abs(sums), abs(int(sums.sum())))
    return {"only_a": int((gains < 0).sum()), "only_b": int((gains > 0).sum()), "p_value": p_value}


def difference(correct_a: Bools, correct_b: Bools, confidence: float, units: Units | None = None) -> dict[str, float]:
    """Return what b gains over a on the same images: accuracy of b less accuracy of a, with its interval.

    The interval inverts the score test for paired proportions (Tango 1998, Statistics in Medicine 17), for the
    effective number of images: it keeps its coverage where few images tell the two apart, and never leaves -1 to 1.
    Near zero it may disagree with the exact p-value of ``mcnemar``, which is the more cautious of the two.

    Args:
        correct_a: (images,) bool, whether a is right.
        correct_b: (images,) bool, whether b is right, in the same order.
        confidence: of the interval, above 0 and below 1.
        units: (images,) integer; None: each image is one.

    Returns:
        ``accuracy``, ``accuracy_low`` and ``accuracy_high``, -1 to 1.
    """
    gains = _gains(correct_a, correct_b)
    z = _quantile(confidence)
    n = effective_images(gains, units)
    share_lost, share_gained = float((gains < 0).mean()), float((gains > 0).mean())
    lost, gained = n * share_lost, n * share_gained

    def score(delta: float) -> float:
        """Return the standard errors between the difference seen and ``delta``; they fall as ``delta`` rises."""
        linear = (2 * n - gained + lost) * delta - gained - lost
        share = (math.sqrt(linear**2 + 8 * n * lost * delta * (1 - delta)) - linear) / (4 * n)
        variance = n * (2 * share + delta * (1 - delta))
        distance = gained - lost - n * delta
        return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)

    seen = float(gains.mean())
    low = -1.0 if share_lost == 1 else _crossing(score, z, -1.0, seen)
    high = 1.0 if share_gained == 1 else _crossing(score, -z, seen, 1.0)
    return {"accuracy": seen, "accuracy_low": low, "accuracy_high": high}


def told_apart(compared: Mapping[str, float], confidence: float) -> int:
    """Return 1 where b is better than a, -1 where it is worse, and 0 where the images do not tell.

    It takes both, the exact test and the interval. The test alone errs as seldom as it says with any number of units;
    the interval is there so that no sentence calls better what its own figures leave open.

    Args:
        compared: of ``difference`` and ``mcnemar``: ``accuracy_low``, ``accuracy_high`` and ``p_value``.
        confidence: 1 less the p-value below which a difference is one.
    """
    if compared["p_value"] >= 1 - confidence:
        return 0
    return int(compared["accuracy_low"] > 0) - int(compared["accuracy_high"] < 0)


def effective_images(values: NDArray[Any], units: Units | None) -> float:
    """Return how many independent images would tell as much of the mean of ``values`` as these do.

    Args:
        values: (images,) bool, or -1, 0 and 1.
        units: (images,) integer; None: each image is one.

    Returns:
        At most the number of images; that number where each is a unit.
    """
    values = np.asarray(values, np.float64)
    sums, sizes = _sums(values, units)
    n, count = len(values), len(sizes)
    if count == n:
        return float(n)
    share = sizes / n
    concentration = float((share**2).sum())  # one over the number of units of one size that would weigh as these do
    mean = float(values.mean())
    variance = float(((values - mean) ** 2).mean())
    if variance == 0 or count == 1:
        return 1 / concentration
    squares = np.bincount(_numbered(units), values**2) if units is not None else values**2
    within = float((squares - sums**2 / sizes).sum()) / (n - count)
    # Without bias where units are answered as one, each then of the same variance.
    between = float((share**2 * (sums / sizes - mean) ** 2 / (1 - 2 * share + concentration)).sum())
    correlation = max(1 - within / variance, (between * n / variance - 1) / (n * concentration - 1), 0.0)
    if correlation < 1:
        common = max(np.unique(values), key=lambda value: float((values == value).sum()))
        odd = np.bincount(_numbered(units), values != common) if units is not None else values != common
        telling = int(((odd > 0) & (sizes > 1)).sum())
        correlation += (1 - correlation) / (telling + 1)
    return n / (1 + (n * concentration - 1) * correlation)


def _flipped(sizes: NDArray[np.int64], observed: int) -> float:
    """Return how likely a sum of ``sizes`` with random signs is as far from zero as ``observed``."""
    if observed == 0:
        return 1.0
    ones = int((sizes == 1).sum())
    rest = sizes[sizes > 1]
    reach = int(rest.sum())
    chances = np.zeros(2 * reach + 1)  # of the sums -reach to reach of the units that count more than once
    chances[reach] = 1.0
    for size in rest.tolist():
        turned = np.zeros_like(chances)
        turned[size:] += chances[: len(chances) - size] / 2
        turned[: len(chances) - size] += chances[size:] / 2
        chances = turned
    # The others are a binomial: as many of them as this, at most, may be against.
    against = (ones - observed + np.arange(-reach, reach + 1)) // 2
    inside = special.bdtr(np.clip(against, 0, max(ones, 1)).astype(np.float64), max(ones, 1), 0.5)
    tail = np.where(against < 0, 0.0, np.where(against >= ones, 1.0, inside))
    return min(1.0, 2 * float((chances * tail).sum()))


def _gains(correct_a: Bools, correct_b: Bools) -> NDArray[np.int64]:
    """Return for each image 1 where only b is right, -1 where only a is, else 0."""
    a, b = np.asarray(correct_a), np.asarray(correct_b)
    if a.ndim != 1 or a.size == 0 or a.shape != b.shape or a.dtype != np.bool_ or b.dtype != np.bool_:
        received = f"{a.dtype} of shape {a.shape} and {b.dtype} of shape {b.shape}"
        raise ValueError(f"correct_a, correct_b: expected one bool for each of the same images, received {received}")
    return b.astype(np.int64) - a.astype(np.int64)


def _numbered(units: Units) -> NDArray[np.int64]:
    """Return the units numbered from 0 on."""
    return np.unique(units, return_inverse=True)[1].astype(np.int64)


def _sums(values: NDArray[Any], units: Units | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return of each unit the sum of its values, and its number of images."""
    if units is None:
        return values.astype(np.float64), np.ones(len(values))
    if np.shape(units) != values.shape:
        raise ValueError(f"units: expected one for each of the {len(values)} images, received {np.shape(units)}")
    numbers = _numbered(units)
    return np.bincount(numbers, values).astype(np.float64), np.bincount(numbers).astype(np.float64)


def _crossing(score: Callable[[float], float], target: float, low: float, high: float) -> float:
    """Return where the falling ``score`` meets ``target`` between ``low`` and ``high``."""
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if score(middle) > target else (low, middle)
    return (low + high) / 2


def _quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number above 0 and below 1, received {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)
