"""The claims about fine-tuning in two phases as experiments on a folder of images.

``python -m benchmarks.claims --data DIR [--parts scratch share rates pitfalls]``. Test and validation images are the
same in all of them; what differs is told to the pipeline, as a user would. ``--set`` takes more of the configuration,
such as a smaller size; docs/claims.md says what each part is.
"""

import argparse
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import project, record
from thaw import paths, records
from thaw.classifier import model
from thaw.config import load
from thaw.evaluation import intervals, predictions
from thaw.images import manifest

CONFIDENCE = 0.95
LISTING = "images.csv"
CHEAP = ("evaluate.robustness=0", "evaluate.calibration=false", "evaluate.baselines=false", "evaluate.unfamiliar=0")
# The same network without pretrained weights: all of it is trained at the rate of a head, BatchNorm on its own images.
SCRATCH = (
    *("backbone.weights=random", "phase1.epochs=1", "phase1.canary=warn", "phase2.unfreeze=all"),
    *("phase2.batch_norm=train", "phase2.allow_high_rate=true", "phase2.learning_rate=0.001"),
)
UNTRAINED = ("phase1.epochs=1", "phase1.learning_rate=1e-8", "phase2.allow_high_rate=true")
PITFALLS: dict[str, tuple[tuple[str, ...], str]] = {
    "one rate for both phases": (
        ("phase2.allow_high_rate=true", "phase2.learning_rate=0.001"),
        "phase2.learning_rate is refused unless it is below phase 1's",
    ),
    "head untrained before unfreezing": (UNTRAINED, "phase 1 always trains the head first"),
    "BatchNorm in training mode": (("phase2.batch_norm=train",), "phase2.batch_norm is inference unless you say so"),
    "recompiling forgotten": (("phase2.unfreeze=none",), "each phase compiles, and frozen weights are compared after"),
}
# What is fed instead of the pixels, (n, size, size, 3) in [0, 255], to the standard's model.
MISFED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "pixels in [0, 1]": lambda pixels: pixels / 255,
    "BGR in place of RGB": lambda pixels: pixels[..., ::-1],
}
ONE_CONTRACT = "the range is the backbone's first layer, and parity checks the export"


@dataclass
class Trial:
    """One run of both phases and the test."""

    right: dict[str, np.ndarray]  # by phase (images,) bool
    units: np.ndarray  # (images,)
    seconds: float  # of training, both phases, feature extraction with it
    history: list[dict[str, str]] = field(default_factory=list)  # of phase 2, a row an epoch
    phase2_seconds: float = 0.0
    drift: float = 0.0  # 1 - mean cosine of the embeddings of validation images before and after phase 2


def prepare(data: Path, overrides: Sequence[str]) -> list[dict[str, str]]:
    """Copy the images, divide them once, and return the rows of all later listings: path, label and split."""
    shutil.copytree(data, "images")
    project.configure(["data=folder", "data.raw=images", *overrides])
    project.run("prepare")
    rows = [row for row in records.read_csv(paths.MANIFEST) if row["split"]]
    return [{"path": f"images/{row['path']}", "label": row["label"], "split": row["split"]} for row in rows]


def thinned(rows: Sequence[Mapping[str, str]], share: float) -> list[Mapping[str, str]]:
    """Return the rows with a share of each class's training images, one at least; larger shares hold smaller ones."""
    kept = [row for row in rows if row["split"] != "train"]
    of: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        if row["split"] == "train":
            of.setdefault(row["label"], []).append(row)
    for own in of.values():
        drawn = sorted(own, key=lambda row: row["path"])
        random.Random(0).shuffle(drawn)  # noqa: S311 -- a seeded draw
        kept += drawn[: max(1, round(share * len(drawn)))]
    return kept


def trial(rows: Sequence[Mapping[str, str]], overrides: Sequence[str]) -> Trial:
    """Run the pipeline on the listed images."""
    records.write_csv(Path(LISTING), ("path", "label", "split"), rows)
    shutil.rmtree("cache", ignore_errors=True)  # each pays for its own feature extraction
    project.configure(["data=folder", f"data.raw={LISTING}", "data.min_per_class=1", *CHEAP, *overrides])
    project.run("environment")
    project.run("prepare")
    start = time.monotonic()
    project.run("phase1_head")
    middle = time.monotonic()
    project.run("phase2_finetune")
    end = time.monotonic()
    project.run("evaluate")
    right = {}
    for phase in paths.PHASES:
        answers = records.read_csv(paths.predictions(phase))
        right[phase] = np.array([row["label"] == row["predicted"] for row in answers])
    (test,) = manifest.read(LISTING, "test")
    _, units = np.unique(manifest.independent(test), return_inverse=True)
    history = records.read_csv(paths.history("phase2_finetune"))
    return Trial(right, units, end - start, history, end - middle, _drift())


def _drift() -> float:
    folders = [paths.embeddings(folder, "val") for folder in paths.PHASES.values()]
    if not all(path.is_file() for path in folders):
        return 0.0  # nothing was unfrozen
    before, after = (np.load(path)["rows"].astype(np.float64) for path in folders)
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    return float(1 - ((before * after).sum(axis=1) / np.maximum(lengths, 1e-12)).mean())


def figures(name: str, found: Trial, phase: str = "phase2") -> dict[str, Any]:
    """Return name, accuracy and its interval of a trial."""
    low, high = intervals.accuracy(found.right[phase], CONFIDENCE, found.units)
    return {"variant": name, "accuracy": float(found.right[phase].mean()), "low": low, "high": high}


def reached(found: Trial, wanted: float) -> float:
    """Return the seconds of training until the validation accuracy was as high as wanted; infinite if it never was."""
    first = found.seconds - found.phase2_seconds
    for number, row in enumerate(found.history, start=1):
        if float(row["val_accuracy"]) >= wanted:
            return first + found.phase2_seconds * number / len(found.history)
    return float("inf")


def against_scratch(two: Trial, scratch: Trial) -> list[dict[str, Any]]:
    """Return accuracy, and the time to the accuracy that each has reached, of both."""
    rows = []
    for name, found in (("two phases", two), ("from scratch", scratch)):
        best = max((float(row["val_accuracy"]) for row in found.history), default=0.0)
        rows.append(figures(name, found) | {"best validation accuracy": best, "seconds to it": reached(found, best)})
    rows[0]["seconds to scratch's best"] = reached(two, rows[1]["best validation accuracy"])
    rows[1]["seconds to scratch's best"] = rows[1]["seconds to it"]
    return rows


def cost(name: str, guard: str, standard: Trial, right: np.ndarray) -> dict[str, Any]:
    """Return what a pitfall costs in points of accuracy, with its interval, on the same test images."""
    gain = intervals.difference(standard.right["phase2"], right, CONFIDENCE, standard.units)
    points = {key: 100 * gain[f"accuracy{end}"] for key, end in (("points", ""), ("low", "_low"), ("high", "_high"))}
    return {"pitfall": name, **points, "guard": guard}


def misfed(raw: str, standard: Trial) -> list[dict[str, Any]]:
    """Return what wrong preprocessing costs when the trained model is asked; phase 2's model is on disk."""
    (test,) = manifest.read(raw, "test")
    classifier = model.load(paths.PHASE2)
    run = predictions.predictor(classifier)
    batches = list(manifest.pixels(classifier.card.image, test.paths, test.hashes, 32))
    rows = []
    for name, change in MISFED.items():
        guesses = np.concatenate([run(np.ascontiguousarray(change(batch)))[0].argmax(axis=1) for batch in batches])
        rows.append(cost(name, ONE_CONTRACT, standard, guesses == test.labels))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder per class")
    parts = ("scratch", "share", "rates", "pitfalls")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts, help="(default: all)")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.5, 1.0])
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-5, 1e-4, 3e-4, 1e-3, 1e-2])
    parser.add_argument(
        "--scratch-epochs", type=int, default=100, help="of training from scratch (default: %(default)s)"
    )
    parser.add_argument("--set", nargs="*", default=[], dest="overrides", help="more of the configuration")
    options = parser.parse_args()
    data, name = options.data.resolve(), options.data.resolve().name
    tables: dict[str, list[dict[str, Any]]] = {}
    with project.scratch():
        rows = prepare(data, options.overrides)
        scratch_too = [*options.overrides, *SCRATCH, f"phase2.epochs={options.scratch_epochs}"]
        if "scratch" in options.parts:
            tables["scratch"] = against_scratch(trial(rows, options.overrides), trial(rows, scratch_too))
        if "share" in options.parts:
            tables["share"] = share(rows, options.shares, options.overrides, scratch_too)
        if "rates" in options.parts:
            tables["rates"] = rates(rows, options.rates, options.overrides)
        if "pitfalls" in options.parts:
            tables["pitfalls"] = pitfalls(rows, options.overrides)
    for part, table in tables.items():
        record.write(f"claims_{part}_{name}", f"{name}: {part}", table)


def share(
    rows: Sequence[Mapping[str, str]], shares: Sequence[float], overrides: Sequence[str], scratch: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the accuracy by share of the training images: frozen, two phases, from scratch."""
    found = []
    for each in shares:
        some = thinned(rows, each)
        two, alone = trial(some, overrides), trial(some, scratch)
        of = {"share": each, "training images": sum(row["split"] == "train" for row in some)}
        found.append(of | figures("frozen", two, "phase1"))
        found += [of | figures("two phases", two), of | figures("from scratch", alone)]
    return found


def rates(
    rows: Sequence[Mapping[str, str]], wanted: Sequence[float], overrides: Sequence[str]
) -> list[dict[str, Any]]:
    """Return accuracy and drift of the embeddings by the learning rate of phase 2."""
    found = []
    for rate in wanted:
        run = trial(rows, [*overrides, "phase2.allow_high_rate=true", f"phase2.learning_rate={rate:g}"])
        found.append(figures(f"{rate:g}", run) | {"drift": run.drift})
    return found


def pitfalls(rows: Sequence[Mapping[str, str]], overrides: Sequence[str]) -> list[dict[str, Any]]:
    """Return what each pitfall costs against the standard on the same test images."""
    standard = trial(rows, overrides)
    found = misfed(LISTING, standard)
    for name, (switched, guard) in PITFALLS.items():
        found.append(cost(name, guard, standard, trial(rows, [*overrides, *switched]).right["phase2"]))
    return found


if __name__ == "__main__":
    load.run(main, "claims")
