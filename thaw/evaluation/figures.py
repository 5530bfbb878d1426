"""The charts of the report, from the records on disk."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from thaw.evaluation import charts
from thaw.evaluation.charts import Axes, Series

Item = TypeVar("Item")
BASELINES = {
    "majority": ("Majority class", "always the commonest class of the training images"),
    "knn": ("Nearest neighbours", "k-NN on the embeddings of the frozen backbone"),
    "logistic_regression": ("Logistic regression", "on the embeddings of the frozen backbone"),
    "scratch": ("From scratch", "the same network from random weights"),
    "phase1": ("Phase 1", "head on the frozen backbone"),
    "phase2": ("Phase 2", "top of the backbone fine-tuned"),
}
ALL, CLEAN = "all", "none"  # of robustness.csv: over all corruptions or severities, and uncorrupted images
STYLES = {"phase1": "phase1", "phase2": "phase2"}
PAIRS_AT_MOST = 2_000_000  # answers in a ROC curve: more are thinned, evenly
POINTS = 120  # of a curve
FEWEST = 10  # answers of a point of the reliability diagram
NAMED = 20  # classes at most whose names are on the map
MAPPED = 1500  # images on a map, of them a third mistakes at most


def curves(histories: Mapping[str, Sequence[Mapping[str, str]]]) -> list[tuple[str, Markup]]:
    """Return loss and accuracy by epoch, both phases on one axis: for each what it shows and its chart."""
    found = []
    for name, percent in (("loss", False), ("accuracy", True)):
        train, val, marks, before = [], [], {}, 0
        for phase, rows in histories.items():
            if rows and before:
                marks[before + 0.5] = "phase 2" if phase == "phase2" else phase
                train.append((before + 0.5, math.nan))
                val.append((before + 0.5, math.nan))
            train += [(before + int(row["epoch"]), _float(row.get(name))) for row in rows]
            val += [(before + int(row["epoch"]), _float(row.get(f"val_{name}"))) for row in rows]
            before += int(rows[-1]["epoch"]) if rows else 0
        if not before:
            continue
        low, high = charts.span([value for _, value in (*train, *val)])
        axes = Axes((0.5, before + 0.5), (max(low, 0.0), high), "epoch", name, percent_y=percent)
        axes.x_ticks = [tick for tick in charts.ticks(1, before, 8, whole=True) if tick >= 1]
        text = f"{name.capitalize()} by epoch, of training and validation images"
        found.append(
            (
                text,
                charts.lines(
                    text, axes, [Series("training", train, "train"), Series("validation", val, "val")], marks
                ),
            )
        )
    return found


def blocks(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the blocks of the backbone as numbers, and last what they come to."""
    numbers = [{key: row[key] if key == "block" else float(row[key]) for key in row} for row in rows]
    total = {key: sum(row[key] for row in numbers) for key in ("layers", "parameters", "trained", "computation")}
    return [*numbers, {"block": "All", **total}]


def baselines(rows: Mapping[str, Mapping[str, Any]]) -> Markup:
    """Return the accuracy of each baseline and both phases with its interval."""
    drawn = [
        (BASELINES[name][0], row["accuracy"], row["low"], row["high"], STYLES.get(name, "other"))
        for name, row in ordered_baselines(rows)
    ]
    return charts.whiskers("Accuracy of baselines and both phases, with intervals", drawn)


def ordered_baselines(rows: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the baselines in the order of the page, with their names in the record."""
    return [(name, rows[name]) for name in BASELINES if name in rows]


def reliability(record: Mapping[str, Sequence[Mapping[str, float]]]) -> Markup:
    """Return the reliability diagram: the accuracy of the answers of each probability, before and after scaling.

    Bins of fewer than ``FEWEST`` answers are left out: their shares jump from 0 to 1.
    """
    axes = Axes((0, 1), (0, 1), "probability of the answer", "share that is right", True, True)
    series = [Series("ideal", [(0, 0), (1, 1)], "ideal", dots=False)]
    for name, style in (("before", "phase1"), ("after", "phase2")):
        bins = [row for row in record.get(name, ()) if row["count"] >= FEWEST]
        series.append(Series(name, [(row["confidence"], row["accuracy"]) for row in bins], style))
    return charts.lines("Reliability: share of right answers by their probability", axes, series)


def coverage(rows: Sequence[Mapping[str, float]]) -> Markup:
    """Return the accuracy against the share of images that are answered, the surest first."""
    points = [(float(row["coverage"]), float(row["accuracy"])) for row in rows]
    low, _ = charts.span([accuracy for _, accuracy in points])
    axes = Axes((0, 1), (max(low, 0.0), 1.0), "share of images answered", "accuracy", True, True)
    return charts.lines(
        "Accuracy by the share of images answered", axes, [Series("accuracy", points, "phase2", dots=False)]
    )


def ranking(
    probabilities: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]
) -> dict[str, list[tuple[float, float]]]:
    """Return ROC and precision–recall curve of every class against the others, all answers pooled.

    Args:
        probabilities: (images, classes).
        labels: (images,).

    Returns:
        ``roc``: (false positive rate, true positive rate), and ``pr``: (recall, precision); about ``POINTS`` points.
    """
    step = max(1, math.ceil(probabilities.size / PAIRS_AT_MOST))
    scores, own = probabilities[::step], labels[::step]
    right = (own[:, None] == np.arange(scores.shape[1])).ravel()
    order = np.argsort(-scores.ravel(), kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores.ravel()[order]) != 0, True))  # equal scores are one step
    found = np.cumsum(right[order])[ends]
    false = ends + 1 - found
    roc = np.stack([false / max(false[-1], 1), found / max(found[-1], 1)], axis=1)
    pr = np.stack([found / max(found[-1], 1), found / (ends + 1)], axis=1)
    return {"roc": [(0.0, 0.0), *_thinned(roc)], "pr": _thinned(pr)}


def ranking_charts(found: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> list[tuple[str, Markup]]:
    """Return the charts of what ``ranking`` gives by phase: for each what it shows and its chart."""
    roc, pr = (
        [Series(phase, curves[key], phase, dots=False) for phase, curves in found.items()] for key in ("roc", "pr")
    )
    axes = Axes((0, 1), (0, 1), "false positive rate", "true positive rate", True, True)
    low, _ = charts.span([y for each in pr for _, y in each.points])
    texts = "ROC curve, all classes pooled", "Precision–recall curve, all classes pooled"
    chance = Series("chance", [(0, 0), (1, 1)], "ideal", dots=False)
    second = Axes((0, 1), (max(low, 0.0), 1.0), "recall", "precision", True, True)
    return [(texts[0], charts.lines(texts[0], axes, [chance, *roc])), (texts[1], charts.lines(texts[1], second, pr))]


def robustness(rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return the accuracy of both phases on corrupted images, and a chart of it by severity.

    Args:
        rows: of ``models/evaluate/robustness.csv``: ``all`` stands for all corruptions or severities, and the
            corruption ``none`` for the same images as they are.

    Returns:
        ``table``, a row for each corruption and the last for all: ``name``, ``images``, ``cells`` (severity, phase 1,
        phase 2), and over all severities ``phase1``, ``phase2`` and the interval of phase 2, ``low`` and ``high``;
        ``clean``, the accuracy by phase of the images as they are; and ``chart``. Empty where there are no rows.
    """
    found: dict[str, dict[str, dict[str, Mapping[str, str]]]] = {}
    for row in rows:
        found.setdefault(row["corruption"], {}).setdefault(row["severity"], {})[row["phase"]] = row
    clean = {phase: float(row["accuracy"]) for phase, row in found.pop(CLEAN, {}).get("0", {}).items()}
    table = []
    for name, levels in found.items():
        total = levels.get(ALL, {})
        cells = [
            (level, *(float(cell[phase]["accuracy"]) if phase in cell else None for phase in STYLES))
            for level, cell in sorted(levels.items())
            if level != ALL
        ]
        if set(STYLES) <= set(total):
            own = {phase: float(total[phase]["accuracy"]) for phase in STYLES}
            after = total["phase2"]
            span = {"low": float(after["low"]), "high": float(after["high"]), "images": int(after["images"])}
            table.append({"name": name, "cells": cells, **own, **span})
    if not table:
        return {}
    table.sort(key=lambda row: (row["name"] == ALL, row["phase2"], row["name"]))
    return {"table": table, "clean": clean, "chart": _by_severity(table[-1], clean)}


def _by_severity(total: Mapping[str, Any], clean: Mapping[str, float]) -> Markup:
    """Return the accuracy of both phases by severity, from the images as they are on."""
    series = []
    for place, phase in enumerate(STYLES, start=1):
        points = [(0.0, clean[phase])] if phase in clean else []
        points += [(float(cell[0]), cell[place]) for cell in total["cells"] if cell[place] is not None]
        series.append(Series(phase, points, phase))
    low, high = charts.span([y for each in series for _, y in each.points])
    most = max(x for each in series for x, _ in each.points)
    axes = Axes((0, most), (max(low, 0.0), min(high, 1.0)), "severity, 0 as they are", "accuracy", percent_y=True)
    axes.x_ticks = charts.ticks(0, most, whole=True)
    return charts.lines("Accuracy by severity, over all corruptions", axes, series)


def embedding_map(places: Mapping[str, Any], rows: Sequence[Mapping[str, str]], side: int) -> Markup:
    """Return the map of test images, mistakes marked; of very many a part, evenly chosen.

    Args:
        places: what ``thaw.evaluation.embedding_map`` wrote.
        rows: the predictions of all test images, in the manifest's order.
        side: the largest coordinate.
    """
    found: dict[bool, list[tuple[int, int, bool, str]]] = {False: [], True: []}
    of: dict[str, list[tuple[int, int]]] = {}
    for image, x, y in zip(places["images"], places["x"], places["y"], strict=True):
        row = rows[image]
        wrong = row["label"] != row["predicted"]
        of.setdefault(row["label"], []).append((x, y))
        found[wrong].append((x, y, wrong, f"{row['path']}: {row['label']}, answered {row['predicted']}"))
    mistakes = _spread(found[True], MAPPED // 3)
    shown = [*_spread(found[False], MAPPED - len(mistakes)), *mistakes]
    middle = {name: np.median(own, axis=0).tolist() for name, own in sorted(of.items())} if len(of) <= NAMED else {}
    return charts.scatter("Map of the test images by their embeddings, mistakes marked", shown, side, middle)


def _spread(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most so many of the items, evenly chosen."""
    chosen = np.linspace(0, len(items) - 1, min(len(items), most)).round().astype(int)
    return [items[place] for place in chosen.tolist()]


def _thinned(points: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Return a curve with fewer points: those after at least a step of its length, first and last kept."""
    if len(points) == 0:
        return []
    kept = [points[0]]
    at = _step(points, 0)
    while at < len(points):
        before, point = points[at - 1], points[at]
        kept += [before, point] if not np.array_equal(before, kept[-1]) else [point]
        at = _step(points, at)
    kept.append(points[-1])
    return [(round(float(x), 4), round(float(y), 4)) for x, y in kept]


def _step(points: NDArray[np.float64], start: int) -> int:
    """Return the place of the first point that is a step away from the one at ``start``; behind the last: none is."""
    first, size = start + 1, 64
    while first < len(points):
        far = np.abs(points[first : first + size] - points[start]).max(axis=1) >= 1 / POINTS
        if far.any():
            return first + int(far.argmax())
        first, size = first + size, size * 2
    return len(points)


def _float(value: str | None) -> float:
    return float(value) if value else math.nan
