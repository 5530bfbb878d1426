"""Identify one run of the pipeline: what all its stages have in common, and the tags that tell it from another run.

Nothing here knows MLflow.
"""

import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from thaw import paths, records

STAGES = ("sample", "prepare", "environment", "phase1_head", "phase2_finetune", "evaluate", "export")
# What a sweep tells the stages of a trial, as JSON: label, sweep, parent (a run in MLflow, or empty) and swept.
TRIAL = "THAW_TRIAL"
SWEEP = "thaw.sweep"  # the tag with the sweep's name, on its parent run and on those of its trials
PROJECT = "thaw.project"  # the tag that tells the runs of a project from those of others on the same server
CLOCK_SLACK = 2.0  # seconds: the kernel states a process's start to within about one second
# What a run of the pipeline rewrites itself, so a change there does not make the commit a wrong answer.
PRODUCTS = (paths.METRICS, paths.DVC_LOCK, paths.PARAMS)


def dvc_process() -> psutil.Process | None:
    """Return the nearest ancestor that is DVC, if there is one. In a queue too it works on one experiment only."""
    if "DVC_STAGE" not in os.environ:
        return None
    for process in psutil.Process().parents():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if any(Path(word).name in ("dvc", "dvc.exe") for word in words[:2]) or words[1:3] == ["-m", "dvc"]:
            return process
    return None


def identity(params: Mapping[str, Any]) -> tuple[str, float]:
    """Return what all stages of one run of the pipeline have in common, though each is its own process.

    Under DVC this is the DVC process; the machine gives its number to another process later, but not before it has
    ended. A stage started by hand goes with the others of the same project, parameters and data.

    Returns:
        The key, and the Unix time in seconds before which no run with this key can have begun.
    """
    host, process = _host(), dvc_process()
    if process is not None:
        return f"{host}:{process.pid}:{experiment()}", process.create_time() - CLOCK_SLACK
    data = records.sha256(paths.MANIFEST) if paths.MANIFEST.exists() else ""
    text = json.dumps([str(Path.cwd()), data, params], sort_keys=True, default=str)
    return f"{host}:by-hand:{hashlib.sha256(text.encode()).hexdigest()[:32]}", 0.0


def ended(key: str, begun: float) -> bool:
    """Return whether the DVC process of a run is no more, by the run's key and the Unix time at which it began.

    Of another machine's run, and of stages started by hand, that is not known, and the answer is no.
    """
    host, number, *_ = f"{key}:".split(":")
    if host != _host() or not number.isdecimal():
        return False
    try:
        return psutil.Process(int(number)).create_time() - CLOCK_SLACK > begun  # another one with its number
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def project() -> str:
    """Return sixteen hex digits for the folder of the project, the same in isolated experiments."""
    return hashlib.sha256(paths.main_root().as_posix().encode()).hexdigest()[:16]


def _host() -> str:
    return re.sub(r"[^\w.-]", "_", platform.node())


def experiment() -> str:
    """Return the name of the DVC experiment, empty outside of one."""
    return os.environ.get("DVC_EXP_NAME", "")


def of_sweep() -> dict[str, Any]:
    """Return what a sweep has told this trial, empty outside of one."""
    told: dict[str, Any] = json.loads(os.environ.get(TRIAL) or "{}")
    return told


def commit() -> tuple[str, bool] | None:
    """Return the git commit, and whether other files than the run's own products differ from it; None without git."""
    paths = [".", *(f":(exclude){path.as_posix()}" for path in PRODUCTS)]
    try:
        head, status = (
            subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--", *paths])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head, bool(status)


def tags(key: str) -> dict[str, str]:
    """Return the tags that the run gets when it begins."""
    # The source is what MLflow's list shows of the project where several use one server.
    source = {"mlflow.source.name": paths.main_root().name, "mlflow.source.type": "LOCAL"}
    found = {"thaw.pipeline": key, PROJECT: project(), **source}
    if experiment():
        found["dvc.exp_name"] = experiment()
    if told := of_sweep():
        found |= {SWEEP: told["sweep"], **{allowed(key): value for key, value in told["swept"].items()}}
        if told["parent"]:
            found["mlflow.parentRunId"] = told["parent"]
    if (state := commit()) is not None:
        found |= {"mlflow.source.git.commit": state[0], "thaw.git_dirty": str(state[1]).lower()}
    return found


def leaves(tree: Mapping[str, Any], separator: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values that are not mappings, each with the keys on the way to it."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, separator, f"{prefix}{key}{separator}")
        else:
            yield f"{prefix}{key}", value


def allowed(name: str) -> str:
    """Return the name without the characters that MLflow refuses; class names come from folders."""
    return re.sub(r"[^\w.\- :/]", "_", name)
