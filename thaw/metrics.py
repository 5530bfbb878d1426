"""How good the answers are, and how sure we can be of it: accuracy, per class, calibration, intervals, paired tests.

NumPy only. Throughout, ``probabilities`` are (images, classes) float whose rows sum to 1, ``labels`` and ``predicted``
are (images,) integers from 0 to classes - 1, and every image counts exactly once.
"""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]

# Smallest normal float32: only a probability that float32 rounded to zero is raised, to a cost of 87.3 nats.
FLOOR = float(np.finfo(np.float32).tiny)
# What a row may miss 1 by: rounding of half precision, far below any mistake (logits, a sigmoid, percent).
ROW_TOLERANCE = 1e-3
# Halvings of an interval of length 2: beyond the resolution of a double.
BISECTIONS = 64


def cross_entropy(probabilities: Floats, labels: Integers) -> float:
    """Mean negative log likelihood in nats; a probability below ``FLOOR`` counts as ``FLOOR``."""
    probabilities, labels = _checked(probabilities, labels)
    likelihood = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(likelihood, FLOOR)).mean())


def top_k_accuracy(probabilities: Floats, labels: Integers, k: int) -> float:
    """Share of images whose label is among the ``k`` likeliest classes; a ``k`` above the classes counts as all.

    Between equal probabilities the lower class index goes first, as in ``argmax``. So a tie is broken without regard
    to the label, ``k=1`` is the plain accuracy, and the result never falls when ``k`` grows.
    """
    probabilities, labels = _checked(probabilities, labels)
    if k < 1:
        raise ValueError(f"top_k: expected k of 1 or more, received {k}")
    own = probabilities[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    ahead = (probabilities > own) | ((probabilities == own) & earlier)
    return float((ahead.sum(axis=1) < k).mean())


def confusion(labels: Integers, predicted: Integers, classes: int) -> NDArray[np.int64]:
    """Counts, (classes, classes) int64: rows are the actual class, columns the predicted one."""
    labels = _indices("labels", labels, classes)
    predicted = _indices("predicted", predicted, classes)
    if len(labels) != len(predicted):
        raise ValueError(f"predicted: expected as many as the {len(labels)} labels, received {len(predicted)}")
    counts = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def per_class(confusion: NDArray[np.int64]) -> list[dict[str, Any]]:
    """For each class in order: ``precision``, ``recall``, ``f1`` (0 to 1) and ``support``, its number of images.

    A share of nothing is 0: the precision of a class never predicted, the recall of a class without images.
    """
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1] or confusion.min(initial=0) < 0:
        raise ValueError(f"confusion: expected a square array of counts, received shape {confusion.shape}")
    rows = []
    for right, support, answers in zip(
        confusion.diagonal().tolist(), confusion.sum(axis=1).tolist(), confusion.sum(axis=0).tolist(), strict=True
    ):
        precision = right / answers if answers else 0.0
        recall = right / support if support else 0.0
        f1 = 2 * right / (answers + support) if answers + support else 0.0
        rows.append({"precision": precision, "recall": recall, "f1": f1, "support": support})
    return rows


def averages(confusion: NDArray[np.int64]) -> dict[str, float]:
    """Means over the classes: ``macro_*`` (each class alike), ``weighted_*`` (by support) and ``balanced_accuracy``.

    Macro means count a class without test images as 0. Balanced accuracy is the mean recall of the classes that have
    some, so the two differ only when a class has none.
    """
    rows = per_class(confusion)
    total = sum(row["support"] for row in rows)
    if total == 0:
        raise ValueError("confusion: expected at least one image, received none")
    means = {}
    for name in ("precision", "recall", "f1"):
        means[f"macro_{name}"] = math.fsum(row[name] for row in rows) / len(rows)
        means[f"weighted_{name}"] = math.fsum(row[name] * row["support"] for row in rows) / total
    present = [row["recall"] for row in rows if row["support"]]
    means["balanced_accuracy"] = math.fsum(present) / len(present)
    return means


def wilson(successes: int, n: int, confidence: float) -> tuple[float, float]:
    """Score interval of a proportion (Wilson 1927, JASA 22): it holds up near 0 and 1 and for small ``n``."""
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"wilson: expected 0 to n successes and n of 1 or more, received {successes} of {n}")
    z = _quantile(confidence)
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # The ends are exact at no success and at nothing but success; rounding must not say otherwise.
    return 0.0 if successes == 0 else middle - reach, 1.0 if successes == n else middle + reach


def mcnemar(correct_a: Bools, correct_b: Bools) -> dict[str, Any]:
    """Does b do better or worse than a on the same images? Exact two-sided test (McNemar 1947, Psychometrika 12).

    If both were equally good, an image that only one of them gets right would be either's with probability 1/2.

    Args:
        correct_a: (images,) bool, whether a is right.
        correct_b: (images,) bool, whether b is right, in the same order.

    Returns:
        ``only_a`` and ``only_b``, the images that only one gets right, and the binomial ``p_value`` (0 to 1).
    """
    correct_a, correct_b = _pair(correct_a, correct_b)
    only_a = int((correct_a & ~correct_b).sum())
    only_b = int((correct_b & ~correct_a).sum())
    n, fewer = only_a + only_b, min(only_a, only_b)
    # log C(n, i) for i = 0 .. fewer, less n log 2: the terms of the tail, which as plain numbers would overflow.
    i = np.arange(1, fewer + 1, dtype=np.float64)
    log_terms = np.concatenate([[0.0], np.cumsum(np.log(n - i + 1) - np.log(i))]) - n * math.log(2)
    largest = float(log_terms.max())
    tail = math.exp(largest) * float(np.exp(log_terms - largest).sum())
    return {"only_a": only_a, "only_b": only_b, "p_value": min(1.0, 2 * tail)}


def difference(correct_a: Bools, correct_b: Bools, confidence: float) -> dict[str, float]:
    """What b gains over a on the same images: accuracy of b less accuracy of a, with its interval.

    The interval inverts the score test for paired proportions (Tango 1998, Statistics in Medicine 17): it keeps its
    coverage where few images tell the two apart, and never leaves -1 to 1. Near zero it may disagree with the exact
    p-value of ``mcnemar``, which is the more cautious of the two.

    Args:
        correct_a: (images,) bool, whether a is right.
        correct_b: (images,) bool, whether b is right, in the same order.
        confidence: of the interval, above 0 and below 1.

    Returns:
        ``accuracy``, ``accuracy_low`` and ``accuracy_high``, -1 to 1.
    """
    correct_a, correct_b = _pair(correct_a, correct_b)
    z = _quantile(confidence)
    n = len(correct_a)
    lost = int((correct_a & ~correct_b).sum())
    gained = int((correct_b & ~correct_a).sum())

    def score(delta: float) -> float:
        """Standard errors between the difference seen and ``delta``; falls as ``delta`` rises."""
        linear = (2 * n - gained + lost) * delta - gained - lost
        share = (math.sqrt(linear**2 + 8 * n * lost * delta * (1 - delta)) - linear) / (4 * n)
        variance = n * (2 * share + delta * (1 - delta))
        distance = gained - lost - n * delta
        return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)

    seen = (gained - lost) / n
    low = -1.0 if lost == n else _crossing(score, z, -1.0, seen)
    high = 1.0 if gained == n else _crossing(score, -z, seen, 1.0)
    return {"accuracy": seen, "accuracy_low": low, "accuracy_high": high}


def calibration(probabilities: Floats, labels: Integers, bins: int = 15) -> dict[str, Any]:
    """Expected calibration error of the likeliest class, in bins of equal width (Guo et al. 2017, arXiv:1706.04599).

    Returns:
        ``ece`` (0 to 1) and ``bins``, the bins that hold an image: ``low`` (exclusive), ``high`` (inclusive),
        ``images``, and their mean ``confidence`` and ``accuracy``.
    """
    probabilities, labels = _checked(probabilities, labels)
    if bins < 1:
        raise ValueError(f"calibration: expected 1 or more bins, received {bins}")
    sure = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
    rows, error = [], 0.0
    for index in np.unique(place).tolist():
        inside = place == index
        confidence, accuracy, images = float(sure[inside].mean()), float(right[inside].mean()), int(inside.sum())
        error += images / len(labels) * abs(accuracy - confidence)
        low, high = float(edges[index]), float(edges[index + 1])
        rows.append({"low": low, "high": high, "images": images, "confidence": confidence, "accuracy": accuracy})
    return {"ece": error, "bins": rows}


def brier(probabilities: Floats, labels: Integers) -> float:
    """Mean over images of the squared error summed over classes, 0 to 2 (Brier 1950, Monthly Weather Review 78)."""
    probabilities, labels = _checked(probabilities, labels)
    own = probabilities[np.arange(len(labels)), labels]
    # The sum of squares, in which the own class counts (p - 1)² in place of p².
    return float((np.einsum("ij,ij->i", probabilities, probabilities) + 1 - 2 * own).mean())


def summary(probabilities: Floats, labels: Integers, top_k: Sequence[int], confidence: float) -> dict[str, Any]:
    """The test in one flat record of plain numbers, as ``dvc metrics show`` prints it.

    Args:
        probabilities: (images, classes) float, rows that sum to 1.
        labels: (images,) integer.
        top_k: the k of each ``top_<k>_accuracy``; 1 adds nothing, it is ``accuracy``.
        confidence: of ``accuracy_low`` and ``accuracy_high``, above 0 and below 1.
    """
    probabilities, labels = _checked(probabilities, labels)
    counts = confusion(labels, probabilities.argmax(axis=1), probabilities.shape[1])
    right = int(counts.trace())
    low, high = wilson(right, len(labels), confidence)
    means = averages(counts)
    return {
        "images": len(labels),
        "loss": cross_entropy(probabilities, labels),
        "accuracy": right / len(labels),
        "accuracy_low": low,
        "accuracy_high": high,
        **{f"top_{k}_accuracy": top_k_accuracy(probabilities, labels, k) for k in sorted(set(top_k)) if k != 1},
        **{name: means[name] for name in ("macro_precision", "macro_recall", "macro_f1")},
        "ece": calibration(probabilities, labels)["ece"],
        "brier": brier(probabilities, labels),
    }


def _crossing(score: Callable[[float], float], target: float, low: float, high: float) -> float:
    """Where the falling ``score`` meets ``target`` between ``low`` and ``high``."""
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if score(middle) > target else (low, middle)
    return (low + high) / 2


def _quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number above 0 and below 1, received {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _indices(name: str, values: Integers, classes: int) -> NDArray[np.int64]:
    values = np.asarray(values)
    if values.ndim != 1 or values.size == 0 or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{name}: expected one integer per image, received {values.dtype} of shape {values.shape}")
    if values.min() < 0 or values.max() >= classes:
        raise ValueError(f"{name}: expected 0 to {classes - 1}, received {values.min()} to {values.max()}")
    return values.astype(np.int64)


def _checked(probabilities: Floats, labels: Integers) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    given = np.asarray(probabilities)
    if given.ndim != 2 or given.size == 0 or not np.issubdtype(given.dtype, np.floating):
        received = f"{given.dtype} of shape {given.shape}"
        raise ValueError(f"probabilities: expected float of shape (images, classes), received {received}")
    values: NDArray[np.float64] = given.astype(np.float64)
    lost = int((~np.isfinite(values)).sum())
    if lost:
        raise ValueError(
            f"probabilities: expected finite numbers, received {lost} that are not; did training diverge?"
        )
    sums = values.sum(axis=1)
    if values.min() < 0 or np.abs(sums - 1).max() > ROW_TOLERANCE:
        received = f"values from {values.min():g} and sums of {sums.min():g} to {sums.max():g}"
        raise ValueError(f"probabilities: expected rows of 0 to 1 that sum to 1, received {received}; apply a softmax")
    checked = _indices("labels", labels, values.shape[1])
    if len(checked) != len(values):
        raise ValueError(f"labels: expected one for each of the {len(values)} images, received {len(checked)}")
    return values, checked


def _pair(correct_a: Bools, correct_b: Bools) -> tuple[Bools, Bools]:
    a, b = np.asarray(correct_a), np.asarray(correct_b)
    if a.ndim != 1 or a.size == 0 or a.shape != b.shape or a.dtype != np.bool_ or b.dtype != np.bool_:
        received = f"{a.dtype} of shape {a.shape} and {b.dtype} of shape {b.shape}"
        raise ValueError(f"correct_a, correct_b: expected one bool for each of the same images, received {received}")
    return a, b
