"""The pipeline on a GPU against the scripts that a user would write, in Keras and in PyTorch, in turn on one card.

``python -m benchmarks.gpu --data DIR``. All run as processes of their own on the same images, split, backbone and
head, ``--rounds`` times: the pipeline from an empty cache, phase 2 again at another rate on the warm one, the Keras
script, and, if torch, torchvision and timm can be imported, the PyTorch script. While each runs, ``nvidia-smi`` tells
how busy the card is. Without DVC and MLflow, as the scripts.
"""

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from benchmarks import record
from benchmarks.recipe import ROOT, STAGES
from thaw.config import load as config
from thaw.evaluation import metrics

QUERY = ("nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200")
TORCH = ("torch", "torchvision", "timm")


@contextmanager
def busy() -> Iterator[list[float]]:
    """The card's load in percent, several times a second; nothing where there is no ``nvidia-smi``."""
    found: list[float] = []
    if shutil.which(QUERY[0]) is None:
        yield found
        return
    with tempfile.TemporaryFile("w+") as file:
        watcher = subprocess.Popen(QUERY, stdout=file, stderr=subprocess.DEVNULL)
        try:
            yield found
        finally:
            watcher.terminate()
            watcher.wait()
            file.seek(0)
            found.extend(float(line) for line in file if line.strip().isdecimal())


def run(project: Path, *words: str) -> tuple[float, list[float]]:
    """Seconds that a process takes, and the card's load meanwhile."""
    paths = os.pathsep.join((str(project), str(ROOT), os.environ.get("PYTHONPATH", "")))
    with busy() as load:
        start = time.monotonic()
        subprocess.run([sys.executable, *words], cwd=project, check=True, env=os.environ | {"PYTHONPATH": paths})
        seconds = time.monotonic() - start
    return seconds, load


def configure(project: Path, *overrides: str) -> None:
    run(project, "-m", "thaw.config", "tracking.enabled=false", f"compute.cache_dir={project}/cache", *overrides)


def pipeline(project: Path, overrides: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A cold run, tested; and phase 2 once more, at half the rate."""
    shutil.rmtree(project / "cache", ignore_errors=True)
    configure(project, *overrides)
    cold: dict[str, Any] = {"wall": 0.0, "load": []}
    for stage in STAGES:
        seconds, load = run(project, "-m", "benchmarks.timed_stage", stage, "times.json")
        times = json.loads((project / "times.json").read_text(encoding="utf-8"))
        cold["wall"] += seconds
        cold["load"] += load
        cold["extraction"] = cold.get("extraction", 0.0) + times.get("extraction", 0.0)
        cold[stage.split("_")[0]] = times.get("training", 0.0)
    cold |= _tested(project)
    params = config.check(yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8")))
    configure(project, *overrides, f"phase2.learning_rate={params.phase2.learning_rate / 2}")
    seconds, load = run(project, "-m", "benchmarks.timed_stage", "phase2_finetune", "times.json")
    times = json.loads((project / "times.json").read_text(encoding="utf-8"))
    warm = {"wall": seconds, "load": load, "phase2": times.get("training", 0.0)} | _tested(project)
    configure(project, *overrides)
    return cold, warm


def _tested(project: Path) -> dict[str, Any]:
    run(project, "-m", "stages.evaluate")
    found = json.loads((project / "metrics/evaluate.json").read_text(encoding="utf-8"))["phase2"]
    stage = json.loads((project / "metrics/phase2_finetune.json").read_text(encoding="utf-8"))
    return {
        "right": round(found["accuracy"] * found["images"]),
        "images": found["images"],
        "epochs": [0, stage["epochs"]],
        "device": stage["device"],
    }


def script(project: Path, module: str) -> dict[str, Any]:
    """A script's own figures, and the card's load."""
    _, load = run(project, "-m", module, str(project), "script.json")
    return json.loads((project / "script.json").read_text(encoding="utf-8")) | {"load": load}


def row(name: str, runs: list[dict[str, Any]], train: int) -> dict[str, Any]:
    """The medians of some runs; the accuracy's interval is that of one round, since all test the same images."""
    right = round(statistics.mean(each["right"] for each in runs))
    count = runs[0]["images"]
    low, high = metrics.wilson(right, count, 0.95)

    def middle(part: str) -> float:
        return statistics.median(each.get(part, 0.0) for each in runs)

    rate = statistics.median(each["epochs"][1] * train / each["phase2"] if each["phase2"] else 0.0 for each in runs)
    load = [value for each in runs for value in each["load"]]
    return {
        "what": name,
        **{f"{part} s": round(middle(part), 1) for part in ("wall", "extraction", "phase1", "phase2")},
        "phase 2 images/s": round(rate),
        "card busy": f"{statistics.mean(load):.0f} %" if load else "not known",
        "test accuracy": f"{right / count:.1%} ({low:.1%} to {high:.1%})",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with one folder per class")
    parser.add_argument("--rounds", type=int, default=1, help="how often each runs, in turn (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", help="of the pipeline's configuration")
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {}
    peers = {"Keras script": "benchmarks.script"}
    if missing := [name for name in TORCH if importlib.util.find_spec(name) is None]:
        print(f"without the PyTorch script: {', '.join(missing)} cannot be imported")
    else:
        peers["PyTorch script"] = "benchmarks.torch_script"
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch)
        for part in ("conf", "stages", "thaw"):
            shutil.copytree(ROOT / part, project / part)
        shutil.copyfile(ROOT / "dvc.yaml", project / "dvc.yaml")
        overrides = ["data=folder", f"data.raw={options.data.resolve()}", *options.overrides]
        for _ in range(options.rounds):
            for name, figures in zip(
                ("pipeline, cold", "pipeline, warm trial"), pipeline(project, overrides), strict=True
            ):
                found.setdefault(name, []).append(figures)
            for name, module in peers.items():
                found.setdefault(name, []).append(script(project, module))
        prepared = json.loads((project / "metrics/prepare.json").read_text(encoding="utf-8"))
    train = prepared["splits"]["train"]["images"]
    device = found["pipeline, cold"][0]["device"]
    rows = [row(name, runs, train) for name, runs in found.items()]
    title = f"{options.data.name}, {train} training images, {device['name']}"
    record.write(f"gpu_{options.data.resolve().name}", title, rows, runs=found, overrides=options.overrides)


if __name__ == "__main__":
    main()
