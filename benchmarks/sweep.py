"""Measure a sweep of 12 trials, 4 learning rates × 3 depths, against one cold run of the pipeline and the script.

``python -m benchmarks.sweep --data DIR``. What went through the frozen layers is counted, and what a trial takes
beside its training. The script's seconds are those of benchmarks/results/recipe_<DIR>.json, where that was measured.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import record, repository

VIEWS = "views through the frozen layers"
GRID = ("phase2.learning_rate=3e-5,1e-4,3e-4,6e-4", "phase2.unfreeze=20,40,80")


def notes(folder: Path, what: str) -> list[dict[str, Any]]:
    """Return the ledger's notes of a kind."""
    path = folder / ".thaw" / "ledger.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["what"] == what]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with one folder per class")
    parser.add_argument("--per-class", type=int, default=0, help="images of each class (default: all)")
    parser.add_argument("overrides", nargs="*", help="of both, and launchers (default: none)")
    options = parser.parse_args()
    name = options.data.resolve().name
    with tempfile.TemporaryDirectory() as scratch:
        raw = repository.subset(options.data, options.per_class, Path(scratch) / "images")
        overrides = ["data=folder", f"data.raw={raw}", *options.overrides]
        with repository.cold() as folder:
            plain = [override for override in overrides if not override.startswith("hydra")]
            began = time.monotonic()
            repository.run(folder, "python", "-m", "thaw.config", *plain)
            repository.run(folder, "dvc", "repro", "phase2_finetune")
            cold = time.monotonic() - began
            once = sum(line["count"] for line in notes(folder, "extraction"))
        with repository.cold() as folder:
            began = time.monotonic()
            ended = repository.start(folder, [*overrides, *GRID]).wait()
            wall = time.monotonic() - began
            passed = sum(line["count"] for line in notes(folder, "extraction"))
            trials = notes(folder, "trial")
            around = [line["seconds"] - line["inside"] for line in trials]
            table = repository.table(folder).decode()
            if ended or len(trials) != 12:
                raise RuntimeError((folder.parent / "sweep.log").read_text(encoding="utf-8"))
    rows = [
        {"what": "one cold run", "seconds": cold, "cold runs": 1.0, VIEWS: once},
        {"what": "12 trials", "seconds": wall, "cold runs": wall / cold, VIEWS: passed},
    ]
    measured = record.FOLDER / f"recipe_{name}.json"
    if measured.exists() and not options.per_class:
        script = statistics.median(run["wall"] for run in json.loads(measured.read_text(encoding="utf-8"))["script"])
        for what, seconds in (("the script, measured", script), ("12 × the script, extrapolated", 12 * script)):
            rows.append({"what": what, "seconds": seconds, "cold runs": seconds / cold, VIEWS: ""})
    record.write(
        f"sweep_{name}",
        f"{name}: a trial takes {statistics.median(around):.1f} s beside its training (at most {max(around):.1f} s)",
        rows,
        around_seconds=[round(seconds, 1) for seconds in around],
        trial_seconds=[line["seconds"] for line in trials],
        table=table,
        overrides=options.overrides,
    )


if __name__ == "__main__":
    main()
