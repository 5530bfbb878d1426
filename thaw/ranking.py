"""A sweep's trials compared: with intervals, which cannot be told from the best, and the simplest of these.

The best is the most accurate one, since answers are compared; of several the one with the lowest loss. It looks better
than it is, since it was chosen for that. So what is proposed is not the best but the simplest of those that the
validation images cannot tell from it: the fewest thawed layers, then the least time where that differs by more than
clocks do, then the lowest loss.
"""

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw import layout, metrics, records, trial

CONFIDENCE = 0.95
AS_CHEAP = 1.25  # times the least seconds: the same trial takes so much more or less, depending on what else runs
Answers = tuple[str, NDArray[np.bool_]]  # which validation images there are, and whether a model is right on each


@dataclass
class Ranked:
    """A finished trial among the others."""

    record: dict[str, Any]  # as the sweep wrote it
    images: int  # to validate with
    low: float  # of the validation accuracy, 0 to 1
    high: float
    within_noise: bool = True  # of the most accurate one
    p_value: float | None = None  # of the exact paired test against that; None: it could not be made, or this is it

    @property
    def accuracy(self) -> float:
        """On the validation images, 0 to 1."""
        return float(self.record["figures"]["val_accuracy"])

    @property
    def tried(self) -> int:
        """Thawed layers that phase 2 trained."""
        return int(self.record["figures"]["layers"])

    @property
    def layers(self) -> int:
        """Thawed ones of the model that was kept: none where no epoch of phase 2 was better than its start."""
        return self.tried if self.record["figures"]["best_epoch"] else 0

    @property
    def thawed(self) -> str:
        """How much, in words."""
        if self.layers < self.tried:
            return f"0 of {self.tried} layers thawed: phase 2 did not help, the model is phase 1's"
        return f"{self.layers} layers thawed"

    @property
    def seconds(self) -> float:
        """Of the trial; infinite where they are not known, since the sweep was killed as it ended."""
        return float("inf") if self.record["seconds"] is None else float(self.record["seconds"])


@dataclass
class Ranking:
    """All finished trials of a sweep."""

    trials: list[Ranked]  # the lowest loss first
    best: Ranked  # the most accurate, with which the others were compared
    proposed: Ranked

    @property
    def paired(self) -> int:
        """How many trials were compared with the best on the same images; the others by two shares alone."""
        return sum(each.p_value is not None for each in self.trials)


def rank(finished: Sequence[dict[str, Any]]) -> Ranking:
    """Compare the finished trials.

    Args:
        finished: their records, the lowest loss first.

    Raises:
        ValueError: there is none.
    """
    if not finished:
        raise ValueError("expected a sweep with a finished trial, received one without; look at its logs")
    ranked = [_ranked(record) for record in finished]
    # Of several the first, whose loss is the lowest. Rounded, as the same in float32 may differ in its last digits.
    best = max(ranked, key=lambda each: round(each.accuracy, 6))
    said = _right(best.record)
    for each in ranked:
        if each is not best:
            each.p_value = _paired(each.record, said)
            each.within_noise = _unpaired(each, best) if each.p_value is None else each.p_value >= 1 - CONFIDENCE
    alike = [each for each in ranked if each.within_noise]
    simple = [each for each in alike if each.layers == min(each.layers for each in alike)]
    least = min(each.seconds for each in simple)
    return Ranking(ranked, best, next(each for each in simple if each.seconds <= AS_CHEAP * least))


def _ranked(record: dict[str, Any]) -> Ranked:
    images = trial.counted(str(record["name"]))
    right = round(float(record["figures"]["val_accuracy"]) * images)
    return Ranked(record, images, *metrics.wilson(right, images, CONFIDENCE))


def _paired(record: dict[str, Any], best: Answers | None) -> float | None:
    """How likely it is that a trial as good as the best differs so much from it on the same images."""
    right = _right(record)
    if best is None or right is None or best[0] != right[0]:
        return None  # not the same images, or nobody knows any more what was said of each
    return float(metrics.mcnemar(right[1], best[1])["p_value"])


def _unpaired(each: Ranked, best: Ranked) -> bool:
    """Whether two shares may be the same: their difference is within its interval.

    Both are uncertain, so the best's interval counts too (Newcombe 1998, Statistics in Medicine 17, method 10).
    """
    return best.accuracy - each.accuracy <= math.hypot(best.accuracy - best.low, each.high - each.accuracy)


def _right(record: dict[str, Any]) -> Answers | None:
    """What the trial's model said of the validation images, if DVC's cache tells."""
    name = str(record["name"])
    thawed = record["figures"]["layers"] > 0
    stage, folder = (trial.TARGET, layout.PHASE2) if thawed else (trial.SHARED[-1], layout.PHASE1)
    said = trial.cached(name, stage, layout.validation(folder).name)
    manifest = trial.cached(name, "prepare", layout.MANIFEST.name)
    classes = trial.cached(name, "prepare", layout.CLASSES.name)
    if said is None or manifest is None or classes is None:
        return None
    names = json.loads(classes)["classes"]
    rows = records.rows(io.StringIO(manifest.decode("utf-8"), newline=""))
    val = [row for row in rows if row["split"] == "val"]
    labels = np.array([names.index(row["label"]) for row in val])
    return " ".join(row["path"] for row in val), np.load(io.BytesIO(said)).argmax(axis=1) == labels
