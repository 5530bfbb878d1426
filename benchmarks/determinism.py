"""Train the same under other conditions, and say how far the results are apart.

``python -m benchmarks.determinism --data DIR``. Each condition is a process of its own that runs both trainings from
the same prepared images: again, with a warm cache, with other numbers of threads, without oneDNN, in mixed precision,
and without ``compute.deterministic``. Of each, the files are compared with those of the first run: weights,
probabilities of the validation images, figures. The last one is compared with the one before it.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import project, record, repository
from thaw import paths
from thaw.classifier import model
from thaw.commands import comparison
from thaw.runtime import threads

SMALL = ("image=px64", "augment.views=2", "phase1.epochs=5", "phase2.epochs=5", "phase2.unfreeze=top")
MADE = (paths.PHASE1, paths.PHASE2, paths.METRICS)
CODE = """
from stages import phase1_head, phase2_finetune
phase1_head.main()
phase2_finetune.main()
"""


@dataclass(frozen=True)
class Condition:
    """A run that differs from the first one in what is named here."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    warm: bool = False  # the activation cache of the first run


CONDITIONS = (
    Condition("first run"),
    Condition("again, without the cache"),
    Condition("again, with a warm cache", warm=True),
    *(Condition(f"threads: {count}", {threads.VARIABLE: str(count)}) for count in (1, 2, 4)),
    Condition("without oneDNN", {"TF_ENABLE_ONEDNN_OPTS": "0"}),
    Condition("phase2.precision=mixed", overrides=("phase2.precision=mixed",)),
    Condition("compute.deterministic=false", overrides=("compute.deterministic=false",)),
    Condition("the same again", overrides=("compute.deterministic=false",)),
)


def trained(prepared: Path, folder: Path, overrides: list[str], each: Condition, warm: Path) -> dict[str, float]:
    """Train in a copy of a project; return the seconds of the clock and of the processor."""
    shutil.copytree(prepared, folder, symlinks=True)
    if each.warm:
        shutil.copytree(warm / ".thaw" / "activations", folder / ".thaw" / "activations")
    before = Path.cwd()
    os.chdir(folder)
    try:
        project.configure([*overrides, *each.overrides, "compute.cache_dir=''"])
        words = [sys.executable, "-c", CODE]
        began, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(words, env=os.environ | dict(each.environment), check=True, stdout=subprocess.DEVNULL)
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
        return {"seconds": time.monotonic() - began, "of the processor": processor}
    finally:
        os.chdir(before)


def compared(first: Path, folder: Path) -> dict[str, Any]:
    """Return how many files have the same bytes, and how far weights and probabilities are apart at most."""
    files = sorted(path.relative_to(first) for made in MADE for path in (first / made).rglob("*") if path.is_file())
    found = [comparison.compare("", first, folder, path, comparison.TOLERANCE) for path in files]
    row: dict[str, Any] = {"same files": f"{sum(each.verdict == comparison.SAME for each in found)}/{len(found)}"}
    for phase, made in paths.PHASES.items():
        weights = comparison.difference(first / made / model.WEIGHTS, folder / made / model.WEIGHTS)
        rows = [np.load(root / paths.validation(made), allow_pickle=False) for root in (first, folder)]
        row[f"{phase}: weights"] = weights
        row[f"{phase}: probabilities"] = float(np.abs(rows[0] - rows[1]).max())
        row[f"{phase}: other answers"] = f"{(rows[0].argmax(1) != rows[1].argmax(1)).sum()}/{len(rows[0])}"
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with one folder per class")
    parser.add_argument("--per-class", type=int, default=0, help="images of each class (default: all)")
    parser.add_argument("overrides", nargs="*", help="of the configuration")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch, project.scratch() as prepared:
        raw = repository.subset(options.data, options.per_class, Path(scratch) / "images")
        overrides = ["data=folder", f"data.raw={raw}", *SMALL, "phase2.precision=float32", *options.overrides]
        project.configure(overrides)
        project.run("prepare")
        runs = [Path(scratch) / str(number) for number in range(len(CONDITIONS))]
        for each, folder in zip(CONDITIONS, runs, strict=True):
            seconds = trained(prepared, folder, overrides, each, runs[0])
            reference = runs[-2] if folder == runs[-1] else runs[0]
            rows.append({"condition": each.name, **seconds, **compared(reference, folder)})
            print(rows[-1], flush=True)
    record.write(f"determinism_{options.data.resolve().name}", f"{threads.cores()} cores; against the first run", rows)


if __name__ == "__main__":
    main()
