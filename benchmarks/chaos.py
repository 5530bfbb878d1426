"""Kill a run of the pipeline at random moments, go on with it, and compare all it makes with an undisturbed run's.

``python -m benchmarks.chaos --data DIR``. Each kill is ``kill -9``, now of DVC and all it has started, as when power
is lost, now of the stage alone, as when memory is short. Then the same command is given again. A run that comes to its
end is compared, and another begins from nothing, until there were enough kills.
"""

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks import record, repository
from thaw import paths, records

# Epochs that are long enough to be hit, of a network that is small enough to be trained again and again.
SMALL = ("image=px64", "phase1.epochs=40", "phase1.patience=40", "phase2.epochs=12", "tracking.enabled=false")
COMMAND = ("dvc", "repro", "export")
SOONEST = 2.0  # seconds in which nothing has begun
MADE = ("data/prepared", "data/splits.json", "metrics", "models")
# What the next run finds again: finished stages, read images, activations, checkpoints.
KEPT = ("dvc.lock", ".thaw/triage/*", ".thaw/activations/*/index.csv", f"{paths.CHECKPOINTS}/*.npz")
PATIENCE = 30  # seconds in which a killed process has to be gone


def made(folder: Path) -> dict[str, str]:
    """Return the hash of each file that the pipeline has made."""
    files = [file for name in MADE for file in [folder / name, *(folder / name).rglob("*")] if file.is_file()]
    return {file.relative_to(folder).as_posix(): records.sha256(file) for file in files}


def start(folder: Path) -> subprocess.Popen[bytes]:
    with (folder.parent / "chaos.log").open("a") as log:
        return subprocess.Popen(
            COMMAND,
            cwd=folder,
            env=os.environ | repository.ENVIRONMENT,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def stage_of(process: subprocess.Popen[bytes]) -> psutil.Process | None:
    """Return the stage's process, if one runs."""
    with suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            if "-m" in (words := child.cmdline()) and words[-1].startswith("stages."):
                return child
    return None


def kill(process: subprocess.Popen[bytes], *, alone: bool) -> str:
    """Kill the stage alone, or everything; the stage's name."""
    child = stage_of(process)
    name = ""
    with suppress(psutil.Error):
        name = child.cmdline()[-1].removeprefix("stages.") if child else ""
        if alone and child:
            child.kill()
    if not (alone and child):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)
    return name


def last_kept(folder: Path) -> float:
    """Return the Unix time at which something was last written that the next run finds again."""
    return max((file.stat().st_mtime for pattern in KEPT for file in folder.glob(pattern)), default=0.0)


def undisturbed(overrides: Sequence[str]) -> tuple[float, dict[str, str], list[dict[str, Any]]]:
    """Return the seconds of a run that nobody disturbs, what it made, and what checkpoints took in each training."""
    with repository.cold() as folder:
        repository.run(folder, "python", "-m", "thaw.config", *overrides)
        began = time.monotonic()
        if start(folder).wait():
            raise RuntimeError((folder.parent / "chaos.log").read_text(encoding="utf-8"))
        wall, expected, rows = time.monotonic() - began, made(folder), []
        for stage in ("phase1_head", "phase2_finetune"):
            environment = os.environ | repository.ENVIRONMENT | {"PYTHONPATH": str(repository.ROOT)}
            words = [sys.executable, "-m", "benchmarks.timed_stage", stage, "times.json"]
            subprocess.run(words, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
            times = records.read_json(folder / "times.json")
            rows.append(
                {"training": stage, "seconds": times["training"], "checkpoints": times.get("checkpoints", 0.0)}
            )
            rows[-1]["share"] = rows[-1]["checkpoints"] / rows[-1]["seconds"]
        return wall, expected, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with one folder per class")
    parser.add_argument("--per-class", type=int, default=0, help="images of each class (default: all)")
    parser.add_argument("--kills", type=int, default=100, help="how often it is killed (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", help="of the configuration")
    options = parser.parse_args()
    moments = random.Random(options.seed)  # noqa: S311 -- moments, not secrets
    kills: list[dict[str, Any]] = []
    different: list[str] = []
    rounds = 0
    with tempfile.TemporaryDirectory() as scratch:
        raw = repository.subset(options.data, options.per_class, Path(scratch) / "images")
        overrides = ["data=folder", f"data.raw={raw}", *SMALL, *options.overrides]
        wall, expected, costs = undisturbed(overrides)
        while len(kills) < options.kills:
            rounds += 1
            with repository.cold() as folder:
                repository.run(folder, "python", "-m", "thaw.config", *overrides)
                while True:
                    began, process = time.time(), start(folder)
                    with suppress(subprocess.TimeoutExpired):
                        enough = len(kills) >= options.kills
                        if process.wait(None if enough else moments.uniform(SOONEST, wall / 3)) == 0:
                            break
                        raise RuntimeError((folder.parent / "chaos.log").read_text(encoding="utf-8"))
                    lost = time.time() - max(began, last_kept(folder))
                    stage = kill(process, alone=moments.random() < 0.5)
                    lived = time.time() - began
                    kills.append({"kill": len(kills) + 1, "in": stage or "dvc", "seconds": lived, "lost": lost})
                    orphans = psutil.wait_procs(repository.busy(folder), timeout=PATIENCE)[1]
                    different += [f"orphan {orphan.pid} after kill {len(kills)}" for orphan in orphans]
                now = made(folder)
                different += [
                    f"round {rounds}: {name}" for name in expected | now if expected.get(name) != now.get(name)
                ]
                leftover = [path.name for path in (folder / paths.CHECKPOINTS).glob("*")]
                different += [f"round {rounds}: left {name}" for name in leftover]
    lost = [row["lost"] for row in kills]
    told = "the same, bit for bit" if not different else f"{len(different)} THAT DIFFER: {different[:3]}"
    title = (
        f"{len(kills)} kills in {rounds} runs of {wall:.0f} s undisturbed; {len(expected)} files: {told}; lost a kill "
        f"{statistics.median(lost):.1f} s in the median, {max(lost):.1f} s at most"
    )
    record.write(
        f"chaos_{options.data.resolve().name}", title, kills, different=different, costs=costs, files=expected
    )
    for row in costs:
        print(f"{row['training']}: checkpoints took {row['share']:.2%} of {row['seconds']:.1f} s of training")


if __name__ == "__main__":
    main()
