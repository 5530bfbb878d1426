"""The pipeline against the script that a user would write: time to the script's accuracy, wall time, test accuracy.

``python -m benchmarks.recipe --data DIR …``; ``digits`` for DIR is the demonstration. Both run as processes of their
own, in turn, ``--rounds`` times, on the same images, split, backbone and head. The pipeline starts with an empty
activation cache. With ``--trial`` it runs phase 2 again with another rate, which is what one more trial of a sweep
computes. Without DVC and MLflow, as the script.

The time to the script's accuracy ends with the first epoch, of either phase, whose validation accuracy is that of the
epoch that the script keeps. Both are timed from raw files, imports included. Over several sets it gives the median and
the worst of the ratios.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks import epoch_clock, record
from thaw.config import load
from thaw.evaluation import intervals

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("prepare", "phase1_head", "phase2_finetune")


def run(project: Path, *words: str) -> float:
    """Run a module of the project or of the benchmarks in a process of its own, and return its seconds."""
    start = time.monotonic()
    known = [str(project), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(known)}
    subprocess.run([sys.executable, *words], cwd=project, check=True, env=environment)
    return time.monotonic() - start


def configure(project: Path, *overrides: str) -> None:
    """Write the project's params.yaml, from the defaults on."""
    run(
        project,
        "-m",
        "thaw.config",
        "--reset",
        "tracking.enabled=false",
        f"compute.cache_dir={project}/cache",
        *overrides,
    )


def prepared(folder: Path) -> Path:
    """Make a project of the code as it is here in an empty folder, and return the folder."""
    for part in ("conf", "stages", "thaw"):
        shutil.copytree(ROOT / part, folder / part)
    shutil.copyfile(ROOT / "dvc.yaml", folder / "dvc.yaml")
    return folder


def script(project: Path, module: str = "benchmarks.script") -> dict[str, Any]:
    """Run a script on the project's split, and return its own figures."""
    run(project, "-m", module, str(project), "script.json")
    return _read(project / "script.json")


def tested(project: Path) -> dict[str, Any]:
    """Run `evaluate`, and return how many test images phase 2's model has right, and how phase 2 went."""
    run(project, "-m", "stages.evaluate")
    evaluation, stage = (_read(project / f"metrics/{name}.json") for name in ("evaluate", "phase2_finetune"))
    return {
        "right": round(evaluation["phase2"]["accuracy"] * evaluation["phase2"]["images"]),
        "images": evaluation["phase2"]["images"],
        "phase1_accuracy": evaluation["phase1"]["accuracy"],
        "epochs": [0, stage["epochs"]],
        "device": stage["device"],
    }


def trial(project: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Run phase 2 again, at half the rate, on the warm cache."""
    params = load.check(yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8")))
    configure(project, *overrides, f"phase2.learning_rate={params.phase2.learning_rate / 2}")
    wall, parts = _timed(project, "phase2_finetune")
    return {"wall": wall, "phase2": parts.get("training", 0.0)}


def _timed(project: Path, stage: str) -> tuple[float, dict[str, Any]]:
    seconds = run(project, "-m", "benchmarks.timed_stage", stage, "times.json")
    return seconds, _read(project / "times.json")


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def cold(project: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Run the pipeline from an empty cache to the model of phase 2."""
    shutil.rmtree(project / "cache", ignore_errors=True)
    configure(project, *overrides)
    walls, parts = {}, {}
    for stage in STAGES:
        walls[stage], parts[stage] = _timed(project, stage)
    training = {stage: parts[stage].get("training", 0.0) for stage in STAGES}
    extraction = sum(parts[stage].get("extraction", 0.0) for stage in STAGES)
    before, clock = 0.0, []
    for stage in STAGES:
        clock += [(before + seconds, accuracy) for seconds, accuracy in parts[stage].get("epochs", [])]
        before += walls[stage]
    return {
        "wall": sum(walls.values()),
        "clock": clock,
        "extraction": extraction,
        "phase1": training["phase1_head"],
        "phase2": training["phase2_finetune"],
        "overhead": sum(walls.values()) - extraction - sum(training.values()),
    }


def row(name: str, runs: list[dict[str, Any]], script: float) -> dict[str, Any]:
    """Return the medians of some runs, and the interval of the pooled accuracy."""
    right, count = sum(each["right"] for each in runs), sum(each["images"] for each in runs)
    # Rounds test on the same images, so the interval is that of one round.
    low, high = intervals.wilson(round(right / len(runs)), count // len(runs), 0.95)
    middle = {
        part: statistics.median(each.get(part, 0.0) for each in runs)
        for part in ("wall", "extraction", "phase1", "phase2", "overhead")
    }
    return {
        "what": name,
        **{f"{part} s": round(seconds, 1) for part, seconds in middle.items()},
        "times faster": round(script / middle["wall"], 1),
        "test accuracy": f"{right / count:.1%} ({low:.1%} to {high:.1%})",
    }


def to_the_accuracy(name: str, script: dict[str, Any], pipeline: dict[str, Any]) -> dict[str, Any]:
    """Return the seconds of each to the validation accuracy that the script ends with, and their ratio."""
    target = script["val_accuracy"]
    theirs = epoch_clock.first(script["clock"], target)
    ours = epoch_clock.first(pipeline["clock"], target)
    return {
        "data": name,
        "validation accuracy": f"{target:.1%}",
        "script s": round(theirs or script["wall"], 1),
        "pipeline s": "not reached" if ours is None else round(ours, 1),
        "times faster": 0.0 if ours is None else round((theirs or script["wall"]) / ours, 1),
    }


def measure(data: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run both on a set, in turn; return what each round took to the script's accuracy."""
    is_sample = data == "digits" and not Path(data).exists()
    name = Path(data).resolve().name
    where = ["data=digits"] if is_sample else ["data=folder", f"data.raw={Path(data).resolve()}"]
    scripts: list[dict[str, Any]] = []
    pipelines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        project, overrides = prepared(Path(scratch)), [*where, *options.overrides]
        if is_sample:
            configure(project, *overrides)
            run(project, "-m", "stages.sample")
        for _ in range(options.rounds):
            pipelines.append(cold(project, overrides) | tested(project))
            if options.trial:
                pipelines[-1]["marginal"] = trial(project, overrides)["wall"]
                configure(project, *overrides)
            scripts.append(script(project))
    usual = statistics.median(each["wall"] for each in scripts)
    marginal = statistics.median(each.get("marginal", 0.0) for each in pipelines)
    of_trial = f": a warm trial takes {marginal:.0f} s: {usual / marginal:.1f} times faster" if marginal else ""
    record.write(
        f"recipe_{name}",
        f"{name}{of_trial}",
        [row("script", scripts, usual), row("pipeline, cold cache", pipelines, usual)],
        marginal_seconds=marginal,
        script=scripts,
        pipeline=pipelines,
        overrides=options.overrides,
    )
    return [to_the_accuracy(name, *each) for each in zip(scripts, pipelines, strict=True)]


def over_all(rows: Sequence[dict[str, Any]]) -> str:
    """Return one line: the median and the worst of the ratios."""
    ratios = [each["times faster"] for each in rows]
    return f"times faster to the script's accuracy: median {statistics.median(ratios):.1f}, worst {min(ratios):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="folders with one folder per class, or digits")
    parser.add_argument("--rounds", type=int, default=1, help="how often each runs, in turn (default: %(default)s)")
    parser.add_argument("--trial", action="store_true", help="and phase 2 again, at half the rate, on the warm cache")
    parser.add_argument("--set", nargs="*", default=[], dest="overrides", help="of the pipeline's configuration")
    options = parser.parse_args()
    rows = [row for data in options.data for row in measure(data, options)]
    record.write("recipe", over_all(rows), rows)


if __name__ == "__main__":
    main()
