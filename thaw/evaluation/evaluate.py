"""The held-out test: predict every test image once with the models of both phases, and write metrics and reports."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thaw import console, paths, records
from thaw.classifier import model
from thaw.config import schema
from thaw.evaluation import (
    baselines,
    beside,
    comparison,
    confusion,
    deployment,
    fine_tuning,
    held_out,
    intervals,
    metrics,
    pictures,
    predictions,
    robustness,
    slices,
    verdict,
)
from thaw.images import columns, manifest

NAMED = 10  # untested classes that a line names; the page and metrics/evaluate.json name all
MAPPED = 5000  # test images at most whose embeddings are written, evenly spread


def probabilities(
    classifiers: Sequence[model.Classifier], split: manifest.Images, batch_size: int
) -> list[np.ndarray]:
    """Return the class probabilities of each classifier for each image.

    Returns:
        For each classifier (n, classes) float32, rows that sum to 1.
    """
    runs = {str(number): predictions.predictor(each) for number, each in enumerate(classifiers)}
    found = predictions.answers(runs, classifiers[0].card.image, split, batch_size)
    return [found[name].probabilities for name in runs]


def write(
    found: Mapping[str, predictions.Answers],
    split: manifest.Images,
    rows: Sequence[Mapping[str, str]],
    classes: Sequence[str],
    options: schema.Evaluate,
    stressed: robustness.Corrupted | None = None,
    scratch: comparison.Trained | None = None,
) -> tuple[str, verdict.Verdict]:
    """Write figures, tables, pictures and the verdict; ``paths.EVALUATION`` is there and new.

    Args:
        found: for the test images, by phase.
        split: the test images.
        rows: of the whole manifest.
        classes: names.
        options: the group ``evaluate``.
        stressed: of corrupted test images, if any were made.
        scratch: the same network trained from scratch, where it was.

    Returns:
        One line for people, and the verdict.
    """
    guessed = {phase: answer.probabilities.argmax(axis=1) for phase, answer in found.items()}
    right = {phase: guesses == split.labels for phase, guesses in guessed.items()}
    splits, every = held_out.read(rows, classes), columns.of(rows)
    own, leaked = splits["test"].units, splits["test"].leaked
    trained = records.read_json(paths.metrics("phase2_finetune"))
    same, advice = bool(fine_tuning.kept_start(trained)), str(trained.get("advice", ""))
    frozen = found["phase1"].embeddings
    large = baselines.are_large(len(splits["train"].labels), frozen.shape[1], len(classes))
    with beside.pool(large=large) as pool:
        verdicts = pool.submit(
            comparison.write, right, frozen, splits, options, same=same, early=advice, scratch=scratch
        )
        begun = deployment.started(pool, found, splits, options)
        summaries, tables = _described(found, guessed, split, classes, options, own)
        judged = verdicts.result()
        records.write_array(paths.EMBEDDINGS, found[judged.ship].embeddings[mapped(len(split))])
        slices.write(every.take(every.are("split", "test")), right[judged.ship], options.confidence, own)
        carried = deployment.write(begun, splits, judged.ship)
    first, second = right.values()
    summaries["difference"] = {
        **intervals.difference(first, second, options.confidence, own),
        **intervals.mcnemar(first, second, own),
    }
    clean = _without(leaked, right, own, options.confidence) if leaked.any() else {}
    absent = [name for name, row in zip(classes, tables["phase2"], strict=True) if not row["support"]]
    warnings = [*_leaks(clean, held_out.warning(rows, splits)), *_untested(absent)]
    weights = [folder / model.WEIGHTS for folder in paths.PHASES.values()]
    made_from = records.made_from([paths.MANIFEST, *weights])
    if stressed:
        robust = robustness.write(stressed, split.labels, right, options.confidence, own)
        carried["robustness"] = robust
        warnings += _costs(robust, options.confidence)
    figures = {**summaries, **clean, **carried, "untested": absent, "warnings": warnings, "made_from": made_from}
    records.write_json(paths.metrics("evaluate"), figures)
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
    early = fine_tuning.early(trained)
    text = f"test accuracy {before} after phase 1, {after} after phase 2{apart}"
    return (f"{text}; {early[0].lower()}{early[1:].rstrip('.')}" if early else text), judged


def _described(
    found: Mapping[str, predictions.Answers],
    guessed: Mapping[str, np.ndarray],
    split: manifest.Images,
    classes: Sequence[str],
    options: schema.Evaluate,
    own: np.ndarray,
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Write the answers and the picture of their confusion; return the figures of each phase, and those by class."""
    summaries: dict[str, Any] = {}
    tables: dict[str, list[dict[str, Any]]] = {}
    for phase, answer in found.items():
        counts = confusion.counted(split.labels, guessed[phase], len(classes))
        summaries[phase] = metrics.summary(answer.probabilities, split.labels, options.top_k, options.confidence, own)
        tables[phase] = metrics.per_class(split.labels, guessed[phase], len(classes))
        pictures.confusion_picture(counts, classes, f"{phase}, test images", paths.confusion_picture(phase))
        _write_predictions(phase, answer.probabilities, split, classes)
    return summaries, tables


def mapped(count: int) -> np.ndarray:
    """Return the places of the test images whose embeddings are in ``paths.EMBEDDINGS``: at most ``MAPPED``."""
    return np.unique(np.linspace(0, count - 1, min(count, MAPPED)).round().astype(np.int64))


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


def _costs(robust: Mapping[str, Any], confidence: float) -> list[str]:
    """Return the line on what fine-tuning cost of robustness; none where that is not sure."""
    if intervals.told_apart(robust["difference"], confidence) >= 0:
        return []
    first, second = (f"{robust[phase]['corrupted']:.1%}" for phase in ("phase1", "phase2"))
    told = f"of {robust['images']:,} corrupted images phase 2 gets {second} right, phase 1 {first}"
    return [f"fine-tuning cost robustness: {told}; {paths.ROBUSTNESS} has which"]


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
