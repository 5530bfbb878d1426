"""Run as one of several processes that share a training, for ``test_multi_worker``: ``worker.py FOLDER WHAT``.

``TF_CONFIG`` says who the others are. FOLDER is this process's own, but for the checkpoint, which lies beside it.
"""

import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.training import short, spread
from thaw import pipes
from thaw.config import phases
from thaw.runtime import seeds, workers
from thaw.runtime.framework import keras
from thaw.training import resume

# By name: settings, dropout, whether there is BatchNorm, and whether checkpoints are written.
TRAININGS: dict[str, tuple[Any, float, bool, bool]] = {
    "weighted": (spread.WEIGHTED, 0, False, False),
    "timed": (replace(spread.COSINE, minutes=1e-9), 0, False, False),
    "undisturbed": (spread.PHASE2, 0.5, True, False),
    "disturbed": (spread.PHASE2, 0.5, True, True),
}
KILLED = (2, 4)  # epoch and step behind which a worker goes


class Kill(short.Break):
    """A signal behind a step: ``kill -9``, as of a machine that is switched off, unless another is asked for."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (self.epoch, batch + 1) >= self.at:
            os.kill(os.getpid(), signal.Signals[os.environ.get("SIGNAL", "SIGKILL")])


def trained(name: str, folder: Path, count: int, callbacks: Sequence[keras.callbacks.Callback] = ()) -> dict[str, Any]:
    """Train as so many workers do, or one process alone."""
    settings, dropout, norm, keeps = TRAININGS[name]
    keep = folder.parent / "checkpoint.npz" if keeps else None
    return spread.trained(replace(settings, workers=count), dropout, norm, keep, *callbacks)


def main() -> None:
    """Write FOLDER/NAME.json for each training that is asked for."""
    folder, what = Path(sys.argv[1]), sys.argv[2:]
    phases.FEWEST_STEPS, resume.SHARE, resume.MINUTE = 1, np.inf, 0
    seeds.fix(0)
    compute = SimpleNamespace(workers="all", devices=1)
    workers.meet("test", compute, lambda: os.environ.get("INPUTS", ""))
    found = {"same": workers.from_chief(b"of the first" if workers.here().is_chief else b"of another").decode()}
    (folder / "met.json").write_text(json.dumps(found))
    for name in what:
        kills = [Kill(*KILLED)] if os.environ.get("KILLED") == name else []
        results = trained(name, folder, workers.here().count, kills)
        (folder / f"{name}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    pipes.run(main, "test")
