"""Identify one run of the pipeline: what tells it from another, which records on disk are its own, and their figures.

Nothing here knows MLflow; ``thaw.tracking.mlflow_mirror`` copies what this module finds.
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
import yaml

from thaw import paths, records

STAGES = ("sample", "prepare", "environment", "phase1_head", "phase2_finetune", "evaluate", "export")
PHASES = {"phase1_head": "phase1", "phase2_finetune": "phase2"}
# Summaries keep away from the names of the curves, or a final value would be drawn as one more epoch. MLflow shows
# groups by name, and the curves should come first.
GROUPS = {
    "sample": "sample",
    "prepare": "prepare",
    "phase1_head": "phase1_summary",
    "phase2_finetune": "phase2_summary",
    "export": "test_parity",
}
TOGETHER = "both_phases"
COMPARED = ("loss", "val_loss", "accuracy", "val_accuracy")  # columns of the histories that mean the same in both
TESTS = {"phase1": "test_phase1", "phase2": "test", "difference": "test_difference"}
PICTURES = (
    paths.confusion_picture("phase1"),
    paths.confusion_picture("phase2"),
    paths.CURVES,
    paths.REPORT,
    paths.MODEL_CARD,
    paths.DATA_REPORT,
)
TABLES = (paths.VERDICT, paths.CALIBRATION, paths.SLICES, paths.ROBUSTNESS)
LOCK = Path("dvc.lock")
# What a sweep tells the stages of a trial, as JSON: label, sweep, parent (a run in MLflow, or empty) and swept.
TRIAL = "THAW_TRIAL"
SWEEP = "thaw.sweep"  # the tag with the sweep's name, on its parent run and on those of its trials
CODE = "thaw"  # the folder whose folders are dependencies of code
PROJECT = "thaw.project"  # the tag that tells the runs of a project from those of others on the same server
CLOCK_SLACK = 2.0  # seconds: the kernel states a process's start to within about one second
# What a run of the pipeline rewrites itself, so a change there does not make the commit a wrong answer.
PRODUCTS = (paths.METRICS, LOCK, paths.PARAMS)


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
    found = {"thaw.pipeline": key, PROJECT: project()}
    if experiment():
        found["dvc.exp_name"] = experiment()
    if told := of_sweep():
        found |= {SWEEP: told["sweep"], **{_allowed(key): value for key, value in told["swept"].items()}}
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


def valid(stage: str, params: Mapping[str, Any], *, finished: bool) -> list[str]:
    """Return the stages whose records on disk belong to this run, in the pipeline's order.

    A record is out of date if a file it was made from is another one now, and then so is each record after it. The
    records of later stages must agree with ``dvc.lock`` too: the code and the parameters they were made with.

    Args:
        stage: The one that asks.
        params: The whole of params.yaml.
        finished: Whether ``stage`` has ended well; if not, only the stages before it are looked at.
    """
    own = STAGES.index(stage)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a quarter of a second less, in each stage twice
    locked = yaml.load(LOCK.read_bytes(), loader) if LOCK.exists() else {}  # noqa: S506  both loaders are the safe one
    stages: dict[str, Any] = locked.get("stages", {}) if isinstance(locked, dict) else {}
    found = []
    for index, name in enumerate(STAGES if finished else STAGES[:own]):
        if not paths.metrics(name).exists():
            continue
        record = records.read_json(paths.metrics(name))
        made_from = {each["path"]: each["sha256"] for each in record.get("made_from", [])}
        if any(not Path(path).is_file() or records.sha256(Path(path)) != sum_ for path, sum_ in made_from.items()):
            break
        if index > own and not (made_from and _agrees(stages.get(name, {}), params)):
            break
        found.append(name)
    return found


def _agrees(locked: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    """Return whether code and parameters a stage ran with are still the same. Folders of data are left to
    ``made_from``.
    """
    for dependency in locked.get("deps", []):
        path, expected = Path(dependency["path"]), dependency.get("md5", "")
        if dependency.get("hash") != "md5" or (expected.endswith(".dir") and path.parts[0] != CODE):
            continue
        if expected.endswith(".dir"):
            if _folder_md5(path) != expected:
                return False
            continue
        if not path.is_file() or hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != expected:
            return False
    for name, value in locked.get("params", {}).get(paths.PARAMS.name, {}).items():
        now: Any = params
        for key in name.split("."):
            now = now.get(key) if isinstance(now, Mapping) else None
        if _plain({name: now}) != _plain({name: value}):
            return False
    return True


def _folder_md5(folder: Path) -> str:
    """Return the hash that DVC gives to a folder of code: of the list of its files and their hashes."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    listing = [
        {"md5": hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest(), "relpath": name}
        for name, path in sorted(files.items())
        if "__pycache__" not in path.parts  # .dvcignore
    ]
    return f"{hashlib.md5(json.dumps(listing).encode(), usedforsecurity=False).hexdigest()}.dir"


def _plain(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the leaves, with numbers as floats: 1e-05 is a number to DVC's YAML and a text to PyYAML."""
    plain: dict[str, Any] = {}
    for key, value in leaves(tree, "."):
        try:
            plain[key] = float(value)
        except (TypeError, ValueError):
            plain[key] = value
    return plain


def figures(stage: str) -> dict[str, float]:
    """Return the numbers of the stage's record under the names they have in MLflow. Lists and texts are left to the
    file.
    """
    record = records.read_json(paths.metrics(stage))
    if stage == "evaluate":
        groups = {TESTS.get(key, f"test/{key}"): value for key, value in record.items()}
        if paths.VERDICT.exists():
            judged = records.read_json(paths.VERDICT)
            groups |= {"test_baselines": judged.pop("baselines"), "test_verdict": judged}
    else:
        groups = {GROUPS[stage]: record}
    numbers = {key: value for key, value in leaves(groups, "/") if type(value) in (int, float)}
    return {_allowed(key): float(value) for key, value in numbers.items()}


def _allowed(name: str) -> str:
    """Return the name without the characters that MLflow refuses; class names come from folders."""
    return re.sub(r"[^\w.\- :/]", "_", name)


def first_step(phase: str) -> int:
    """Return where the phase begins on the common epoch axis: phase 2 goes on where phase 1 has ended."""
    history = paths.history("phase1_head")
    return len(records.read_csv(history)) if phase == "phase2" and history.exists() else 0


def curves(stage: str) -> list[tuple[str, int, float]]:
    """Yield the stage's figures by epoch: name, step on the common axis, value."""
    if stage not in PHASES or not paths.history(stage).exists():
        return []
    phase = PHASES[stage]
    start = first_step(phase)
    return [
        point
        for row in records.read_csv(paths.history(stage))
        for name, value in row.items()
        if value
        for point in points(phase, name, start + int(row["epoch"]), float(value))
    ]


def points(phase: str, name: str, step: int, value: float) -> list[tuple[str, int, float]]:
    """Return a value of an epoch as points of curves: of the phase's own, and of the one through both phases.

    MLflow draws a chart for each name, so that both phases are in one chart only under one name.
    """
    found = [(f"{phase}/{name}", step, value)] if name != "epoch" else []
    of_both = name in COMPARED and phase in PHASES.values()  # and not of training from scratch
    return found + ([(f"{TOGETHER}/{name}", step, value)] if of_both else [])


def files(stage: str) -> list[tuple[Path, str]]:
    """Yield the stage's files that are on disk and worth a look in MLflow, and the folder each goes to there."""
    own = [(paths.metrics(stage), "metrics"), (paths.history(stage), "metrics")]
    if stage == "evaluate":
        own += [(path, "metrics") for path in TABLES]
        own += [(path, "pictures" if path.suffix == ".png" else "report") for path in PICTURES]
    return [(path, folder) for path, folder in own if path.exists()]
