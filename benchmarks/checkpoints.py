"""Measure what it takes that phase 2 can be killed and repeated: checkpoints, and ``compute.deterministic``.

``python -m benchmarks.checkpoints --data DIR``. Runs with both, without checkpoints and without repeatable operations
take turns; seconds are of the clock and of the processor. On a machine that others use, two runs differ by more than
checkpoints take; so what is spent in writing them is measured within a run too.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import project, record, repository

CODE = """
import json, sys, time
from thaw.training import checkpoint, fit, resume
from stages import phase2_finetune

spent = {}

def clocked(module, name, part):
    function = getattr(module, name)
    def timed(*words, **named):
        began = time.monotonic(), time.process_time()
        try:
            return function(*words, **named)
        finally:
            now = time.monotonic(), time.process_time()
            for kind, old, new in zip(("wall", "processor"), began, now):
                spent[f"{part}, {kind}"] = spent.get(f"{part}, {kind}", 0.0) + new - old
            spent[f"{part}, times"] = spent.get(f"{part}, times", 0) + 1
    setattr(module, name, timed)

if sys.argv[1] == "without checkpoints":
    checkpoint.place = lambda *words: None
clocked(fit, "fit", "training")
clocked(checkpoint, "place", "place")
clocked(resume.Checkpoints, "_write", "writing")
phase2_finetune.main()
print(json.dumps(spent))
"""

WAYS = {"as it is": "true", "without checkpoints": "true", "not repeatable": "false"}  # each its compute.deterministic


def measured(which: str) -> dict[str, Any]:
    """Run phase 2 in a process of its own; return what it has spent.

    Args:
        which: a key of ``WAYS``.
    """
    done = subprocess.run([sys.executable, "-c", CODE, which], check=True, capture_output=True, text=True)
    spent = json.loads(done.stdout.splitlines()[-1])
    row: dict[str, Any] = {"phase 2": which, "checkpoints": spent.get("writing, times", 0)}
    for kind in ("wall", "processor"):
        whole = spent[f"training, {kind}"]
        own = spent.get(f"place, {kind}", 0.0) + spent.get(f"writing, {kind}", 0.0)
        row |= {f"training, {kind}": whole, f"of which checkpoints, {kind}": own, f"share, {kind}": own / whole}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with one folder per class")
    parser.add_argument("--per-class", type=int, default=0, help="images of each class (default: all)")
    parser.add_argument("--repeats", type=int, default=3, help="of each run (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", help="of the configuration")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch, project.scratch():
        raw = repository.subset(options.data, options.per_class, Path(scratch) / "images")
        overrides = ["data=folder", f"data.raw={raw}", "image=px64", *options.overrides]
        project.configure(overrides)
        for stage in ("prepare", "phase1_head"):
            subprocess.run([sys.executable, "-m", f"stages.{stage}"], check=True, stdout=subprocess.DEVNULL)
        for _ in range(options.repeats):
            for which, deterministic in WAYS.items():
                project.configure([*overrides, f"compute.deterministic={deterministic}"])
                rows.append(measured(which))
                print(rows[-1], flush=True)
    record.write(f"checkpoints_{options.data.resolve().name}", "phase 2 with and without, in turn", rows)


if __name__ == "__main__":
    main()
