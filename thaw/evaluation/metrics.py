"""Metrics of the test: accuracy, per class, calibration. Their confidence intervals are in
``thaw.evaluation.intervals``.

Throughout, ``probabilities`` are (images, classes) float whose rows sum to 1, ``labels`` and ``predicted``
are (images,) integers from 0 to classes - 1, and every image counts exactly once.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw.evaluation import intervals

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

# Smallest normal float32: only a probability that float32 rounded to zero is raised, to a cost of 87.3 nats.
FLOOR = float(np.finfo(np.float32).tiny)
# What a row may miss 1 by: rounding of half precision, far below any mistake (logits, a sigmoid, percent).
ROW_TOLERANCE = 1e-3


def cross_entropy(probabilities: Floats, labels: Integers) -> float:
    """Return the mean negative log likelihood in nats; a probability below ``FLOOR`` counts as ``FLOOR``."""
    probabilities, labels = _checked(probabilities, labels)
    likelihood = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(likelihood, FLOOR)).mean())


def top_k_accuracy(probabilities: Floats, labels: Integers, k: int) -> float:
    """Return the share of images whose label is among the ``k`` likeliest classes; a ``k`` above the classes is all.

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
    """Return the confusion matrix, (classes, classes) int64: rows are the actual class, columns the predicted one."""
    labels = _indices("labels", labels, classes)
    predicted = _indices("predicted", predicted, classes)
    if len(labels) != len(predicted):
        raise ValueError(f"predicted: expected as many as the {len(labels)} labels, received {len(predicted)}")
    counts = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64, copy=False)


def per_class(confusion: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Return ``precision``, ``recall``, ``f1`` (0 to 1) and ``support``, the number of images, of each class in order.

    The precision of a class never predicted is 0. A class without images was not tested: it has no figures, but None.
    """
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1] or confusion.min(initial=0) < 0:
        raise ValueError(f"confusion: expected a square array of counts, received shape {confusion.shape}")
    rows = []
    for right, support, answers in zip(
        confusion.diagonal().tolist(), confusion.sum(axis=1).tolist(), confusion.sum(axis=0).tolist(), strict=True
    ):
        if support:
            precision = right / answers if answers else 0.0
            row = {"precision": precision, "recall": right / support, "f1": 2 * right / (answers + support)}
        else:
            row = dict.fromkeys(("precision", "recall", "f1"))
        rows.append({**row, "support": support})
    return rows


def averages(confusion: NDArray[np.int64]) -> dict[str, float]:
    """Return the means over the classes that have images: ``macro_*`` (unweighted) and ``weighted_*`` (by support)."""
    rows = [row for row in per_class(confusion) if row["support"]]
    total = sum(row["support"] for row in rows)
    if total == 0:
        raise ValueError("confusion: expected at least one image, received none")
    means = {}
    for name in ("precision", "recall", "f1"):
        means[f"macro_{name}"] = math.fsum(row[name] for row in rows) / len(rows)
        means[f"weighted_{name}"] = math.fsum(row[name] * row["support"] for row in rows) / total
    return means


def calibration(probabilities: Floats, labels: Integers, bins: int = 15) -> dict[str, Any]:
    """Return the expected calibration error of the likeliest class, in bins of equal width (Guo et al. 2017,
    arXiv:1706.04599).

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
    """Return the Brier score: the mean over images of the squared error summed over classes, 0 to 2 (Brier 1950,
    Monthly Weather Review 78).
    """
    probabilities, labels = _checked(probabilities, labels)
    own = probabilities[np.arange(len(labels)), labels]
    others = (probabilities**2).sum(axis=1) - own**2
    return float(((1 - own) ** 2 + others).mean())


def summary(
    probabilities: Floats,
    labels: Integers,
    top_k: Sequence[int],
    confidence: float,
    units: intervals.Units | None = None,
) -> dict[str, Any]:
    """Return all metrics of the test in one flat record of plain numbers, as ``dvc metrics show`` prints it.

    Args:
        probabilities: (images, classes) float, rows that sum to 1.
        labels: (images,) integer.
        top_k: the k of each ``top_<k>_accuracy``; 1 adds nothing, it is ``accuracy``.
        confidence: of ``accuracy_low`` and ``accuracy_high``, above 0 and below 1.
        units: (images,) integer, which images are not independent; None: each image is one.
    """
    probabilities, labels = _checked(probabilities, labels)
    predicted = probabilities.argmax(axis=1)
    means = averages(confusion(labels, predicted, probabilities.shape[1]))
    low, high = intervals.accuracy(predicted == labels, confidence, units)
    return {
        "images": len(labels),
        "units": len(labels) if units is None else len(np.unique(units)),
        "loss": cross_entropy(probabilities, labels),
        "accuracy": float((predicted == labels).mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        **{f"top_{k}_accuracy": top_k_accuracy(probabilities, labels, k) for k in sorted(set(top_k)) if k != 1},
        **{name: means[name] for name in ("macro_precision", "macro_recall", "macro_f1")},
        "ece": calibration(probabilities, labels)["ece"],
        "brier": brier(probabilities, labels),
    }


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
