"""Metrics of the test: accuracy, figures per class, calibration; by scikit-learn where it defines them the same way.

How sure they are says ``thaw.evaluation.intervals``.

Throughout, ``probabilities`` are (images, classes) float whose rows sum to 1, ``labels`` and ``predicted``
are (images,) integers from 0 to classes - 1, and every image counts exactly once.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sk

from thaw.evaluation import intervals

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

# Smallest normal float32: only a probability that float32 rounded to zero is raised, to a cost of 87.3 nats.
FLOOR = float(np.finfo(np.float32).tiny)
# What a row may miss 1 by: rounding of half precision, far below any mistake (logits, a sigmoid, percent).
ROW_TOLERANCE = 1e-3
MANY = 500  # classes above which no matrix of classes × classes is made
PER_CLASS = ("precision", "recall", "f1", "support")


def cross_entropy(probabilities: Floats, labels: Integers) -> float:
    """Return the mean negative log likelihood in nats; a probability below ``FLOOR`` counts as ``FLOOR``.

    scikit-learn's ``log_loss`` raises all below 2e-16 to that, a cost of 36 nats.
    """
    probabilities, labels = _checked(probabilities, labels)
    likelihood = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(likelihood, FLOOR)).mean())


def top_k_accuracy(probabilities: Floats, labels: Integers, k: int) -> float:
    """Return the share of images whose label is among the ``k`` likeliest classes.

    Between equal probabilities the lower class index goes first, as in ``argmax``; in scikit-learn's
    ``top_k_accuracy_score`` the higher one does. So a tie is broken without regard to the label, ``k=1`` is the plain
    accuracy, and the result never falls when ``k`` grows. A ``k`` above the classes counts as all.
    """
    probabilities, labels = _checked(probabilities, labels)
    if k < 1:
        raise ValueError(f"top_k: expected k of 1 or more, received {k}")
    own = probabilities[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    ahead = (probabilities > own) | ((probabilities == own) & earlier)
    return float((ahead.sum(axis=1) < k).mean())


def confusion(labels: Integers, predicted: Integers, classes: int) -> NDArray[np.int64]:
    """Return the counts, (classes, classes) int64: rows are the actual class, columns the predicted one."""
    labels, predicted = _indices("labels", labels, classes), _indices("predicted", predicted, classes)
    counts: NDArray[np.int64] = sk.confusion_matrix(labels, predicted, labels=range(classes))
    return counts


def per_class(labels: Integers, predicted: Integers, classes: int) -> list[dict[str, Any]]:
    """Return for each class in order ``precision``, ``recall``, ``f1`` (0 to 1) and ``support``, its number of images.

    The precision of a class never predicted is 0. A class without images was not tested: it has no figures, but None.
    """
    labels, predicted = _indices("labels", labels, classes), _indices("predicted", predicted, classes)
    scores = sk.precision_recall_fscore_support(labels, predicted, labels=range(classes), zero_division=0.0)
    rows = zip(*(score.tolist() for score in scores), strict=True)
    return [dict(zip(PER_CLASS, row if row[-1] else (None, None, None, 0), strict=True)) for row in rows]


def macro(labels: Integers, predicted: Integers) -> dict[str, float]:
    """Return the means over the classes that have images, each class alike: ``macro_precision``, and so on."""
    tested = np.unique(labels)
    scores = sk.precision_recall_fscore_support(labels, predicted, labels=tested, average="macro", zero_division=0.0)
    return {f"macro_{name}": float(score) for name, score in zip(PER_CLASS[:3], scores[:3], strict=True)}


def calibration_error(probabilities: Floats, labels: Integers, bins: int = 15) -> float:
    """Return the expected calibration error, 0 to 1 (Guo et al. 2017, arXiv:1706.04599).

    It is the gap between the accuracy and the mean probability of the likeliest class, in bins of equal width, each
    with its upper edge. scikit-learn's ``calibration_curve`` has the same bins, but not how many images are in each.
    """
    probabilities, labels = _checked(probabilities, labels)
    sure = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], sure)
    return float(np.abs(np.bincount(place, right - sure)).sum() / len(labels))


def brier(probabilities: Floats, labels: Integers) -> float:
    """Return the mean over images of the squared error summed over classes, 0 to 2 (Brier 1950).

    scikit-learn's ``brier_score_loss`` says the same, and warns that a softmax in float32 sums to 1 only nearly.
    """
    probabilities, labels = _checked(probabilities, labels)
    own = probabilities[np.arange(len(labels)), labels]
    others = (probabilities**2).sum(axis=1) - own**2
    return float(((1 - own) ** 2 + others).mean())


def agreement(labels: Integers, predicted: Integers) -> dict[str, float]:
    """Return how well answers and labels agree: figures that, unlike the accuracy, see through unequal classes.

    Returns:
        ``balanced_accuracy``, the mean recall of the classes that have images; ``weighted_f1``, the mean of F1
        weighted by these; ``mcc``, the correlation of Matthews (-1 to 1; 0 where one class has all labels or all
        answers); and ``kappa``, that of Cohen (1 is agreement, 0 is chance; 1 where one class has all of both).
    """
    tested, support = np.unique(labels, return_counts=True)
    _, recall, weighted, _ = sk.precision_recall_fscore_support(labels, predicted, labels=tested, zero_division=0.0)
    alone, many = len(np.union1d(labels, predicted)) == 1, len(tested) > MANY
    mcc, kappa = _by_sums(labels, predicted)
    return {
        "balanced_accuracy": float(np.mean(recall)),
        "weighted_f1": float(np.average(weighted, weights=support)),
        "mcc": 0.0 if alone else (mcc if many else float(sk.matthews_corrcoef(labels, predicted))),
        "kappa": 1.0 if alone else (kappa if many else float(sk.cohen_kappa_score(labels, predicted))),
    }


def _by_sums(labels: Integers, predicted: Integers) -> tuple[float, float]:
    """Return MCC and kappa by the sums of the confusion matrix, which scikit-learn makes: 800 MB of 10,000 classes."""
    count, right = len(labels), float((labels == predicted).sum())
    size = int(max(labels.max(), predicted.max())) + 1
    true, said = (np.bincount(each, minlength=size).astype(np.float64) for each in (labels, predicted))
    chance = float(true @ said)
    spread = (count**2 - float(true @ true)) * (count**2 - float(said @ said))
    mcc = (right * count - chance) / spread**0.5 if spread else 0.0
    return mcc, (right * count - chance) / (count**2 - chance) if count**2 > chance else 1.0


def ranking(probabilities: Floats, labels: Integers) -> dict[str, float | None]:
    """Return the areas under the ROC and the precision–recall curve, each class against the others.

    Returns:
        ``roc_auc`` and ``pr_auc`` (average precision), means over the classes that have images; None where only one
        has.
    """
    tested = np.unique(labels)
    if len(tested) == 1:
        return {"roc_auc": None, "pr_auc": None}
    own = labels[:, None] == tested
    return {
        "roc_auc": float(sk.roc_auc_score(own, probabilities[:, tested], average="macro")),
        "pr_auc": float(sk.average_precision_score(own, probabilities[:, tested], average="macro")),
    }


def summary(
    probabilities: Floats,
    labels: Integers,
    top_k: Sequence[int],
    confidence: float,
    units: intervals.Units | None = None,
) -> dict[str, Any]:
    """Return the test in one flat record of plain numbers, as ``dvc metrics show`` prints it.

    ``loss`` and ``log_loss`` are one number under two names.

    Args:
        probabilities: (images, classes) float, rows that sum to 1.
        labels: (images,) integer.
        top_k: the k of each ``top_<k>_accuracy``; 1 adds nothing, it is ``accuracy``.
        confidence: of ``accuracy_low`` and ``accuracy_high``, above 0 and below 1.
        units: (images,) integer, which images are not independent; None: each image is one.
    """
    probabilities, labels = _checked(probabilities, labels)
    predicted = probabilities.argmax(axis=1)
    low, high = intervals.accuracy(predicted == labels, confidence, units)
    return {
        "images": len(labels),
        "units": len(labels) if units is None else len(np.unique(units)),
        "loss": (loss := cross_entropy(probabilities, labels)),
        "accuracy": float((predicted == labels).mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        **{f"top_{k}_accuracy": top_k_accuracy(probabilities, labels, k) for k in sorted(set(top_k)) if k != 1},
        **macro(labels, predicted),
        **agreement(labels, predicted),
        **ranking(probabilities, labels),
        "log_loss": loss,
        "ece": calibration_error(probabilities, labels),
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
    values: NDArray[np.float64] = given.astype(np.float64, copy=False)
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
