"""Resources of trials that run at once on one machine: cores, and the memory of GPUs."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from thaw.runtime import threads


def at_once(launcher: Mapping[str, Any], sweeper: Mapping[str, Any]) -> int:
    """Return how many trials run at a time on this machine: what the launcher takes, if the sweeper gives it as many.

    Args:
        launcher, sweeper: Hydra's settings of these. A sampler's ``n_jobs`` is how many it chooses together.
    """
    jobs = int(launcher.get("n_jobs") or 1)
    taken = jobs if jobs > 0 else threads.cores()
    return min(taken, int(sweeper.get("n_jobs") or taken))


def environment(number: int, jobs: int) -> dict[str, str]:
    """Return variables by which trials that run at once leave each other room; the user's own go before.

    Args:
        number: of the trial in its sweep.
        jobs: how many run at once on this machine.
    """
    # TensorFlow would otherwise take all of a GPU's memory, also for a model that needs a tenth.
    wanted = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    # Ray says in OMP_NUM_THREADS how many cores a trial has, and TensorFlow does not listen.
    share = str(max(1, threads.cores() // jobs)) if jobs > 1 else os.environ.get("OMP_NUM_THREADS", "")
    if share:
        wanted |= dict.fromkeys((threads.VARIABLE, "OMP_NUM_THREADS"), share)
    found = {name: value for name, value in wanted.items() if name not in os.environ}
    cards = _cards() if jobs > 1 else []
    return found | ({"CUDA_VISIBLE_DEVICES": cards[number % len(cards)]} if cards else {})


def _cards() -> list[str]:
    """Return the GPUs that may be used, as CUDA names them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [card for card in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if card.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, encoding="utf-8", check=False)
    return [str(number) for number, _ in enumerate(re.findall(r"^GPU \d+", done.stdout, re.MULTILINE))]
