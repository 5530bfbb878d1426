"""Both phases trained with some settings and seeds, and tested on the same images, so that differences are paired."""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import project, record, subset
from thaw import paths, records
from thaw.classifier import model
from thaw.config import schema
from thaw.evaluation import intervals
from thaw.features import extraction, inputs, out_of_fold
from thaw.features.frozen import Frozen
from thaw.features.phase_outputs import AT_ONCE
from thaw.images import manifest

DEFAULT = "default"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what every comparison of phase 2 with its default is asked."""
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders with one folder per class")
    parser.add_argument("--seeds", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--images", type=int, default=0, help="to train on, at most (default: all)")
    parser.add_argument("--set", nargs="*", default=[], dest="overrides", help="more of the configuration")


def beside_default(
    benchmark: str,
    ways: Mapping[str, Sequence[str]],
    instead: Callable[[], AbstractContextManager[None]],
    options: argparse.Namespace,
) -> None:
    """Train with the default and in other ways on each set, and write a table of what differs.

    Args:
        benchmark: its name.
        ways: overrides by name.
        instead: what puts something in the place of the product's own, for these only.
        options: of ``add_arguments``.
    """
    for data in (path.resolve() for path in options.data):
        told = (options.seeds, options.overrides)
        results = run(data, {DEFAULT: []}, *told, images=options.images)
        with instead():
            results |= run(data, ways, *told, images=options.images)
        name = f"{data.name}_{options.images}" if options.images else data.name
        table = rows(results, "phase 2", DEFAULT)
        record.write(f"{benchmark}_{name}", f"{name}, {options.seeds} seeds", table, right=right(results))


def run(
    data: Path,
    settings: Mapping[str, Sequence[str]],
    seeds: int,
    common: Sequence[str],
    more: Sequence[str] = (),
    images: int = 0,
) -> dict[str, list[Any]]:
    """Train with each of ``settings`` (overrides by name), with each seed; the activation cache is shared.

    Args:
        seeds: how many. They change the head's first weights, the dropout, the order and the choice of views.
        common: overrides of all.
        more: groups that have the seed too, such as augment, whose views are then others.
        images: to train on, at most; 0: all.

    Returns:
        For each name a list of trials: which test images come out right after each phase, (n,) bool, the seconds of
        each phase, imports left out, and phase 2's epochs.
    """
    results: dict[str, list[Any]] = {name: [] for name in settings}
    with project.scratch():
        where = ["data=folder", f"data.raw={data.resolve()}"]
        where += subset.fewer(data, images, Path("fewer.csv")) if images else []
        for seed in range(seeds):
            for name, overrides in settings.items():
                drawn = [f"{group}.seed={seed}" for group in ("phase1", "phase2", *more)]
                results[name].append(_trial(project.configure([*where, *drawn, *common, *overrides])))
    return results


def _trial(settings: schema.Project) -> dict[str, Any]:
    if not paths.MANIFEST.exists():
        project.run("prepare")
    begin = time.monotonic()
    project.run("phase1_head")
    start = time.monotonic()
    project.run("phase2_finetune")
    end = time.monotonic()
    epochs = sum(1 for _ in paths.history("phase2_finetune").open(encoding="utf-8")) - 1
    boundary = str(records.read_json(paths.metrics("phase2_finetune"))["boundary"])
    before, after = (tested(settings, folder) for folder in (paths.PHASE1, paths.PHASE2))
    (test,) = manifest.read(settings.data.raw, "test")
    return {
        "right": after,
        "recall": float(np.mean([after[test.labels == label].mean() for label in np.unique(test.labels)])),
        "right before": before,
        "seconds": end - start,
        "seconds before": start - begin,
        "epochs": epochs,
        "boundary": boundary,
    }


def tested(settings: schema.Project, folder: Path) -> np.ndarray:
    """Return whether a phase's model is right on each test image, (n,) bool; frozen layers run once for all trials."""
    (test,), classifier = manifest.read(settings.data.raw, "test"), model.load(folder)
    boundary = inputs.boundary(classifier, settings.phase2.unfreeze_spec)
    frozen_part, thawed = model.thaw(classifier, boundary)
    card, cut = classifier.card, [boundary.tensor_layer]
    frozen = Frozen(frozen_part, cut, card.weights_sha256, card.image, settings.augment, settings.compute)
    ((reader,),) = extraction.cached(frozen, [(test, 1)])
    rows = inputs.clean(reader)
    said = out_of_fold.trained(rows, len(test), lambda some: thawed(some, training=False), AT_ONCE)
    found = np.concatenate(list(said))
    right: np.ndarray = found.argmax(axis=1) == test.labels
    return right


def rows(results: Mapping[str, Sequence[Any]], column: str, against: str) -> list[dict[str, Any]]:
    """A row for each name: its accuracy over all seeds, and its distance to that of ``against`` on the same images."""
    share = {name: np.mean([trial["right"] for trial in trials], axis=0) for name, trials in results.items()}
    table = []
    for name, trials in results.items():
        count = len(share[name])
        apart = share[name] - share[against]
        error = 1.96 * float(apart.std(ddof=1)) / count**0.5
        table.append(
            {
                column: name,
                "test accuracy": accuracy(share[name]),
                "by seed": ", ".join(f"{trial['right'].mean():.1%}" for trial in trials),
                "mean recall of classes": f"{statistics.mean(trial['recall'] for trial in trials):.1%}",
                f"points from {against}": f"{100 * apart.mean():+.1f} ± {100 * error:.1f}",
                "epochs": round(statistics.mean(trial["epochs"] for trial in trials), 1),
                "phase 2 s": round(statistics.median(trial["seconds"] for trial in trials), 1),
            }
        )
    return table


def accuracy(share: np.ndarray) -> str:
    """The mean with its 95 % interval, as if each image had been tested once.

    Args:
        share: (n,) of each image, the share of the trials in which it came out right.
    """
    mean, count = float(share.mean()), len(share)
    low, high = intervals.wilson(round(mean * count), count, 0.95)
    return f"{mean:.1%} ({low:.1%} to {high:.1%})"


def right(results: Mapping[str, Sequence[Any]]) -> dict[str, list[int]]:
    """How many test images come out right, for each name and seed."""
    return {name: [int(trial["right"].sum()) for trial in trials] for name, trials in results.items()}
