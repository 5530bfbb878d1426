"""Measure what ``evaluate`` takes beside the predictions of the test images.

``python -m benchmarks.evaluation --data DIR [--images 2500]``. Both phases are trained for an epoch, on what is
left over of the images. Then the stage runs with everything on and with ``OFF``, ``--rounds`` times each, in this
process. A run before them, which imports what there is to import, is not counted, and which of both comes first
changes from round to round. The predictions are what both models say of the test images, decoding included: the blocks
that both have in common are run once. In each round both models are asked each on its own too, which is what the test
set takes without that.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks import project, record
from thaw.evaluation import predictions
from thaw.images import manifest

OFF = [
    *("evaluate.baselines=false", "evaluate.calibration=false", "evaluate.unfamiliar=0", "evaluate.robustness=0"),
    "evaluate.suspects=0",
]
SETTINGS: dict[str, list[str]] = {"everything on": [], "options off": OFF}
BATCH = 32  # as evaluate.batch_size
BRIEF = ["phase1.epochs=1", "phase2.epochs=1", "phase2.unfreeze=30%"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with one folder per class")
    parser.add_argument("--images", type=int, default=2500, help="of the test (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--set", nargs="*", default=[], dest="overrides", help="more of the configuration")
    options = parser.parse_args()
    files = sum(1 for path in options.data.resolve().rglob("*") if path.is_file())
    share = min(options.images / files, 0.5)  # the most that data.test may be
    where = ["data=folder", f"data.raw={options.data.resolve()}", f"data.test={share:.4f}", "data.val=0.1"]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SETTINGS}
    apart = list[float]()
    with project.scratch():
        common = [*where, *BRIEF, *options.overrides]
        project.configure(common)
        for stage in ("prepare", "phase1_head", "phase2_finetune"):
            project.run(stage)
        (test,) = manifest.read(str(options.data.resolve()), "test")
        timed(common)
        for number in range(options.rounds):
            apart.append(each_alone(test))
            for name in list(SETTINGS)[:: -1 if number % 2 else 1]:
                found[name].append(timed([*common, *SETTINGS[name]]))
    rows = []
    for name, of in found.items():
        middle = {part: round(statistics.median(each[part] for each in of), 1) for part in of[0]}
        parts = {
            "more than the predictions": [each["stage s"] / each["predictions s"] - 1 for each in of],
            "than of each model alone": [each["stage s"] / alone - 1 for each, alone in zip(of, apart, strict=True)],
        }
        more = {part: f"{statistics.median(shares):+.0%}" for part, shares in parts.items()}
        rows.append({"evaluate": name, "test images": len(test), **middle, **more})
    record.write(f"evaluation_{options.data.resolve().name}", "evaluate beside its predictions", rows, rounds=found)


def each_alone(test: manifest.Images) -> float:
    """Return the seconds in which both models answer the test images, each with all of its network."""
    classifiers, found = predictions.classifiers(), dict[str, float]()
    runs = {phase: predictions.predictor(classifier) for phase, classifier in classifiers.items()}
    with clock(found, "alone"):
        predictions.answers(runs, classifiers["phase1"].card.image, test, BATCH)
    return found["alone s"]


def timed(overrides: list[str]) -> dict[str, float]:
    """Run the stage, and return the seconds that it and its predictions took, and those of processor time."""
    project.configure(overrides)
    found: dict[str, float] = {}
    answers = predictions.answers

    def clocked(*arguments: Any) -> Any:
        with clock(found, "predictions"):
            return answers(*arguments)

    with mock.patch.object(predictions, "answers", clocked), clock(found, "stage"):
        project.run("evaluate")
    return found


@contextmanager
def clock(found: dict[str, float], part: str) -> Iterator[None]:
    """Note the seconds that a part takes, and the processor's, of all threads."""
    begin, used = time.monotonic(), time.process_time()
    yield
    found.update({f"{part} s": time.monotonic() - begin, f"{part} processor s": time.process_time() - used})


if __name__ == "__main__":
    main()
