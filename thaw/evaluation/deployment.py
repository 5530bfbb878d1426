"""What a deployed model carries besides its weights, by phase: temperature, thresholds, the score of unlike images.

All of it is fitted on validation images (the score on training images too) and measured on the test images. Leaked
images are left out of both: a model is surer of them than of new ones.
"""

from collections.abc import Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from thaw import console, paths, records
from thaw.config import schema
from thaw.data import units
from thaw.evaluation import calibration, conformal, held_out, intervals, out_of_distribution

Floats = NDArray[np.floating[Any]]


class Answers(Protocol):
    """The part of a model's answers for the test images that is needed here."""

    probabilities: Floats  # (images, classes)
    embeddings: Floats  # (images, channels)


@dataclass
class Carried:
    """What a phase's model carries."""

    record: dict[str, Any] = field(default_factory=dict)  # of calibration.json
    parameters: out_of_distribution.Parameters = field(default_factory=dict)  # of the score, empty without it
    scores: NDArray[np.float32] | None = None  # of the test images


def started(
    pool: Executor, answers: Mapping[str, Answers], splits: Mapping[str, held_out.Split], options: schema.Evaluate
) -> dict[str, Future[Carried]]:
    """Begin to fit and measure what each phase's model carries.

    Args:
        pool: what does it.
        answers: for the test images, by phase.
        splits: train, val and test.
        options: what of it is wanted.

    Returns:
        By phase what comes of it. Where both phases are one model, they have one answer, and this is one too.
    """
    found: dict[int, Future[Carried]] = {}
    for phase, answer in answers.items():
        if id(answer.probabilities) not in found:
            found[id(answer.probabilities)] = pool.submit(_carried, phase, answer, splits, options)
    return {phase: found[id(answer.probabilities)] for phase, answer in answers.items()}


@threadpool_limits.wrap(limits=1)  # type: ignore[untyped-decorator]  # as in thaw.evaluation.baselines
def _carried(phase: str, answers: Answers, splits: Mapping[str, held_out.Split], options: schema.Evaluate) -> Carried:
    found = Carried(_calibrated(phase, answers.probabilities, splits, options) if options.calibration else {})
    if options.unfamiliar:
        found.record["unfamiliar"], found.parameters, found.scores = _unfamiliar(
            phase, answers.embeddings, splits, options
        )
    return found


def write(begun: Mapping[str, Future[Carried]], splits: Mapping[str, held_out.Split], ship: str) -> dict[str, Any]:
    """Write calibration.json and unfamiliar.npz, as far as they are wanted.

    Args:
        begun: of ``started``.
        splits: train, val and test.
        ship: the phase whose figures are at the top of calibration.json too.

    Returns:
        A few figures of the phase that is shipped, for ``metrics/evaluate.json``.
    """
    carried = {phase: each.result() for phase, each in begun.items()}
    found = {phase: each.record for phase, each in carried.items()}
    scores = {phase: each.scores for phase, each in carried.items() if each.scores is not None}
    if scores:
        out_of_distribution.save(paths.UNFAMILIAR, {phase: carried[phase].parameters for phase in scores}, scores)
    left_out = {split: int((~splits[split].clean).sum()) for split in units.LEARNT_FROM}
    if any(left_out.values()):
        found = {phase: record and {**record, "leaks_left_out": left_out} for phase, record in found.items()}
    if any(found.values()):
        records.write_json(paths.CALIBRATION, {"phase": ship, **found[ship], **found})
    return _few(found[ship])


def _calibrated(
    phase: str, rows: Floats, splits: Mapping[str, held_out.Split], options: schema.Evaluate
) -> dict[str, Any]:
    val, test = splits["val"], splits["test"]
    held = np.load(paths.validation(held_out.source(phase)), mmap_mode="r", allow_pickle=False)
    labels, tested, own = val.labels[val.clean], test.labels[test.clean], test.units[test.clean]
    record, (val_rows, test_rows) = calibration.record(
        (_some(held, val.clean), labels), (_some(rows, test.clean), tested), options.precision, options.confidence, own
    )
    sets = {}
    for level in options.conformal:
        least = conformal.threshold(val_rows, labels, level, val.units[val.clean])
        sets[f"{level:.2f}" if round(level, 2) == level else f"{level:g}"] = conformal.measured(
            test_rows, tested, least, options.confidence, own
        )
    return {**record, "conformal": sets}


def _some(rows: Floats, wanted: NDArray[np.bool_]) -> Floats:
    """Return the rows that are wanted; where all are, no copy of them."""
    return rows if wanted.all() else rows[wanted]


def _unfamiliar(
    phase: str, rows: Floats, splits: Mapping[str, held_out.Split], options: schema.Evaluate
) -> tuple[dict[str, Any], out_of_distribution.Parameters, NDArray[np.float32]]:
    train, images = held_out.embedded(held_out.source(phase), "train")
    labels = splits["train"].labels
    if lacking := len(np.unique(labels)) - len(np.unique(labels[images])):
        console.warn(
            f"{lacking:,} classes left no embedding in {phase}, so their images count as unlike the training's"
        )
    parameters = out_of_distribution.fit(train, labels[images])
    held, places = held_out.embedded(held_out.source(phase), "val")
    clean = splits["val"].clean[places]
    least = out_of_distribution.threshold(
        out_of_distribution.score(held[clean] if clean.any() else held, parameters), options.unfamiliar
    )
    scores, test = out_of_distribution.score(rows, parameters), splits["test"]
    flagged = scores[test.clean] > least
    low, high = intervals.accuracy(flagged, options.confidence, test.units[test.clean])
    record = {"threshold": least, "share": options.unfamiliar, "flagged": float(flagged.mean()), "low": low}
    return {**record, "high": high, "training_images": len(images)}, parameters, scores


def _few(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what stands in ``metrics/evaluate.json``: numbers only, and no lists."""
    kept: dict[str, Any] = {}
    if "temperature" in record:
        kept["calibration"] = {
            "temperature": record["temperature"],
            **{f"{name}_{when}": record[when][name] for when in ("before", "after") for name in record[when]},
        }
        kept["wanted_precision"] = dict(record["wanted_precision"])
        kept["conformal"] = {level: dict(sets) for level, sets in record["conformal"].items()}
    if "unfamiliar" in record:
        kept["unfamiliar"] = dict(record["unfamiliar"])
    return kept
