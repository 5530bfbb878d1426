"""A sweep's trials compared: with intervals, which cannot be told from the best, and the simplest of these.

The best of many trials looks better than it is, since it was chosen for that. So what is proposed is not the best but
the simplest of those that the validation images cannot tell from it: the fewest thawed layers, then the least time
where that differs by more than clocks do, then the lowest loss.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw import layout, metrics, trial

CONFIDENCE = 0.95
AS_CHEAP = 1.25  # times the least seconds: the same trial takes so much more or less, depending on what else runs


@dataclass
class Ranked:
    """A finished trial among the others."""

    record: dict[str, Any]  # as the sweep wrote it
    images: int  # to validate with
    low: float  # of the validation accuracy, 0 to 1
    high: float
    within_noise: bool  # of the best
    p_value: float | None  # of the exact paired test against the best; None: it could not be made

    @property
    def accuracy(self) -> float:
        """On the validation images, 0 to 1."""
        return float(self.record["figures"]["val_accuracy"])

    @property
    def layers(self) -> int:
        """Thawed ones."""
        return int(self.record["figures"]["layers"])

    @property
    def seconds(self) -> float:
        """Of the trial; infinite where they are not known, since the sweep was killed as it ended."""
        return float("inf") if self.record["seconds"] is None else float(self.record["seconds"])


@dataclass
class Ranking:
    """All finished trials of a sweep, the best first."""

    trials: list[Ranked]
    paired: bool  # whether noise was judged on the same images; else by intervals
    proposed: Ranked


def rank(finished: Sequence[dict[str, Any]]) -> Ranking:
    """Compare the finished trials.

    Args:
        finished: their records, the best first.

    Raises:
        ValueError: there is none.
    """
    if not finished:
        raise ValueError("expected a sweep with a finished trial, received one without; look at its logs")
    answers = [_right(record) for record in finished]
    best, ranked, paired = answers[0], [], True
    top = float(finished[0]["figures"]["val_accuracy"])
    for record, right in zip(finished, answers, strict=True):
        images = trial.counted(str(record["name"]))
        accuracy = float(record["figures"]["val_accuracy"])
        low, high = metrics.wilson(round(accuracy * images), images, CONFIDENCE)
        if best is None or right is None or best[0] != right[0]:
            # Not the same images, or nobody knows any more what was said of each.
            paired, p_value, within = False, None, low <= top <= high or accuracy > top
        else:
            p_value = float(metrics.mcnemar(right[1], best[1])["p_value"])
            within = p_value >= 1 - CONFIDENCE or accuracy > top
        ranked.append(Ranked(record, images, low, high, within, p_value))
    alike = [each for each in ranked if each.within_noise]
    simple = [each for each in alike if each.layers == min(each.layers for each in alike)]
    least = min(each.seconds for each in simple)
    return Ranking(ranked, paired, next(each for each in simple if each.seconds <= AS_CHEAP * least))


def _right(record: dict[str, Any]) -> tuple[str, NDArray[np.bool_]] | None:
    """Which validation images there are, and whether the trial's model is right on each, if DVC's cache tells."""
    name = str(record["name"])
    thawed = record["figures"]["layers"] > 0
    stage, folder = (trial.TARGET, layout.PHASE2) if thawed else (trial.SHARED[-1], layout.PHASE1)
    said = trial.cached(name, stage, layout.validation(folder).name)
    manifest = trial.cached(name, "prepare", layout.MANIFEST.name)
    classes = trial.cached(name, "prepare", layout.CLASSES.name)
    if said is None or manifest is None or classes is None:
        return None
    names = json.loads(classes)["classes"]
    rows = csv.DictReader(io.StringIO(manifest.decode("utf-8"), newline=""))
    val = [row for row in rows if row["split"] == "val"]
    labels = np.array([names.index(row["label"]) for row in val])
    return " ".join(row["path"] for row in val), np.load(io.BytesIO(said)).argmax(axis=1) == labels
