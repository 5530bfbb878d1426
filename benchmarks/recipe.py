"""The pipeline against the script that a user would write: wall time from raw files to a phase 2 model, and accuracy.

``python -m benchmarks.recipe --data DIR``. Both run as processes of their own, in turn, ``--rounds`` times, on the
same images, split, backbone and head. The pipeline starts with an empty activation cache, then runs phase 2 again with
another rate, which is what one more trial of a sweep computes. Without DVC and MLflow, as the script.
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
from pathlib import Path
from typing import Any

from benchmarks import record
from thaw.config import load
from thaw.evaluation import intervals

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("prepare", "phase1_head", "phase2_finetune")


def run(project: Path, *words: str) -> float:
    """Seconds that a process takes."""
    start = time.monotonic()
    paths = os.pathsep.join((str(project), str(ROOT)))
    subprocess.run([sys.executable, *words], cwd=project, check=True, env=os.environ | {"PYTHONPATH": paths})
    return time.monotonic() - start


def configure(project: Path, *overrides: str) -> None:
    run(
        project,
        "-m",
        "thaw.config",
        "--reset",
        "tracking.enabled=false",
        f"compute.cache_dir={project}/cache",
        *overrides,
    )


def pipeline(project: Path, overrides: list[str]) -> dict[str, Any]:
    """Cold run, test, and one more trial."""
    shutil.rmtree(project / "cache", ignore_errors=True)
    configure(project, *overrides)
    walls, parts = {}, {}
    for stage in STAGES:
        walls[stage] = run(project, "-m", "benchmarks.timed_stage", stage, "times.json")
        parts[stage] = json.loads((project / "times.json").read_text(encoding="utf-8"))
    run(project, "-m", "stages.evaluate")
    evaluation = json.loads((project / "metrics/evaluate.json").read_text(encoding="utf-8"))
    rate = load.check(json.loads(json.dumps(_params(project)))).phase2.learning_rate
    configure(project, *overrides, f"phase2.learning_rate={rate / 2}")
    marginal = run(project, "-m", "stages.phase2_finetune")
    training = {stage: parts[stage].get("training", 0.0) for stage in STAGES}
    extraction = sum(parts[stage].get("extraction", 0.0) for stage in STAGES)
    return {
        "wall": sum(walls.values()),
        "extraction": extraction,
        "phase1": training["phase1_head"],
        "phase2": training["phase2_finetune"],
        "overhead": sum(walls.values()) - extraction - sum(training.values()),
        "marginal": marginal,
        "right": round(evaluation["phase2"]["accuracy"] * evaluation["phase2"]["images"]),
        "images": evaluation["phase2"]["images"],
        "phase1_accuracy": evaluation["phase1"]["accuracy"],
    }


def _params(project: Path) -> Any:
    import yaml  # noqa: PLC0415

    return yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))


def row(name: str, runs: list[dict[str, Any]], script: float) -> dict[str, Any]:
    """The medians of some runs, and the interval of the pooled accuracy."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with one folder per class")
    parser.add_argument("--rounds", type=int, default=1, help="how often each runs, in turn (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", help="of the pipeline's configuration")
    options = parser.parse_args()
    scripts: list[dict[str, Any]] = []
    pipelines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch)
        for part in ("conf", "stages", "thaw"):
            shutil.copytree(ROOT / part, project / part)
        shutil.copyfile(ROOT / "dvc.yaml", project / "dvc.yaml")
        overrides = ["data=folder", f"data.raw={options.data.resolve()}", *options.overrides]
        for _ in range(options.rounds):
            pipelines.append(pipeline(project, overrides))
            configure(project, *overrides)
            run(project, "-m", "benchmarks.script", str(project), "script.json")
            scripts.append(json.loads((project / "script.json").read_text(encoding="utf-8")))
    script = statistics.median(each["wall"] for each in scripts)
    marginal = statistics.median(each["marginal"] for each in pipelines)
    rows = [row("script", scripts, script), row("pipeline, cold cache", pipelines, script)]
    record.write(
        f"recipe_{options.data.resolve().name}",
        f"{options.data.name}: a warm trial takes {marginal:.0f} s: {script / marginal:.1f} times faster",
        rows,
        marginal_seconds=marginal,
        script=scripts,
        pipeline=pipelines,
        overrides=options.overrides,
    )


if __name__ == "__main__":
    main()
