"""Kill a run of the pipeline at random moments, go on with it, and compare all it makes with an undisturbed run's.

``python -m benchmarks.chaos --data DIR``. Each kill is ``kill -9``, now of DVC and all it has started, as when power
is lost, now of the stage alone, as when memory is short. Then the same command is given again. Every stage is killed
equally often, at moments that are spread over the time that it takes. A run that comes to its end is compared, and
another begins from nothing, until there were enough kills.
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
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks import record, repository
from thaw import paths, records
from thaw.project import pipeline_run

# Epochs that are long enough to be hit, of a network that is small enough to be trained again and again.
SMALL = ("image=px64", "phase1.epochs=40", "phase1.patience=40", "phase2.epochs=12", "tracking.enabled=false")
COMMAND = ("dvc", "repro", "export")
DVC = "dvc"  # what is killed while no stage runs
KILLED = (DVC, "prepare", "phase1_head", "phase2_finetune", "evaluate", "export")
POLL = 0.1  # seconds
MADE = ("data/prepared", "data/splits.json", "metrics", "models")
# What the next run finds again: finished stages, read images, activations, checkpoints, answers, exported formats.
KEPT = ["dvc.lock", ".thaw/triage/*", ".thaw/activations/*/index.csv"]
KEPT += [f"{paths.CHECKPOINTS}/{each}" for each in ("*.npz", "*/*.npz", f"*/export/{paths.HASHES}")]
PATIENCE = 30  # seconds in which a killed process has to be gone


def made(folder: Path) -> dict[str, str]:
    """Return the hash of each file that the pipeline has made."""
    files = [file for name in MADE for file in [folder / name, *(folder / name).rglob("*")] if file.is_file()]
    return {file.relative_to(folder).as_posix(): records.sha256(file) for file in files}


def start(folder: Path) -> subprocess.Popen[bytes]:
    pipeline_run.mend_list(folder)  # as `thaw run` does
    with (folder.parent / "chaos.log").open("a") as log:
        return subprocess.Popen(
            COMMAND,
            cwd=folder,
            env=os.environ | repository.ENVIRONMENT,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def check(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Require that a run has ended well."""
    if process.returncode:
        raise RuntimeError((folder.parent / "chaos.log").read_text(encoding="utf-8"))


def stage_of(process: subprocess.Popen[bytes]) -> psutil.Process | None:
    """Return the stage's process, if one runs."""
    with suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            if "-m" in (words := child.cmdline()) and words[-1].startswith("stages."):
                return child
    return None


def name_of(stage: psutil.Process | None) -> str:
    with suppress(psutil.Error):
        return stage.cmdline()[-1].removeprefix("stages.") if stage else DVC
    return DVC


def watched(process: subprocess.Popen[bytes]) -> dict[str, float]:
    """Wait for a run; return the seconds of each stage, and of DVC by itself at its beginning."""
    seconds: dict[str, float] = {}
    while process.poll() is None:
        name = name_of(stage_of(process))
        if name != DVC or len(seconds) < 2:
            seconds[name] = seconds.get(name, 0.0) + POLL
        time.sleep(POLL)
    return seconds


def moment(
    process: subprocess.Popen[bytes], left: Counter[str], seconds: dict[str, float], chance: random.Random
) -> str:
    """Wait for a moment to kill; return the stage in which it lies, or nothing if the run has ended before."""
    now, end = "", 0.0
    while process.poll() is None:
        name = name_of(stage_of(process))
        if name != now:
            now, end = name, time.monotonic() + chance.uniform(0, seconds.get(name, 1.0))
        if left[name] > 0 and time.monotonic() >= end:
            return name
        time.sleep(POLL / 2)
    return ""


def kill(process: subprocess.Popen[bytes], *, alone: bool) -> None:
    """Kill the stage alone, or everything."""
    child = stage_of(process)
    if alone and child:
        with suppress(psutil.Error):
            child.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)


def last_kept(folder: Path) -> float:
    """Return the Unix time at which something was last written that the next run finds again."""
    return max((file.stat().st_mtime for pattern in KEPT for file in folder.glob(pattern)), default=0.0)


def undisturbed(overrides: Sequence[str]) -> tuple[dict[str, float], dict[str, str], list[dict[str, Any]]]:
    """Return the seconds of each stage undisturbed, what was made, and what checkpoints took in each training."""
    with repository.cold() as folder:
        repository.run(folder, "python", "-m", "thaw.config", *overrides)
        process = start(folder)
        seconds = watched(process)
        check(folder, process)
        expected, rows = made(folder), []
        for stage in ("phase1_head", "phase2_finetune"):
            environment = os.environ | repository.ENVIRONMENT | {"PYTHONPATH": str(repository.ROOT)}
            words = [sys.executable, "-m", "benchmarks.timed_stage", stage, "times.json"]
            subprocess.run(words, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
            times = records.read_json(folder / "times.json")
            rows.append(
                {"training": stage, "seconds": times["training"], "checkpoints": times.get("checkpoints", 0.0)}
            )
            rows[-1]["share"] = rows[-1]["checkpoints"] / rows[-1]["seconds"]
        return seconds, expected, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with one folder per class")
    parser.add_argument("--per-class", type=int, default=0, help="images of each class (default: all)")
    parser.add_argument("--kills", type=int, default=100, help="how often it is killed (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=4, help="to spread the kills over (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=1e9, help="after which no kill is begun (default: no limit)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", help="of the configuration")
    options = parser.parse_args()
    chance = random.Random(options.seed)  # noqa: S311 -- moments, not secrets
    kills: list[dict[str, Any]] = []
    different: list[str] = []
    rounds, limit = 0, time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as scratch:
        raw = repository.subset(options.data, options.per_class, Path(scratch) / "images")
        overrides = ["data=folder", f"data.raw={raw}", *SMALL, *options.overrides]
        seconds, expected, costs = undisturbed(overrides)
        print({name: round(value, 1) for name, value in seconds.items()}, flush=True)
        while len(kills) < options.kills and time.monotonic() < limit:
            rounds += 1
            share = -(-(options.kills - len(kills)) // max(1, options.runs - rounds + 1))
            left = Counter({name: -(-share // len(KILLED)) for name in KILLED})
            with repository.cold() as folder:
                repository.run(folder, "python", "-m", "thaw.config", *overrides)
                while True:
                    began, process = time.time(), start(folder)
                    enough = len(kills) >= options.kills or time.monotonic() > limit
                    stage = moment(process, Counter() if enough else left, seconds, chance)
                    if not stage:
                        check(folder, process)
                        break
                    lost = time.time() - max(began, last_kept(folder))
                    kill(process, alone=chance.random() < 0.5)
                    left[stage] -= 1
                    kills.append({"kill": len(kills) + 1, "in": stage, "seconds": time.time() - began, "lost": lost})
                    print(kills[-1], flush=True)
                    orphans = psutil.wait_procs(repository.busy(folder), timeout=PATIENCE)[1]
                    different += [f"orphan {orphan.pid} after kill {len(kills)}" for orphan in orphans]
                now = made(folder)
                different += [
                    f"round {rounds}: {name}" for name in expected | now if expected.get(name) != now.get(name)
                ]
                leftover = [path.name for path in (folder / paths.CHECKPOINTS).glob("*")]
                different += [f"round {rounds}: left {name}" for name in leftover]
                print(f"run {rounds}: {len(different)} differ", flush=True)
    rows = [summary(name, [row["lost"] for row in kills if name in ("all", row["in"])]) for name in ("all", *KILLED)]
    whole = sum(seconds.values())
    told = "the same, bit for bit" if not different else f"{len(different)} THAT DIFFER: {different[:3]}"
    title = f"{len(kills)} kills in {rounds} runs of {whole:.0f} s undisturbed; {len(expected)} files: {told}"
    about = {"different": different, "costs": costs, "files": expected, "undisturbed": seconds}
    record.write(f"chaos_{options.data.resolve().name}", title, rows, kills=kills, **about)
    for row in costs:
        print(f"{row['training']}: checkpoints took {row['share']:.2%} of {row['seconds']:.1f} s of training")


def summary(name: str, lost: Sequence[float]) -> dict[str, Any]:
    """Return a row of the table: the seconds of work that kills in a stage have cost."""
    median, worst = (statistics.median(lost), max(lost)) if lost else (0.0, 0.0)
    return {"in": name, "kills": len(lost), "lost, median": median, "lost, worst": worst}


if __name__ == "__main__":
    main()
