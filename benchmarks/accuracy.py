"""Measure the recipes of phase 2 on several sets: the default, the former one, the article's, and cosines.

``python -m benchmarks.accuracy --data DIR … [--seeds 3] [--recipes …]``; ``digits`` for DIR is the demonstration. All
recipes start from one phase 1 for each seed, on the same split and from one activation cache. Each finished trial is a
line of ``benchmarks/results/accuracy_<set>.jsonl``, and the same command again runs what is missing there: delete the
file after a change of the code. ``--images N`` trains on N images of a set at most and tests on the
others, for what a machine without a GPU can do in an hour. Beside accuracy and the processor's time, which other
programs change little, it measures the harm of the first epoch: the validation loss after each tenth of it, of what
would be kept, against the start.
"""

import argparse
import functools
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import project, record, subset, trials
from thaw import paths, records
from thaw.classifier import model
from thaw.config import phases, schema
from thaw.features import extraction, inputs
from thaw.features.frozen import Frozen
from thaw.images import manifest
from thaw.runtime.framework import keras
from thaw.training import averaging, feed, validation
from thaw.training import fit as fit_loop

REGRESSION, PHASE1, DEFAULT = "embeddings + logistic regression", "phase 1", "default"
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)  # of scikit-learn's C; validation chooses
COSINE = ("phase2.schedule=cosine", "phase2.average_epochs=0", "phase2.mixup=0.2", "phase2.learning_rate=3e-4")
TENTHS = 10


def cosine(unfreeze: str, epochs: int, steps: int) -> list[str]:
    """Return a cosine over so many epochs of so many steps with a warm-up of a tenth of them, also of few images.

    MixUp begins after the warm-up, as it does in the default.
    """
    warmup = epochs / 10 / phases.counted(1, steps)  # what the schedule makes longer where epochs are short
    return [*COSINE, f"phase2.unfreeze={unfreeze}", f"phase2.epochs={epochs}", f"phase2.warmup={warmup:.6g}"]


def recipes(steps: int) -> dict[str, list[str]]:
    """Return the overrides of each recipe, for epochs of so many steps."""
    former = min(max(3, math.ceil(128 / steps)), 20)  # three, or as many as give 128 steps
    return {
        REGRESSION: [],
        PHASE1: [],
        "former default": cosine("40", former, steps),
        DEFAULT: [],
        "article": ["phase2=article"],
        "cosine 10, 40 layers": cosine("40", 10, steps),
        "cosine 30, 40 layers": cosine("40", 30, steps),
        "cosine 10, all layers": cosine("all", 10, steps),
        "cosine 30, all layers": cosine("all", 30, steps),
    }


@dataclass
class Row:
    """A finished trial, as it is in the results file."""

    recipe: str
    seed: int
    settings: list[str]  # overrides, of the recipe and of all
    right: str  # of each test image 1 or 0
    seconds: float  # of the processor, for the recipe alone: imports and the probes of the first epoch left out
    tenths: list[float] = field(default_factory=list)  # validation loss after each of the first epoch
    start: float = 0.0  # validation loss before it
    losses: list[float] = field(default_factory=list)  # after each epoch
    figures: dict[str, Any] = field(default_factory=dict)  # of metrics/phase2_finetune.json

    def answers(self) -> np.ndarray:
        """Return whether each test image comes out right, (n,) bool."""
        return np.array([letter == "1" for letter in self.right])


class Tenths(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no stubs
    """Takes the validation loss of what would be kept after each tenth of the first epoch."""

    def __init__(self, val: manifest.Batches, steps: int):
        super().__init__()
        self.val, self.seconds, self.epoch = val, 0.0, 0
        self.losses: list[float] = []
        self.marks = [max(1, round(steps * (number + 1) / TENTHS)) for number in range(TENTHS)]

    def on_train_begin(self, logs: Any = None) -> None:
        """Keras's hook."""
        self.run = validation.forward(self.model)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Keras's hook; epochs count from 0."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Keras's hook."""
        begin = time.process_time()
        while self.epoch == 0 and len(self.losses) < TENTHS and self.marks[len(self.losses)] <= batch + 1:
            with averaging.averaged(self.model.optimizer):
                self.losses.append(float(validation.answers(self.run, self.val).loss.mean()))
        self.seconds += time.process_time() - begin


@contextmanager
def probed() -> Iterator[list[Tenths]]:
    """Have ``fit.fit`` take the tenths inside; yields where each training leaves its own."""
    fit, at_once = fit_loop.fit, feed.STEPS_AT_ONCE
    left: list[Tenths] = []

    @functools.wraps(fit)
    def watched(model: Any, train: Any, val: Any, *more: Any, **named: Any) -> fit_loop.History:
        left.append(Tenths(val, len(train)))
        return fit(model, train, val, *more, **{**named, "callbacks": [left[-1]]})

    fit_loop.fit, feed.STEPS_AT_ONCE = watched, 1  # or Python would be asked after each eighth step only
    try:
        yield left
    finally:
        fit_loop.fit, feed.STEPS_AT_ONCE = fit, at_once


def text(right: np.ndarray) -> str:
    """Return 1 or 0 for each image."""
    return "".join("1" if each else "0" for each in right)


def regression(settings: schema.Project) -> np.ndarray:
    """Return whether each test image comes out right by logistic regression on the frozen network's embeddings."""
    classifier = model.load(paths.PHASE1)
    card, pooling = classifier.card, classifier.card.head.pooling
    part = keras.Model(classifier.backbone.input, classifier.pool(classifier.backbone.output))
    frozen = Frozen(part, [f"pool:{pooling}"], card.weights_sha256, card.image, settings.augment, settings.compute)
    splits = manifest.read(settings.data.raw, *paths.SPLITS)
    readers = extraction.cached(frozen, [(split, 1) for split in splits])
    train, val, test = (inputs.clean(r[0])(np.arange(len(s))) for r, s in zip(readers, splits, strict=True))
    found = []
    for strength in STRENGTHS:
        fitted = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        fitted.fit(train, splits[0].labels)
        found.append((fitted.score(val, splits[1].labels), strength, fitted))
    best = max(found, key=lambda each: each[:2])[2]
    right: np.ndarray = best.predict(test) == splits[2].labels
    return right


class Results:
    """The finished trials of a set, on disk."""

    def __init__(self, path: Path):
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self.rows = [Row(**json.loads(line)) for line in lines]

    def has(self, recipe: str, seed: int, settings: Sequence[str]) -> bool:
        """Return whether the trial is there."""
        return any((row.recipe, row.seed, row.settings) == (recipe, seed, list(settings)) for row in self.rows)

    def add(self, row: Row) -> None:
        """Keep a finished trial, also if the next one is cut off."""
        self.rows.append(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")


def measure(
    where: Sequence[str], common: Sequence[str], seeds: int, wanted: Sequence[str], results: Results, images: int = 0
) -> None:
    """Run what the results lack, in a copy of the project, with so many training images at most; 0: with all."""
    first = project.configure([*where, *common])
    if where[0] == "data=digits":
        project.run("sample")
    if images:
        where = [*where, *subset.fewer(Path(first.data.raw), images, Path("fewer.csv"))]
        first = project.configure([*where, *common])
    project.run("prepare")
    steps = math.ceil(len(manifest.read(first.data.raw, "train")[0]) / first.phase2.batch_size)
    chosen = {name: overrides for name, overrides in recipes(steps).items() if name in wanted}
    for seed in range(seeds):
        drawn = [f"{group}.seed={seed}" for group in ("phase1", "phase2")]
        missing = [
            (name, overrides)
            for name, overrides in chosen.items()
            if not (name == REGRESSION and seed) and not results.has(name, seed, [*common, *overrides])
        ]
        if not missing:
            continue
        # One pass of the images for all depths.
        everywhere = [*where, *drawn, *common, "compute.depths=[40,30%,75%]"]
        before = project.configure(everywhere)
        begin = time.process_time()
        project.run("phase1_head")
        in_phase1 = time.process_time() - begin
        for name, overrides in missing:
            keras.utils.clear_session(free_memory=True)
            told = [*common, *overrides]
            begin = time.process_time()
            if name == REGRESSION:
                right = regression(before)
                results.add(Row(name, seed, told, text(right), time.process_time() - begin))
            elif name == PHASE1:
                right = trials.tested(project.configure([*everywhere, "phase2.unfreeze=none"]), paths.PHASE1)
                results.add(Row(name, seed, told, text(right), in_phase1))
            else:
                results.add(_phase2(project.configure([*everywhere, *overrides]), name, seed, told))


def _phase2(settings: schema.Project, name: str, seed: int, told: list[str]) -> Row:
    begin = time.process_time()
    with probed() as left:
        project.run("phase2_finetune")
    seconds = time.process_time() - begin - sum(probe.seconds for probe in left)
    figures = records.read_json(paths.metrics("phase2_finetune"))
    losses = [float(row["val_loss"]) for row in records.read_csv(paths.history("phase2_finetune"))]
    # What is kept less what it has changed by; where the start is kept, its loss is the figure.
    kept = float(figures["val_loss"])
    start = kept - float(figures["val_loss_change"]) if figures["best_epoch"] else kept
    right = trials.tested(settings, paths.PHASE2)
    tenths = left[0].losses if left else []
    return Row(name, seed, told, text(right), seconds, tenths, start, losses, figures)


def table(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return a row for each recipe: figures over its seeds, and its paired difference to the default."""
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(row.recipe, []).append(row)
    share = {name: np.mean([row.answers() for row in of], axis=0) for name, of in by_name.items()}
    lines = []
    for name in [name for name in recipes(1) if name in by_name]:
        of, line = by_name[name], {"recipe": name, "test accuracy": trials.accuracy(share[name])}
        line["by seed"] = ", ".join(f"{row.answers().mean():.1%}" for row in of)
        line["points from the default"] = _apart(share[name], share[DEFAULT]) if DEFAULT in share else ""
        line["epochs"] = ", ".join(str(len(row.losses)) for row in of if row.losses)
        line["processor s"] = f"{np.median([row.seconds for row in of]):.0f}"
        line["first epoch's loss by tenths"] = _harm(of)
        lines.append(line)
    return lines


def _apart(share: np.ndarray, default: np.ndarray) -> str:
    apart = share - default
    if not apart.any():
        return ""
    return f"{100 * apart.mean():+.1f} ± {100 * 1.96 * float(apart.std(ddof=1)) / len(apart) ** 0.5:.1f}"


def _harm(rows: Sequence[Row]) -> str:
    """Return the start's validation loss, and after each tenth its ratio to that; means over the seeds."""
    with_tenths = [row for row in rows if len(row.tenths) == TENTHS]
    if not with_tenths:
        return ""
    start = np.mean([row.start for row in with_tenths])
    ratios = np.mean([np.array(row.tenths) / row.start for row in with_tenths], axis=0)
    return f"{start:.3f} × " + " ".join(f"{ratio:.2f}" for ratio in ratios)


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows as a table."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([row[name] for name in head] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> None:
    every = list(recipes(1))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="folders with one folder per class, or digits")
    parser.add_argument("--seeds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--recipes", nargs="+", default=every, choices=every, help="(default: all)")
    parser.add_argument("--cache", type=Path, help="folder of the activation cache (default: one that is deleted)")
    parser.add_argument("--images", type=int, default=0, help="to train on, at most (default: all)")
    parser.add_argument("--set", nargs="*", default=[], dest="overrides", help="more of the configuration, for all")
    options = parser.parse_args()
    own = [f"compute.cache_dir={options.cache.resolve()}"] if options.cache else []
    pages = []
    for data in options.data:
        is_sample = data == "digits" and not Path(data).exists()
        where = ["data=digits"] if is_sample else ["data=folder", f"data.raw={Path(data).resolve()}"]
        name = Path(data).resolve().name + (f"_{options.images}" if options.images else "")
        results = Results((record.FOLDER / f"accuracy_{name}.jsonl").resolve())
        with project.scratch():
            measure([*where, *own], options.overrides, options.seeds, options.recipes, results, options.images)
        chosen = [
            row
            for row in results.rows
            if row.recipe in options.recipes
            and row.seed < options.seeds
            and row.settings[: len(options.overrides)] == options.overrides
        ]
        pages.append(f"{name}, {len(chosen[0].right):,} test images\n\n{markdown(table(chosen))}")
        page = record.FOLDER / f"accuracy_{name}.md"
        page.write_text(pages[-1], encoding="utf-8")
        print(pages[-1])
    (record.FOLDER / "accuracy.json").write_text(json.dumps(record.machine(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
