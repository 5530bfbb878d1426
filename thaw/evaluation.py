"""The test: what the models of both phases say of every test image, once, and what that is worth."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from thaw import images, layout, metrics, model, progress, records, report, schema
from thaw.framework import keras, tf

PHASES = {"phase1": layout.PHASE1, "phase2": layout.PHASE2}


def probabilities(classifiers: Sequence[model.Classifier], split: images.Images, batch_size: int) -> list[np.ndarray]:
    """What each classifier says of each image; an image is decoded once for all of them.

    Returns:
        For each classifier (n, classes) float32, rows that sum to 1.
    """
    runs = [tf.function(_softmax(model.whole(classifier)), reduce_retracing=True) for classifier in classifiers]
    found: list[list[np.ndarray]] = [[] for _ in runs]
    batches = images.pixels(classifiers[0].card.image, split.paths, split.hashes, batch_size)
    for pixels in progress.track(batches, "test images", -(-len(split) // batch_size), "batches"):
        for run, rows in zip(runs, found, strict=True):
            rows.append(run(pixels).numpy())
    return [np.concatenate(rows) for rows in found]


def _softmax(whole: keras.Model) -> Any:
    return lambda pixels: tf.nn.softmax(whole(pixels, training=False))


def write(found: Mapping[str, np.ndarray], split: images.Images, settings: Any, classes: Sequence[str]) -> str:
    """Write figures, tables, pictures and the report.

    Args:
        found: probabilities by phase, (n, classes) float32.
        settings: has the groups evaluate and those that the report shows.

    Returns:
        One line for people.
    """
    options: schema.Evaluate = settings.evaluate
    summaries: dict[str, Any] = {}
    tables: dict[str, list[dict[str, Any]]] = {}
    right: dict[str, np.ndarray] = {}
    for phase, rows in found.items():
        guesses = rows.argmax(axis=1)
        right[phase] = guesses == split.labels
        counts = metrics.confusion(split.labels, guesses, len(classes))
        summaries[phase] = metrics.summary(rows, split.labels, options.top_k, options.confidence)
        tables[phase] = metrics.per_class(counts)
        report.confusion_picture(counts, classes, f"{phase}, test images", layout.confusion_picture(phase))
        _write_predictions(phase, rows, split, classes)
    summaries["difference"] = {
        **metrics.difference(right["phase1"], right["phase2"], options.confidence),
        **metrics.mcnemar(right["phase1"], right["phase2"]),
    }
    weights = [folder / model.WEIGHTS for folder in PHASES.values()]
    made_from = records.made_from([layout.MANIFEST, *weights])
    records.write_json(layout.metrics("evaluate"), {**summaries, "made_from": made_from})
    records.write_csv(
        layout.PER_CLASS,
        ["phase", "class", "precision", "recall", "f1", "support"],
        (
            {"phase": phase, "class": name, **row}
            for phase in found
            for name, row in zip(classes, tables[phase], strict=True)
        ),
    )
    _write_report(settings, classes, summaries, tables)
    first, second = (_line(summaries[phase]) for phase in ("phase1", "phase2"))
    return f"test accuracy {first} after phase 1, {second} after phase 2"


def _line(summary: Mapping[str, float]) -> str:
    return f"{summary['accuracy']:.1%} ({summary['accuracy_low']:.1%} to {summary['accuracy_high']:.1%})"


def _write_predictions(phase: str, rows: np.ndarray, split: images.Images, classes: Sequence[str]) -> None:
    layout.EVALUATION.mkdir(parents=True, exist_ok=True)
    np.save(layout.probabilities(phase), rows, allow_pickle=False)
    lines = (
        {"path": name, "label": classes[label], "predicted": classes[row.argmax()], "probability": float(row.max())}
        for name, label, row in zip(split.names, split.labels, rows, strict=True)
    )
    records.write_csv(layout.predictions(phase), ["path", "label", "predicted", "probability"], lines)


def _kept_start(trained: Mapping[str, Any]) -> str:
    """Why phase 2's model is phase 1's, in a sentence; empty where phase 2 made a model of its own.

    Args:
        trained: the figures of phase 2's training: ``layers``, ``epochs`` and ``best_epoch``.
    """
    if not trained["layers"]:
        return "Phase 2 thawed nothing, so its model is phase 1's."
    if trained["best_epoch"]:
        return ""
    tried = "its only epoch" if trained["epochs"] == 1 else f"none of its {trained['epochs']} epochs"
    none = "had no" if trained["epochs"] == 1 else "had a"
    return f"Phase 2 did not help: {tried} {none} lower validation loss than its start, so its model is phase 1's."


def _write_report(
    settings: Any, classes: Sequence[str], summaries: Mapping[str, Any], tables: Mapping[str, Any]
) -> None:
    histories = {
        phase: records.read_csv(layout.history(stage))
        for phase, stage in (("phase1", "phase1_head"), ("phase2", "phase2_finetune"))
    }
    kept = _kept_start(records.read_json(layout.metrics("phase2_finetune")))
    report.curves_picture(histories, layout.CURVES, kept=kept)
    rows = records.read_csv(layout.MANIFEST)
    counts = {
        split: {name: sum(row["split"] == split and row["label"] == name for row in rows) for name in classes}
        for split in layout.SPLITS
    }
    report.write_html(
        layout.REPORT,
        classes=classes,
        evaluation=summaries,
        per_class=tables,
        confusion_pictures={phase: layout.confusion_picture(phase) for phase in tables},
        curves=layout.CURVES,
        counts=counts,
        blocks=records.read_csv(layout.BLOCKS),
        params={name: group for name, group in asdict(settings).items() if name != "tracking"},
        confidence=settings.evaluate.confidence,
        kept=kept,
    )
