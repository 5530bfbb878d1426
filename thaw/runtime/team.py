"""The processes that share one training: where each is, and which of them this one is.

``TF_CONFIG`` says so, as TensorFlow defines it, or Slurm does for the tasks of a step. TensorFlow's own resolver for
Slurm sorts nodes by name, node10 before node2, so it is not used. No TensorFlow is loaded here.
"""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

GUIDE = "docs/cluster.md#one-training-on-several-machines"
# Of a Slurm step: from which port on its tasks listen, each job in a range of its own.
FIRST_PORT, PORTS, JOBS = 12_000, 16, 1_000


@dataclass(frozen=True)
class Team:
    """The workers of a training. The first, the chief, alone writes."""

    addresses: tuple[str, ...] = ("",)  # host:port of each
    number: int = 0  # this process's, from 0

    @property
    def count(self) -> int:
        """Return how many there are."""
        return len(self.addresses)

    @property
    def is_chief(self) -> bool:
        """Return whether this process writes what comes of the training."""
        return not self.number


def number(asked: int | str) -> int:
    """Return this process's number among the workers, from 0.

    Args:
        asked: ``compute.workers``.
    """
    if asked == 1:
        return 0
    _, own = _from_tensorflow()
    return own if "TF_CONFIG" in os.environ else int(_slurm().get("PROCID", 0))


def named(asked: int | str) -> Team:
    """Return the workers that the environment names.

    Args:
        asked: ``compute.workers``: how many, or ``all``.

    Raises:
        ValueError: it names another number of them.
    """
    addresses, own = _from_tensorflow()
    where = "TF_CONFIG"
    if asked != 1 and "TF_CONFIG" not in os.environ and int(_slurm().get("STEP_NUM_TASKS", 1)) > 1:
        addresses, own, where = _of_slurm(), number(asked), "Slurm's step"
    found = max(len(addresses), 1)
    if asked not in ("all", found):
        raise ValueError(
            f"compute.workers: expected as many as {where} names, {found}, received {asked}; set "
            f"compute.workers={found}, or see {GUIDE}"
        )
    return Team(addresses, own) if found > 1 else Team()


def _from_tensorflow() -> tuple[tuple[str, ...], int]:
    """Return the addresses that ``TF_CONFIG`` names, the chief first, and the number of this process among them.

    None where it is not as TensorFlow wants it.
    """
    with suppress(ValueError, AttributeError, TypeError, KeyError):
        config: dict[str, Any] = json.loads(os.environ.get("TF_CONFIG", ""))
        kinds = {kind: list(config["cluster"].get(kind, ())) for kind in ("chief", "worker")}
        addresses = tuple(str(address) for each in kinds.values() for address in each)
        task = config["task"]
        own = int(task["index"]) + (len(kinds["chief"]) if task["type"] == "worker" else 0)
        if 0 <= own < len(addresses) and task["type"] in kinds:
            return addresses, own
    return (), 0


def _slurm() -> Mapping[str, str]:
    """Return what Slurm says to a task of a step, without the prefix; nothing outside of one."""
    if "SLURM_STEP_NUM_TASKS" not in os.environ:
        return {}
    return {name[6:]: value for name, value in os.environ.items() if name.startswith("SLURM_")}


def _of_slurm() -> tuple[str, ...]:
    """Return the addresses of the tasks of the step, which Slurm numbers node by node.

    Raises:
        ValueError: Slurm's own tool does not say which nodes they are on.
    """
    step = _slurm()
    command = ["scontrol", "show", "hostnames", step.get("STEP_NODELIST", "")]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ValueError(
            f"compute.workers: expected the nodes of Slurm's step from {' '.join(command)}, received {error}"
        ) from None
    # As 2(x3),1: two tasks on each of three nodes, and one on the next.
    counts = re.findall(r"(\d+)(?:\(x(\d+)\))?", step.get("STEP_TASKS_PER_NODE", ""))
    tasks = [int(count) for count, times in counts for _ in range(int(times or 1))]
    first = FIRST_PORT + int(step.get("JOB_ID", 0)) % JOBS * PORTS
    hosts = zip(done.stdout.split(), tasks, strict=True)
    return tuple(f"{host}:{first + place}" for host, count in hosts for place in range(count))
