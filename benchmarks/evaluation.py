"""Measure what ``evaluate`` takes beside the predictions of the test images.

``python -m benchmarks.evaluation --data DIR [--images 2500]``. Both phases are trained for an epoch, on what is
left over of the images. Then the stage runs with everything on and with ``OFF``, ``--rounds`` times in turn, in this
process, so without imports. The predictions are what both models say of the test images, decoding included.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks import project, record
from benchmarks.timed_stage import clocked
from thaw.evaluation import predictions
from thaw.images import manifest

OFF = [
    *("evaluate.baselines=false", "evaluate.calibration=false", "evaluate.unfamiliar=0", "evaluate.robustness=0"),
    "evaluate.suspects=0",
]
SETTINGS: dict[str, list[str]] = {"everything on": [], "options off": OFF}
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
    with project.scratch():
        common = [*where, *BRIEF, *options.overrides]
        project.configure(common)
        for stage in ("prepare", "phase1_head", "phase2_finetune"):
            project.run(stage)
        images = len(manifest.read(str(options.data.resolve()), "test")[0])
        times: dict[str, Any] = {}
        clocked(predictions, "answers", times, "predictions")
        for _ in range(options.rounds):
            for name, overrides in SETTINGS.items():
                project.configure([*common, *overrides])
                times.clear()
                begin, used = time.monotonic(), time.process_time()
                project.run("evaluate")
                found[name].append({"all": time.monotonic() - begin, "processor": time.process_time() - used, **times})
    rows = []
    for name, of in found.items():
        middle = {part: statistics.median(each[part] for each in of) for part in of[0]}
        more = statistics.median(each["all"] / each["predictions"] - 1 for each in of)
        rows.append(
            {
                "evaluate": name,
                "test images": images,
                "predictions s": round(middle["predictions"], 1),
                "stage s": round(middle["all"], 1),
                "processor s": round(middle["processor"], 1),
                "more than the predictions": f"{more:+.0%}",
            }
        )
    record.write(f"evaluation_{options.data.resolve().name}", "evaluate beside its predictions", rows, rounds=found)


if __name__ == "__main__":
    main()
