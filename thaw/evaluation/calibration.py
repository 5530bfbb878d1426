"""Calibration and abstention: a temperature for the logits, a reliability diagram, accuracy against coverage.

A model is calibrated if of all answers with a probability of 80 %, 80 % are right. Dividing the logits by one number,
the temperature, mends most of what a trained network has too much or too little of (Guo et al. 2017, arXiv:1706.04599)
and changes no answer. It is fitted on the validation images, and what it does is measured on the test images.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from thaw.evaluation import intervals, metrics
from thaw.evaluation.probabilities import Answers, Table, blocks, read

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

COLDEST, HOTTEST = 0.05, 20.0  # bounds of the temperature
EXACT = 1e-12  # to which its logarithm is found
BINS = 15  # of the reliability diagram and of the expected calibration error
COVERAGES = tuple(step / 20 for step in range(1, 21))


def temperature(probabilities: Table, labels: Integers) -> float:
    """Return the temperature that makes held-out images most likely; above 1 where the model is too sure of itself.

    One image more than there are counts, with all labels alike. Without it a model that gets every image right would
    be told to be certain, however few they are.

    Args:
        probabilities: (images, classes), rows that sum to 1, of images that the model was not trained on.
        labels: (images,) integer.

    Returns:
        ``COLDEST`` to ``HOTTEST``; the likelihood has one maximum only.
    """
    given = means = 0.0
    for some, rows in blocks(probabilities):
        logs = _logs(rows)
        given += float(logs[np.arange(len(logs)), labels[some]].sum())
        means += float(logs.mean(axis=1).sum())
    given = (given + means / len(labels)) / (len(labels) + 1)  # of the images and of the one more

    def too_sharp(logarithm: float) -> float:
        """Return how steeply the likelihood falls with the logarithm of what the logits are multiplied by."""
        inverse = float(np.exp(logarithm))
        logs = (_logs(rows) for _, rows in blocks(probabilities))
        return sum(float((_softmax(each * inverse) * each).sum()) for each in logs) / len(labels) - given

    low, high = float(np.log(1 / HOTTEST)), float(np.log(1 / COLDEST))
    if too_sharp(high) <= 0:
        return COLDEST
    if too_sharp(low) >= 0:
        return HOTTEST
    return float(np.exp(-optimize.brentq(too_sharp, low, high, xtol=EXACT)))


@dataclass(frozen=True)
class Scaled:
    """A table of the probabilities under a temperature, computed where they are read; float64."""

    probabilities: Table
    by: float  # the temperature
    dtype = np.dtype(np.float64)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (images, classes)."""
        return self.probabilities.shape

    def __getitem__(self, rows: slice, /) -> NDArray[np.float64]:
        return scaled(self.probabilities[rows], self.by)


def scaled(probabilities: Floats, by: float) -> NDArray[np.float64]:
    """Return the probabilities of the logits divided by the temperature ``by``: softmax(log p / T), (images, classes).

    A probability that float32 rounded to zero counts as the smallest that it can hold.
    """
    return _softmax(_logs(probabilities) / by)


def reliability(answers: Answers, bins: int = BINS) -> list[dict[str, Any]]:
    """Return the reliability diagram: accuracy against the mean probability of the likeliest class, in equal bins.

    Returns:
        A record for each bin: ``low`` and ``high``, its edges, of which the upper belongs to it; ``count``, its
        images; ``confidence`` and ``accuracy``, None where it has none.
    """
    sure, right = answers.sure, answers.right
    edges = np.linspace(0, 1, bins + 1)
    place = np.searchsorted(edges[1:-1], sure)
    rows = []
    for number in range(bins):
        of = place == number
        rows.append(
            {
                "low": float(edges[number]),
                "high": float(edges[number + 1]),
                "count": int(of.sum()),
                "confidence": float(sure[of].mean()) if of.any() else None,
                "accuracy": float(right[of].mean()) if of.any() else None,
            }
        )
    return rows


def errors(answers: Answers) -> dict[str, float]:
    """Return ``ece``, ``log_loss`` and ``brier`` of some images."""
    return {
        "ece": metrics.ece_of(answers, BINS),
        "log_loss": metrics.log_loss_of(answers),
        "brier": metrics.brier_of(answers),
    }


def coverage(
    sure: Floats, right: intervals.Bools, confidence: float, units: intervals.Units | None = None
) -> list[dict[str, float]]:
    """Return the accuracy of the surest answers, by how many images get one (a risk–coverage curve, El-Yaniv 2010).

    Args:
        sure: (images,) the probability of the likeliest class.
        right: (images,) bool.
        confidence: of the intervals.
        units: (images,) integer, which images are not independent; None: each image is one.

    Returns:
        Records of ``threshold``, the probability from which an image is answered, ``coverage``, the share of images
        that then are, ``accuracy``, ``low`` and ``high``.
    """
    ranked = np.sort(sure)[::-1]
    wanted = {float(ranked[max(int(np.ceil(share * len(sure))), 1) - 1]) for share in COVERAGES}
    return [_answered(sure >= least, right, confidence, units, least) for least in sorted(wanted, reverse=True)]


def _answered(
    chosen: intervals.Bools,
    right: intervals.Bools,
    confidence: float,
    units: intervals.Units | None,
    threshold: float,
) -> dict[str, float]:
    low, high = intervals.accuracy(right[chosen], confidence, None if units is None else units[chosen])
    return {
        "threshold": threshold,
        "coverage": float(chosen.mean()),
        "accuracy": float(right[chosen].mean()),
        "low": low,
        "high": high,
    }


def threshold(sure: Floats, right: intervals.Bools, precision: float) -> float | None:
    """Return the smallest probability from which at least ``precision`` of the answers are right.

    Returns:
        0 where that is so of all images; None where it is so from no probability on.
    """
    order = np.argsort(-sure, kind="stable")
    ranked = sure[order]
    share = np.cumsum(right[order]) / np.arange(1, len(sure) + 1)
    last = np.append(ranked[1:] < ranked[:-1], [True])  # of images with the same probability
    enough = np.flatnonzero(last & (share >= precision))
    if not len(enough):
        return None
    return 0.0 if enough[-1] == len(sure) - 1 else float(ranked[enough[-1]])


def abstention(
    held: tuple[Floats, intervals.Bools],
    tested: tuple[Floats, intervals.Bools],
    precision: float,
    confidence: float,
    units: intervals.Units | None = None,
) -> dict[str, float | None]:
    """Return the threshold for a wanted precision, chosen on validation images, and what it gives on test images.

    Args:
        held: of the validation images, the probability of the likeliest class and whether it is right.
        tested: the same of the test images.
        precision: the share of answers that shall be right, 0 to 1.
        confidence: of the interval.
        units: of the test images.

    Returns:
        ``wanted``, ``threshold``, and on the test images ``coverage``, the share that is answered, ``precision``,
        ``low`` and ``high``; None where no threshold is enough, or it leaves no test image.
    """
    least = threshold(*held, precision)
    found: dict[str, float | None] = dict.fromkeys(("coverage", "precision", "low", "high"))
    if least is not None:
        chosen = tested[0] >= least
        found["coverage"] = float(chosen.mean())
        if chosen.any():
            answered = _answered(chosen, tested[1], confidence, units, least)
            found |= {"precision": answered["accuracy"], "low": answered["low"], "high": answered["high"]}
    return {"wanted": precision, "threshold": least, **found}


def record(
    held: tuple[Table, Integers],
    tested: tuple[Table, Integers],
    precision: float,
    confidence: float,
    units: intervals.Units | None = None,
) -> tuple[dict[str, Any], tuple[Scaled, Scaled]]:
    """Fit the temperature of a model and measure all that hangs on it.

    Args:
        held: probabilities and labels of the validation images.
        tested: the same of the test images.
        precision: as ``abstention``.
        confidence: of the intervals.
        units: of the test images.

    Returns:
        The record, and the calibrated probabilities of validation and test images.
    """
    heat = temperature(*held)
    calibrated = Scaled(held[0], heat), Scaled(tested[0], heat)
    before, after, chosen_by = read(*tested), read(calibrated[1], tested[1]), read(calibrated[0], held[1])
    return {
        "temperature": heat,
        "before": errors(before),
        "after": errors(after),
        "reliability": {"before": reliability(before), "after": reliability(after)},
        "coverage": coverage(after.sure, after.right, confidence, units),
        "wanted_precision": abstention(
            (chosen_by.sure, chosen_by.right), (after.sure, after.right), precision, confidence, units
        ),
    }, calibrated


def _logs(probabilities: Floats) -> NDArray[np.float64]:
    logs: NDArray[np.float64] = np.log(np.maximum(np.asarray(probabilities, np.float64), metrics.FLOOR))
    return logs


def _softmax(logits: Floats) -> NDArray[np.float64]:
    powers: NDArray[np.float64] = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
    powers /= powers.sum(axis=1, keepdims=True)
    return powers
