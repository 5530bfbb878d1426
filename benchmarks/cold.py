"""Run the pipeline from nothing several times, and compare the bytes of all it makes.

``python -m benchmarks.cold --data DIR``. A second run must make the same files as the first, exports included, and so
must runs whose activation cache is deleted under their hands: half way through phase 1, and half way through phase 2.
Where the stage ends at that with an error, the same command is given again.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import chaos, record, repository

ACTIVATIONS = ".thaw/activations"  # where compute.cache_dir is empty
DELETED_IN = ("", "", "phase1_head", "phase2_finetune")  # of each run, the stage in which its cache is deleted


def run(overrides: Sequence[str], stage: str, after: float) -> tuple[dict[str, float], dict[str, str], str]:
    """Run the pipeline in a new copy of the project; delete the cache so many seconds after a stage has begun.

    Returns:
        The seconds of each stage, the hash of each file that was made, and what became of the cache.
    """
    with repository.cold() as folder:
        repository.run(folder, "python", "-m", "thaw.config", *overrides)
        process, seconds, deleted = chaos.start(folder), dict[str, float](), ""
        began = last = time.monotonic()
        while process.poll() is None:
            time.sleep(chaos.POLL)
            now, name = time.monotonic(), chaos.name_of(chaos.stage_of(process))
            seconds[name] = seconds.get(name, 0.0) + now - last
            last = now
            there = folder / ACTIVATIONS
            if stage == name and seconds[name] >= after and not deleted and there.is_dir():
                shutil.rmtree(there, ignore_errors=True)
                deleted = "deleted"
        if deleted and process.returncode:
            deleted, process = "deleted, run again", chaos.start(folder)
            process.wait()
        chaos.check(folder, process)
        seconds["all"] = time.monotonic() - began
        return seconds, chaos.made(folder), deleted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with one folder per class")
    parser.add_argument("--per-class", type=int, default=0, help="images of each class (default: all)")
    parser.add_argument("overrides", nargs="*", help="of the configuration")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    first: dict[str, str] = {}
    took: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        raw = repository.subset(options.data, options.per_class, Path(scratch) / "images")
        overrides = ["data=folder", f"data.raw={raw}", "tracking.enabled=false", *options.overrides]
        for stage in DELETED_IN:
            seconds, made, deleted = run(overrides, stage, took.get(stage, 0.0) / 2)
            took, first = took or seconds, first or made
            other = sorted(name for name in first | made if first.get(name) != made.get(name))
            about = f"cache deleted half way through {stage}" if stage else "cold"
            rows.append({"run": about, "seconds": seconds["all"], "cache": deleted, "files": len(made)})
            rows[-1] |= {"other files": len(other), "such as": " ".join(other[:3])}
            print(rows[-1], flush=True)
    told = "the same, bit for bit" if not any(row["other files"] for row in rows) else "FILES DIFFER"
    record.write(f"cold_{options.data.resolve().name}", f"{len(first)} files of {len(rows)} runs: {told}", rows)


if __name__ == "__main__":
    main()
