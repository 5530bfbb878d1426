"""Rank a sweep's trials: intervals, trials that cannot be told from the best, and a simpler one that is as good.

The best is the most accurate one, since answers are compared; of several the one with the lowest loss. It looks better
than it is, since it was chosen for that: any two trials could have become the pair that is compared. So each test and
each interval of a difference is corrected for all pairs of trials that answer differently (Bonferroni). Without that,
of a dozen equal trials one is called worse in every second sweep.

That two trials cannot be told apart does not make them equal: with few images nothing can be told apart. So a
simpler trial is proposed only if the images show that it is at most ``MARGIN`` less accurate than the best, by the
upper end of the corrected interval; of these the one with the fewest unfrozen layers, then the least time where that
differs by more than clocks do, then the lowest loss. Where the images cannot show it, the best is proposed, and the
report says so.
"""

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from thaw import paths
from thaw.data import units
from thaw.evaluation import intervals
from thaw.sweep import experiments
from thaw.sweep.results import TrialResult

CONFIDENCE = 0.95
MARGIN = 0.01  # of accuracy, that a simpler trial may lose; `thaw sweep-report --margin` takes another
AS_CHEAP = 1.25  # times the least seconds: the same trial takes so much more or less, depending on what else runs


@dataclass
class Answers:
    """The predictions of a trial's model for the validation images."""

    images: str  # which there are
    right: NDArray[np.bool_]
    units: NDArray[np.int64]  # which are not independent, see ``thaw.data.units``


@dataclass
class Ranked:
    """A finished trial, compared with the others."""

    record: TrialResult
    answers: Answers | None  # None: nobody knows any more
    images: int  # to validate with
    low: float  # of the validation accuracy, 0 to 1
    high: float
    within_noise: bool = True  # of the most accurate one
    p_value: float | None = None  # of the paired test against that, corrected; None: it was not made, or this is it
    behind: float = 0.0  # how much less accurate than that it may be, at most, 0 to 1

    @property
    def accuracy(self) -> float:
        """On the validation images, 0 to 1."""
        return self.record.measured.val_accuracy

    @property
    def tried(self) -> int:
        """Thawed layers that phase 2 trained."""
        return self.record.measured.layers

    @property
    def layers(self) -> int:
        """Thawed ones of the model that was kept: none where no epoch of phase 2 was better than its start."""
        return self.tried if self.record.measured.best_epoch else 0

    @property
    def thawed(self) -> str:
        """Return how much was unfrozen, in words."""
        if self.layers < self.tried:
            return f"0 of {self.tried} layers unfrozen: phase 2 kept its start, the model is phase 1's"
        return f"{self.layers} layers unfrozen"

    @property
    def seconds(self) -> float:
        """Return of the trial; infinite where they are not known, since the sweep was killed as it ended."""
        return float("inf") if self.record.seconds is None else self.record.seconds


@dataclass
class Ranking:
    """The ranking of all finished trials of a sweep."""

    trials: list[Ranked]  # the lowest loss first
    best: Ranked  # the most accurate, with which the others were compared
    proposed: Ranked
    margin: float  # that a simpler trial may lose
    pairs: int  # of trials that answer differently, for which tests and intervals are corrected

    @property
    def units(self) -> int:
        """Return how many independent validation images there are; all where it is not known."""
        return len(np.unique(self.best.answers.units)) if self.best.answers else self.best.images

    @property
    def unresolved(self) -> list[Ranked]:
        """Return the simpler trials that cannot be told from the best, nor be shown to be within the margin."""
        simpler = [each for each in self.trials if each.within_noise and each.layers < self.proposed.layers]
        return [each for each in simpler if each.behind > self.margin]

    @property
    def paired(self) -> int:
        """Return how many trials were compared with the best on the same images; the others by two shares alone."""
        return sum(each.p_value is not None for each in self.trials)


def rank(finished: Sequence[TrialResult], margin: float = MARGIN) -> Ranking:
    """Compare the finished trials.

    Args:
        finished: their records, the lowest loss first.
        margin: how much less accurate than the best a simpler trial may be, 0 to 1.

    Raises:
        ValueError: there is none, or the margin is no share.
    """
    if not finished:
        raise ValueError("expected a sweep with a finished trial, received one without; look at its logs")
    if not 0 <= margin < 1:
        raise ValueError(f"margin: expected a share of 0 to below 1, as 0.01 for a point, received {margin}")
    trials = [ranked(record) for record in finished]
    # Of several the first, whose loss is the lowest. Rounded, as the same in float32 may differ in its last digits.
    best = max(trials, key=lambda each: round(each.accuracy, 6))
    different = len({each.answers.right.tobytes() if each.answers else str(id(each)) for each in trials})
    pairs = max(different * (different - 1) // 2, 1)
    for each in trials:
        if each is not best:
            _compare(each, best, pairs)
    close = [each for each in trials if each is best or each.behind <= margin]
    simple = [each for each in close if each.layers == min(each.layers for each in close)]
    least = min(each.seconds for each in simple)
    proposed = next(each for each in simple if each.seconds <= AS_CHEAP * least)
    return Ranking(trials, best, proposed, margin, pairs)


def ranked(record: TrialResult) -> Ranked:
    """Return a trial with the interval of its validation accuracy, not yet compared."""
    images = experiments.counted(record.name, record.commit)
    answers = _answers(record)
    if answers is None:  # as if each image were independent, since nobody knows
        low, high = _wilson(record, images, CONFIDENCE)
    else:
        low, high = intervals.accuracy(answers.right, CONFIDENCE, answers.units)
    return Ranked(record, answers, images, low, high)


def _compare(each: Ranked, best: Ranked, pairs: int) -> None:
    """Note whether a trial can be told from the best and how far behind it may be, corrected for ``pairs``."""
    error = (1 - CONFIDENCE) / pairs
    if best.answers and each.answers and best.answers.images == each.answers.images:
        both = each.answers.right, best.answers.right
        each.p_value = min(1.0, pairs * float(intervals.mcnemar(*both, best.answers.units)["p_value"]))
        each.within_noise = each.p_value >= 1 - CONFIDENCE
        each.behind = intervals.difference(*both, 1 - error, best.answers.units)["accuracy_high"]
        return
    # Not the same images, or nobody knows any more what was said of each: two shares may be the same if their
    # difference is within its interval. Both are uncertain (Newcombe 1998, Statistics in Medicine 17, method 10).
    (low, high), (best_low, best_high) = (_wilson(x.record, x.images, 1 - error) for x in (each, best))
    gap = best.accuracy - each.accuracy
    each.within_noise = gap <= math.hypot(best.accuracy - best_low, high - each.accuracy)
    each.behind = gap + math.hypot(best_high - best.accuracy, each.accuracy - low)


def _wilson(record: TrialResult, images: int, confidence: float) -> tuple[float, float]:
    return intervals.wilson(round(record.measured.val_accuracy * images), images, confidence)


def _answers(record: TrialResult) -> Answers | None:
    """Return what the trial's model said of the validation images, if DVC's cache tells."""
    name, commit = record.name, record.commit
    said = experiments.cached(name, paths.validation(paths.PHASE2 if record.measured.layers else paths.PHASE1), commit)
    manifest, classes = (experiments.cached(name, path, commit) for path in (paths.MANIFEST, paths.CLASSES))
    if said is None or manifest is None or classes is None:
        return None
    images, labels, own = _validation(manifest, classes)
    return Answers(images, np.load(io.BytesIO(said), allow_pickle=False).argmax(axis=1) == labels, own)


@lru_cache(maxsize=1)  # all trials of a sweep have the same images, as a rule
def _validation(manifest: bytes, classes: bytes) -> tuple[str, NDArray[np.int64], NDArray[np.int64]]:
    """Return which validation images there are, their labels, and their units."""
    from thaw.images import columns  # noqa: PLC0415 -- pyarrow takes half a second

    rows = columns.parsed(io.BytesIO(manifest))
    number = {name: index for index, name in enumerate(json.loads(classes)["classes"])}
    val = rows.are("split", "val")
    own = rows.take(val)
    labels = np.array([number[label] for label in own.strings("label")], np.int64)
    return " ".join(own.strings("path")), labels, units.read(rows)[val]
