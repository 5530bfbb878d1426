"""The held-out test: predict every test image once with the models of both phases, and write metrics and reports."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thaw import console, paths, records
from thaw.classifier import model
from thaw.config import schema
from thaw.data import units
from thaw.evaluation import fine_tuning, intervals, metrics, pictures
from thaw.images import manifest
from thaw.runtime import devices
from thaw.runtime.framework import keras, tf

NAMED = 10  # untested classes that a line names; the page and metrics/evaluate.json name all


def probabilities(
    classifiers: Sequence[model.Classifier], split: manifest.Images, batch_size: int
) -> list[np.ndarray]:
    """Return the class probabilities of each classifier for each image; an image is decoded once for all of them.

    Returns:
        For each classifier (n, classes) float32, rows that sum to 1.
    """
    runs = [tf.function(_softmax(model.whole(classifier)), reduce_retracing=True) for classifier in classifiers]
    found: list[list[np.ndarray]] = [[] for _ in runs]
    batches = manifest.pixels(classifiers[0].card.image, split.paths, split.hashes, batch_size)
    for pixels in console.track(batches, "test images", -(-len(split) // batch_size), "batches"):
        for run, rows in zip(runs, found, strict=True):
            with devices.enough_memory("evaluate.batch_size", batch_size):
                rows.append(run(pixels).numpy())
    return [np.concatenate(rows) for rows in found]


def _softmax(whole: keras.Model) -> Any:
    return lambda pixels: tf.nn.softmax(whole(pixels, training=False))


def write(
    found: Mapping[str, np.ndarray],
    split: manifest.Images,
    classes: Sequence[str],
    options: schema.Evaluate,
) -> str:
    """Write figures and tables.

    Args:
        found: probabilities by phase, (n, classes) float32.

    Returns:
        One line for people.
    """
    records.make_new(paths.EVALUATION)
    summaries: dict[str, Any] = {}
    tables: dict[str, list[dict[str, Any]]] = {}
    right: dict[str, np.ndarray] = {}
    manifest = records.read_csv(paths.MANIFEST)
    divided = [row["split"] for row in manifest]
    every = units.read(manifest)
    tested = np.array(divided) == "test"
    own, leaked = np.array(every)[tested], np.array(units.leaked(every, divided))[tested]
    for phase, rows in found.items():
        guesses = rows.argmax(axis=1)
        right[phase] = guesses == split.labels
        counts = metrics.confusion(split.labels, guesses, len(classes))
        summaries[phase] = metrics.summary(rows, split.labels, options.top_k, options.confidence, own)
        tables[phase] = metrics.per_class(split.labels, guesses, len(classes))
        pictures.confusion_picture(counts, classes, f"{phase}, test images", paths.confusion_picture(phase))
        _write_predictions(phase, rows, split, classes)
    first, second = right.values()
    summaries["difference"] = {
        **intervals.difference(first, second, options.confidence, own),
        **intervals.mcnemar(first, second, own),
    }
    clean = _without(leaked, right, own, options.confidence) if leaked.any() else {}
    absent = [name for name, row in zip(classes, tables["phase2"], strict=True) if not row["support"]]
    warnings = [*_leaks(clean, units.warning(units.leaks(every, divided), divided)), *_untested(absent)]
    weights = [folder / model.WEIGHTS for folder in paths.PHASES.values()]
    made_from = records.made_from([paths.MANIFEST, *weights])
    said = {"untested": absent, "warnings": warnings}
    records.write_json(paths.metrics("evaluate"), {**summaries, **clean, **said, "made_from": made_from})
    records.write_csv(
        paths.PER_CLASS,
        ["phase", "class", *metrics.PER_CLASS],
        (
            {"phase": phase, "class": name, **row}
            for phase in found
            for name, row in zip(classes, tables[phase], strict=True)
        ),
    )
    for warning in warnings:
        console.warn(warning)
    count = summaries["phase2"]["units"]
    apart = f", on {count:,} independent units" if count < len(split) else ""
    before, after = (_line(summaries[phase]) for phase in ("phase1", "phase2"))
    early = fine_tuning.early(records.read_json(paths.metrics("phase2_finetune")))
    tested = f"test accuracy {before} after phase 1, {after} after phase 2{apart}"
    return f"{tested}; {early[0].lower()}{early[1:].rstrip('.')}" if early else tested


def _without(
    leaked: np.ndarray, right: Mapping[str, np.ndarray], own: np.ndarray, confidence: float
) -> dict[str, dict[str, Any]]:
    """Return ``without_leaks``: the accuracy of each phase on the test images that are not leaked."""
    clean: dict[str, Any] = {"images": int((~leaked).sum())}
    for phase, correct in right.items() if clean["images"] else ():
        low, high = intervals.accuracy(correct[~leaked], confidence, own[~leaked])
        clean[phase] = {"accuracy": float(correct[~leaked].mean()), "accuracy_low": low, "accuracy_high": high}
    return {"without_leaks": clean}


def _leaks(clean: Mapping[str, Any], warning: str) -> list[str]:
    """Return the line on leaks, with the accuracy without them; none where no test image is leaked."""
    if not clean:
        return []
    kept = clean["without_leaks"]
    if not kept["images"]:
        return [f"{warning}; no test image is left without them, so the accuracy says nothing of new images"]
    first, second = (_line(kept[phase]) for phase in ("phase1", "phase2"))
    left = f"the other {kept['images']:,} test images"
    return [f"{warning}; accuracy on {left}: {first} after phase 1, {second} after phase 2"]


def _untested(absent: Sequence[str]) -> list[str]:
    """Return the line on classes without test images."""
    if not absent:
        return []
    more = f" and {len(absent) - NAMED:,} more" if len(absent) > NAMED else ""
    return [f"not tested, for want of test images, and in no mean over classes: {', '.join(absent[:NAMED])}{more}"]


def _line(summary: Mapping[str, float]) -> str:
    return f"{summary['accuracy']:.1%} ({summary['accuracy_low']:.1%} to {summary['accuracy_high']:.1%})"


def _write_predictions(phase: str, rows: np.ndarray, split: manifest.Images, classes: Sequence[str]) -> None:
    records.write_array(paths.probabilities(phase), rows)
    lines = (
        {"path": name, "label": classes[label], "predicted": classes[row.argmax()], "probability": float(row.max())}
        for name, label, row in zip(split.names, split.labels, rows, strict=True)
    )
    records.write_csv(paths.predictions(phase), ["path", "label", "predicted", "probability"], lines)
