"""What a deployed model carries besides its weights, by phase: temperature, thresholds, the score of unlike images.

All of it is fitted on validation images (the score on training images too) and measured on the test images.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from thaw import paths, records
from thaw.config import schema
from thaw.evaluation import calibration, conformal, held_out, intervals, out_of_distribution

Floats = NDArray[np.floating[Any]]


@threadpool_limits.wrap(limits=1)  # type: ignore[untyped-decorator]  # as in thaw.evaluation.baselines
def write(
    probabilities: Mapping[str, Floats],
    embeddings: Mapping[str, Floats],
    splits: Mapping[str, held_out.Split],
    options: schema.Evaluate,
    ship: str,
) -> dict[str, Any]:
    """Write calibration.json and unfamiliar.npz.

    Args:
        probabilities: of the test images by phase, (images, classes).
        embeddings: of the test images by phase, (images, channels).
        splits: train, val and test.
        options: what of it is wanted.
        ship: the phase whose figures are at the top of calibration.json too.

    Returns:
        A few figures of the phase that is shipped, for ``metrics/evaluate.json``.
    """
    found: dict[str, dict[str, Any]] = {}
    parameters: dict[str, out_of_distribution.Parameters] = {}
    scores: dict[str, Floats] = {}
    for phase, rows in probabilities.items():
        # Where both phases are one model, they have one answer.
        if known := next((other for other in found if probabilities[other] is rows), None):
            found[phase] = found[known]
            if options.unfamiliar:
                parameters[phase], scores[phase] = parameters[known], scores[known]
            continue
        found[phase] = _calibrated(phase, rows, splits, options) if options.calibration else {}
        if options.unfamiliar:
            found[phase] |= _unfamiliar(phase, embeddings[phase], splits, options)
            parameters[phase], scores[phase] = (
                found[phase]["unfamiliar"].pop(key) for key in ("parameters", "scores")
            )
    if options.unfamiliar:
        out_of_distribution.save(paths.UNFAMILIAR, parameters, scores)
    if any(found.values()):
        records.write_json(paths.CALIBRATION, {"phase": ship, **found[ship], **found})
    return _few(found[ship])


def _calibrated(
    phase: str, rows: Floats, splits: Mapping[str, held_out.Split], options: schema.Evaluate
) -> dict[str, Any]:
    val, test = splits["val"], splits["test"]
    held = np.load(paths.validation(held_out.source(phase)), mmap_mode="r", allow_pickle=False)
    record, (val_rows, test_rows) = calibration.record(
        (held, val.labels), (rows, test.labels), options.precision, options.confidence, test.units
    )
    sets = {}
    for level in options.conformal:
        least = conformal.threshold(val_rows, val.labels, level, val.units)
        sets[f"{level:.2f}" if round(level, 2) == level else f"{level:g}"] = conformal.measured(
            test_rows, test.labels, least, options.confidence, test.units
        )
    return {**record, "conformal": sets}


def _unfamiliar(
    phase: str, rows: Floats, splits: Mapping[str, held_out.Split], options: schema.Evaluate
) -> dict[str, Any]:
    train, images = held_out.embedded(held_out.source(phase), "train")
    parameters = out_of_distribution.fit(train, splits["train"].labels[images])
    held = out_of_distribution.score(held_out.embedded(held_out.source(phase), "val")[0], parameters)
    least = out_of_distribution.threshold(held, options.unfamiliar)
    scores = out_of_distribution.score(rows, parameters)
    flagged = scores > least
    low, high = intervals.accuracy(flagged, options.confidence, splits["test"].units)
    record = {"threshold": least, "share": options.unfamiliar, "flagged": float(flagged.mean()), "low": low}
    more = {"training_images": len(images), "parameters": parameters, "scores": scores}
    return {"unfamiliar": {**record, "high": high, **more}}


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
