"""The claims about fine-tuning in two phases as experiments on a folder of images.

``python -m benchmarks.claims --data DIR [--other DIR] [--seeds N] [--parts scratch share rates pitfalls]``. Test and
validation images are the same in all of them; what differs is told to the pipeline, as a user would. ``--set`` takes
more of the configuration, such as a smaller size; docs/claims.md says what each part is.
"""

import argparse
import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import claim_trials, project, record
from benchmarks.claim_trials import Row, Trial
from thaw import paths, pipes
from thaw.classifier import model
from thaw.evaluation import intervals, predictions
from thaw.images import manifest

CONFIDENCE = 0.95
# The same network without pretrained weights: all of it is trained at the rate of a head, with a fresh view in every
# epoch, over as many epochs as it is given, BatchNorm on its own images. Of its phase 1 nothing is counted.
SCRATCH = (
    *("backbone.weights=random", "phase1.epochs=1", "phase1.canary=warn", "phase2.unfreeze=all"),
    *("phase2.batch_norm=train", "phase2.allow_high_rate=true", "phase2.learning_rate=0.001"),
    *("phase2.schedule=cosine", "phase2.activations=streaming"),
)
ONE_RATE = ("phase2.allow_high_rate=true", "phase2.learning_rate=0.001")
UNTRAINED = ("phase1.epochs=1", "phase1.learning_rate=1e-8", "phase2.allow_high_rate=true")
PITFALLS: dict[str, tuple[tuple[str, ...], str]] = {
    "one rate for both phases": (ONE_RATE, "phase2.learning_rate is refused unless it is below phase 1's"),
    "head untrained before unfreezing": (UNTRAINED, "phase 1 always trains the head first"),
    "BatchNorm in training mode": (("phase2.batch_norm=train",), "phase2.batch_norm is inference unless you say so"),
    "recompiling forgotten": (("phase2.unfreeze=none",), "each phase compiles, and frozen weights are compared after"),
}
# What is fed instead of the pixels, (n, size, size, 3) in [0, 255], to the standard's model.
MISFED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "pixels in [0, 1] when asked": lambda pixels: pixels / 255,
    "BGR in place of RGB when asked": lambda pixels: pixels[..., ::-1],
}
STANDARD = Path("standard")  # the model of phase 2 of the last standard trial
ONE_CONTRACT = "the range is the backbone's first layer, and parity checks the export"


@dataclass
class Experiment:
    """The trainings of a run; each is done once, whichever parts ask for it."""

    rows: Sequence[Row]
    overrides: Sequence[str]
    seeds: int
    other: Path | None
    rate: float = 0.0  # of phase 2, in the standard
    done: dict[tuple[object, ...], Trial] = field(default_factory=dict)

    def trials(
        self, switched: Sequence[str] = (), share: float = 1.0, *, cold: bool = False, probe: bool = False
    ) -> list[Trial]:
        """Return a trial for each seed. Standard is what is switched to nothing, on all training images."""
        found = []
        for seed in range(self.seeds):
            key = (share, *switched, seed)
            known = self.done.get(key)
            if known is None or (probe and self.other and not known.probe):
                begin = time.monotonic()
                overrides = [*self.overrides, f"phase1.seed={seed}", f"phase2.seed={seed}", f"augment.seed={seed}"]
                some, other = claim_trials.thinned(self.rows, share), self.other if probe else None
                known = self.done[key] = claim_trials.run(some, [*overrides, *switched], other, cold=cold)
                print(f"{' '.join(map(str, key))}: {time.monotonic() - begin:.0f} s", flush=True)
                if not switched and share == 1:
                    shutil.copytree(paths.PHASE2, STANDARD, dirs_exist_ok=True)
            found.append(known)
        return found


def figures(name: str, trials: Sequence[Trial], phase: str = "phase2") -> dict[str, Any]:
    """Return name, accuracy and its interval of a trial with each seed."""
    found = claim_trials.pooled(trials)
    low, high = intervals.accuracy(found.right[phase], CONFIDENCE, found.units)
    return {"variant": name, "accuracy": float(found.right[phase].mean()), "low": low, "high": high}


def best(found: Trial, phases: Sequence[str]) -> float:
    """Return the best validation accuracy of some phases."""
    return max((float(row["val_accuracy"]) for phase in phases for row in found.history[phase]), default=0.0)


def reached(found: Trial, wanted: float, phases: Sequence[str]) -> float:
    """Return the seconds of training until the validation accuracy was as high as wanted; infinite if it never was.

    Of phase 1 all is counted, since nearly all of it is the extraction of the features.
    """
    spent = 0.0
    for phase in phases:
        history = found.history[phase]
        for number, row in enumerate(history, start=1):
            if float(row["val_accuracy"]) >= wanted:
                return spent + found.seconds[phase] * (1 if phase == "phase1" else number / len(history))
        spent += found.seconds[phase]
    return float("inf")


def against_scratch(two: Sequence[Trial], scratch: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return accuracy, and the time to the accuracy that scratch has reached and to the own best, of both."""
    rows = []
    for name, trials, phases in (("two phases", two, tuple(paths.PHASES)), ("from scratch", scratch, ("phase2",))):
        wanted, own = [best(each, ("phase2",)) for each in scratch], [best(each, phases) for each in trials]
        to_own = [reached(each, most, phases) for each, most in zip(trials, own, strict=True)]
        to_scratch = [reached(each, most, phases) for each, most in zip(trials, wanted, strict=True)]
        times = {
            "seconds to scratch's best": float(np.mean(to_scratch)),
            "seconds to its best": float(np.mean(to_own)),
        }
        rows.append(figures(name, trials) | {"best validation accuracy": float(np.mean(own)), **times})
    return rows


def cost(name: str, guard: str, standard: Trial, other: Trial | np.ndarray) -> dict[str, Any]:
    """Return what a pitfall costs in points of accuracy, with its interval, on the same test images."""
    right = other if isinstance(other, np.ndarray) else other.right["phase2"]
    gain = intervals.difference(standard.right["phase2"], right, CONFIDENCE, standard.units)
    points = {key: 100 * gain[f"accuracy{end}"] for key, end in (("points", ""), ("low", "_low"), ("high", "_high"))}
    return {"pitfall": name, **points, "guard": guard}


def scratch(run: Experiment, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return both ways on all training images; each pays for its own feature extraction."""
    return against_scratch(run.trials(cold=True), run.trials(_scratch(options), cold=True))


def share(run: Experiment, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the accuracy by share of the training images: frozen, two phases, from scratch."""
    found = []
    for each in options.shares:
        two, alone = run.trials(share=each), run.trials(_scratch(options), each)
        count = sum(row["split"] == "train" for row in claim_trials.thinned(run.rows, each))
        of = {"share": each, "training images": count}
        found.append(of | figures("frozen", two, "phase1"))
        found += [of | figures("two phases", two), of | figures("from scratch", alone)]
    return found


def rates(run: Experiment, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return accuracy, drift of the embeddings and what they still tell of other images, by phase 2's rate."""
    found = []
    for rate in options.rates:
        switched = () if rate == run.rate else (ONE_RATE[0], f"phase2.learning_rate={rate:g}")
        trials = run.trials(switched, probe=True)
        all_seeds = claim_trials.pooled(trials)
        row = figures(f"{rate:g}", trials) | {"start would be kept": str(all_seeds.worse), "drift": all_seeds.drift}
        if all_seeds.probe:
            row |= {"other images before": all_seeds.probe["phase1"], "and after": all_seeds.probe["phase2"]}
        row |= {f"ImageNet, {name}": value for name, value in all_seeds.imagenet.items()}
        found.append(row)
    return found


def pitfalls(run: Experiment, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what each pitfall costs against the standard on the same test images."""
    found = []
    standard = claim_trials.pooled(run.trials())
    for name, (switched, guard) in PITFALLS.items():
        found.append(cost(name, guard, standard, claim_trials.pooled(run.trials(switched))))
    return found + misfed(run.trials()[-1])


def misfed(standard: Trial) -> list[dict[str, Any]]:
    """Return what wrong preprocessing costs when the model is asked that the last standard trial has left."""
    (test,) = manifest.read(claim_trials.LISTING, "test")
    classifier = model.load(STANDARD)
    ask = predictions.predictor(classifier)
    batches = list(manifest.pixels(classifier.card.image, test.paths, test.hashes, 32))
    rows = []
    for name, change in MISFED.items():
        guesses = np.concatenate([ask(np.ascontiguousarray(change(batch)))[0].argmax(axis=1) for batch in batches])
        rows.append(cost(name, ONE_CONTRACT, standard, guesses == test.labels))
    return rows


def _scratch(options: argparse.Namespace) -> tuple[str, ...]:
    return (*SCRATCH, f"phase2.epochs={options.scratch_epochs}", f"phase2.patience={options.scratch_epochs}")


PARTS = {"scratch": scratch, "share": share, "rates": rates, "pitfalls": pitfalls}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder per class")
    parser.add_argument("--other", type=Path, help="folder of other images: what the features still tell of them")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="(default: all)")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.5, 1.0])
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-5, 1e-4, 3e-4, 1e-3, 1e-2])
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each kind (default: %(default)s)")
    parser.add_argument("--train-share", type=float, default=1.0, help="of the training images, which is all then")
    parser.add_argument(
        "--scratch-epochs", type=int, default=100, help="of training from scratch (default: %(default)s)"
    )
    parser.add_argument("--set", nargs="*", default=[], dest="overrides", help="more of the configuration")
    options = parser.parse_args()
    data, other = options.data.resolve(), options.other.resolve() if options.other else None
    with project.scratch():
        rows = claim_trials.thinned(claim_trials.prepare(data, options.overrides), options.train_share)
        rate = project.configure(options.overrides).phase2.learning_rate
        run = Experiment(rows, options.overrides, options.seeds, other, rate)
        for part in options.parts:
            table = PARTS[part](run, options)
            with contextlib.chdir(project.ROOT):  # as soon as it is known
                record.write(f"claims_{part}_{data.name}", f"{data.name}: {part}", table, seeds=options.seeds)


if __name__ == "__main__":
    pipes.run(main, "claims", resumes=False)
