"""Metrics of the test: accuracy, figures per class, calibration; by scikit-learn where it defines them the same way.

How sure they are says ``thaw.evaluation.intervals``.

Throughout, ``probabilities`` are (images, classes) float whose rows sum to 1, ``labels`` and ``predicted``
are (images,) integers from 0 to classes - 1, and every image counts exactly once. Tables are read in blocks of rows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sk

from thaw.evaluation import intervals
from thaw.evaluation.probabilities import AT_ONCE, Answers, Table, indices, read

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

# Smallest normal float32: only a probability that float32 rounded to zero is raised, to a cost of 87.3 nats.
FLOOR = float(np.finfo(np.float32).tiny)
MANY = 500  # classes above which no matrix of classes × classes is made
PER_CLASS = ("precision", "recall", "f1", "support")


def cross_entropy(probabilities: Table, labels: Integers) -> float:
    """Return the mean negative log likelihood in nats; a probability below ``FLOOR`` counts as ``FLOOR``.

    scikit-learn's ``log_loss`` raises all below 2e-16 to that, a cost of 36 nats.
    """
    return log_loss_of(read(probabilities, labels))


def log_loss_of(answers: Answers) -> float:
    """Return ``cross_entropy`` of what was read."""
    return float(-np.log(np.maximum(answers.own, FLOOR)).mean())


def top_k_accuracy(probabilities: Table, labels: Integers, k: int) -> float:
    """Return the share of images whose label is among the ``k`` likeliest classes.

    Between equal probabilities the lower class index goes first, as in ``argmax``; in scikit-learn's
    ``top_k_accuracy_score`` the higher one does. So a tie is broken without regard to the label, ``k=1`` is the plain
    accuracy, and the result never falls when ``k`` grows. A ``k`` above the classes counts as all.
    """
    return _top_k_of(read(probabilities, labels), k)


def _top_k_of(answers: Answers, k: int) -> float:
    if k < 1:
        raise ValueError(f"top_k: expected k of 1 or more, received {k}")
    return float((answers.ahead < k).mean())


def confusion(labels: Integers, predicted: Integers, classes: int) -> NDArray[np.int64]:
    """Return the counts, (classes, classes) int64: rows are the actual class, columns the predicted one."""
    labels, predicted = indices("labels", labels, classes), indices("predicted", predicted, classes)
    counts: NDArray[np.int64] = sk.confusion_matrix(labels, predicted, labels=range(classes))
    return counts


def per_class(labels: Integers, predicted: Integers, classes: int) -> list[dict[str, Any]]:
    """Return for each class in order ``precision``, ``recall``, ``f1`` (0 to 1) and ``support``, its number of images.

    The precision of a class never predicted is 0. A class without images was not tested: it has no figures, but None.
    """
    labels, predicted = indices("labels", labels, classes), indices("predicted", predicted, classes)
    scores = sk.precision_recall_fscore_support(labels, predicted, labels=range(classes), zero_division=0.0)
    rows = zip(*(score.tolist() for score in scores), strict=True)
    return [dict(zip(PER_CLASS, row if row[-1] else (None, None, None, 0), strict=True)) for row in rows]


def macro(labels: Integers, predicted: Integers) -> dict[str, float]:
    """Return the means over the classes that have images, each class alike: ``macro_precision``, and so on."""
    tested = np.unique(labels)
    scores = sk.precision_recall_fscore_support(labels, predicted, labels=tested, average="macro", zero_division=0.0)
    return {f"macro_{name}": float(score) for name, score in zip(PER_CLASS[:3], scores[:3], strict=True)}


def calibration_error(probabilities: Table, labels: Integers, bins: int = 15) -> float:
    """Return the expected calibration error, 0 to 1 (Guo et al. 2017, arXiv:1706.04599).

    It is the gap between the accuracy and the mean probability of the likeliest class, in bins of equal width, each
    with its upper edge. scikit-learn's ``calibration_curve`` has the same bins, but not how many images are in each.
    """
    return ece_of(read(probabilities, labels), bins)


def ece_of(answers: Answers, bins: int = 15) -> float:
    """Return ``calibration_error`` of what was read."""
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], answers.sure)
    return float(np.abs(np.bincount(place, answers.right - answers.sure)).sum() / len(place))


def brier(probabilities: Table, labels: Integers) -> float:
    """Return the mean over images of the squared error summed over classes, 0 to 2 (Brier 1950).

    scikit-learn's ``brier_score_loss`` says the same, and warns that a softmax in float32 sums to 1 only nearly.
    """
    return brier_of(read(probabilities, labels))


def brier_of(answers: Answers) -> float:
    """Return ``brier`` of what was read."""
    others = answers.squares - answers.own**2
    return float(((1 - answers.own) ** 2 + others).mean())


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
    found = []
    parts = min(-(-len(tested) * len(labels) // AT_ONCE), len(tested) // 2)  # of two classes at least
    for some in np.array_split(tested, max(parts, 1)):
        own, scores = labels[:, None] == some, np.asarray(probabilities[:, some], np.float64)
        if len(tested) > MANY:
            found.append(_areas(own, scores))
        else:
            found.append([area(own, scores, average=None) for area in (sk.roc_auc_score, sk.average_precision_score)])
    roc, pr = (float(np.concatenate(each).mean()) for each in zip(*found, strict=True))
    return {"roc_auc": roc, "pr_auc": pr}


def _areas(own: NDArray[np.bool_], scores: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return both areas of each class by counting, which scikit-learn does by sorting: minutes for 10,000 classes.

    Of an image of the class, the first counts the others that are less likely, those as likely by half; the second,
    how many of all that are as likely at least are of the class.

    Args:
        own: (images, classes), which images are of which class; each class has some, and not all.
        scores: (images, classes).
    """
    image, column = np.nonzero(own)
    members = np.bincount(column)
    below, precision = np.empty(len(image)), np.empty(len(image))
    size = max(1, AT_ONCE // len(own))
    for some in (slice(first, first + size) for first in range(0, len(image), size)):
        likeliest, at = scores[image[some], column[some]], column[some]
        at_least, above = scores[:, at] >= likeliest, scores[:, at] > likeliest
        others = ~own[:, at]
        other_at_least, other_above = (at_least & others).sum(axis=0), (above & others).sum(axis=0)
        below[some] = 1 - (other_at_least + other_above) / 2 / (len(own) - members[at])
        precision[some] = 1 - other_at_least / at_least.sum(axis=0)
    return [np.bincount(column, each) / members for each in (below, precision)]


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
    answers = read(probabilities, labels)
    low, high = intervals.accuracy(answers.right, confidence, units)
    return {
        "images": len(answers.labels),
        "units": len(answers.labels) if units is None else len(np.unique(units)),
        "loss": (loss := log_loss_of(answers)),
        "accuracy": float(answers.right.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        **{f"top_{k}_accuracy": _top_k_of(answers, k) for k in sorted(set(top_k)) if k != 1},
        **macro(answers.labels, answers.predicted),
        **agreement(answers.labels, answers.predicted),
        **ranking(probabilities, answers.labels),
        "log_loss": loss,
        "ece": ece_of(answers),
        "brier": brier_of(answers),
    }
