"""The pipeline on a GPU against the scripts that a user would write, in Keras and in PyTorch, in turn on one card.

``python -m benchmarks.gpu --data DIR``. All run as processes of their own on the same images, split, backbone and
head, ``--rounds`` times: the pipeline from an empty cache, phase 2 again at another rate on the warm one, the Keras
script, and, if torch, torchvision and timm can be imported, the PyTorch script. While each runs, ``nvidia-smi`` tells
how busy the card is. Without DVC and MLflow, as the scripts.
"""

import argparse
import importlib.util
import json
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import recipe, record
from thaw.evaluation import intervals

QUERY = ("nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200")
PARTS = ("wall", "extraction", "phase1", "phase2")
TORCH = ("torch", "torchvision", "timm")


@contextmanager
def busy() -> Iterator[list[float]]:
    """Yield the card's load in percent, several times a second; nothing where there is no ``nvidia-smi``."""
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


def watched(do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return figures with the card's load while they were made."""
    with busy() as load:
        figures = do()
    return figures | {"load": load}


def in_turn(project: Path, overrides: Sequence[str], peers: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Run each once, and return its figures by its name.

    Args:
        project: of ``recipe.prepared``.
        overrides: of the pipeline's configuration.
        peers: modules of scripts by name.
    """
    cold = watched(lambda: recipe.cold(project, overrides)) | recipe.tested(project)
    warm = watched(lambda: recipe.trial(project, overrides)) | recipe.tested(project)
    recipe.configure(project, *overrides)
    scripts = {name: watched(partial(recipe.script, project, module)) for name, module in peers.items()}
    return {"pipeline, cold": cold, "pipeline, warm trial": warm, **scripts}


def row(name: str, runs: list[dict[str, Any]], train: int) -> dict[str, Any]:
    """Return the medians of some runs; all test the same images, so the accuracy's interval is that of one round."""
    right = round(statistics.mean(each["right"] for each in runs))
    count = runs[0]["images"]
    low, high = intervals.wilson(right, count, 0.95)
    middle = {part: statistics.median(each.get(part, 0.0) for each in runs) for part in PARTS}
    rate = statistics.median(each["epochs"][1] * train / each["phase2"] if each["phase2"] else 0.0 for each in runs)
    load = [value for each in runs for value in each["load"]]
    return {
        "what": name,
        **{f"{part} s": round(seconds, 1) for part, seconds in middle.items()},
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
        project = recipe.prepared(Path(scratch))
        overrides = ["data=folder", f"data.raw={options.data.resolve()}", *options.overrides]
        for _ in range(options.rounds):
            for name, figures in in_turn(project, overrides, peers).items():
                found.setdefault(name, []).append(figures)
        prepared = json.loads((project / "metrics/prepare.json").read_text(encoding="utf-8"))
    train = prepared["splits"]["train"]["images"]
    device = found["pipeline, cold"][0]["device"]
    rows = [row(name, runs, train) for name, runs in found.items()]
    title = f"{options.data.name}, {train} training images, {device['name']}"
    record.write(f"gpu_{options.data.resolve().name}", title, rows, runs=found, overrides=options.overrides)


if __name__ == "__main__":
    main()
