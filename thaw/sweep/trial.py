"""One trial of a sweep: what determines it and names it, and its run as a DVC experiment in a copy of the project.

A trial that is finished, with the same configuration, code, images, splits, weights and packages, is found under its
name and not run again.
"""

import hashlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from thaw import paths
from thaw.config import schema, tracked
from thaw.data import file_hashes, folders, object_store, table
from thaw.data.table import Entry
from thaw.networks import environment
from thaw.project import code as package
from thaw.project import template
from thaw.runtime import code_version
from thaw.sweep import experiments, reasons, supervisor

NAME_LENGTH = 150  # characters of a name's readable part; a file system takes 255 in all
LASTING = 10.0  # seconds after which a change of what a trial is made of is one


def trial_name(overrides: Sequence[str], values: Mapping[str, Any], state: str) -> str:
    """Return a name for people and for git: the same for the same trial, another for another.

    Args:
        overrides: in Hydra's grammar; the readable part.
        values: the whole configuration. The digest at the end covers it and the state of all else.
        state: as ``fingerprint`` found it.
    """
    readable = re.sub(r"[^\w.=,+-]+", "_", ",".join(overrides))
    readable = re.sub(r"\.{2,}", ".", readable).lstrip("+-.")[:NAME_LENGTH]
    return f"{readable}-{digest(tracked.of_run(values), state)}"


def digest(values: Mapping[str, Any], state: str) -> str:
    """Return eight hex digits of some values and the state of all else."""
    return hashlib.sha256(f"{json.dumps(values, sort_keys=True)}{state}".encode()).hexdigest()[:8]


def inputs(settings: schema.Project) -> str:
    """Return what of a configuration names files of the user's: trials in which it is the same read the same."""
    return json.dumps([settings.data.raw, settings.backbone.weights, settings.backbone.builder])


def fingerprint(settings: schema.Project) -> str:
    """Return a digest of all that determines a trial besides its values.

    These are its code, the state of the images, where each of them was put, the packages, and the weights' bytes.
    """
    raw, total = paths.local(settings.data.raw), hashlib.sha256()
    around = environment.describe(settings.backbone)
    total.update(json.dumps(around, sort_keys=True).encode())
    # A trial starts with the memory of the workspace, and puts images where that has them.
    total.update(paths.MEMORY.read_bytes() if paths.MEMORY.is_file() else b"")
    pipeline = {stage: stages()[stage] for stage in (*experiments.SHARED, experiments.TARGET)}
    code = {name for stage in pipeline.values() for name in stage["deps"] if name.startswith(("stages/", "thaw/"))}
    total.update(json.dumps(pipeline).encode())
    total.update(code_version.of_files(Path(), map(Path, code)).encode())
    if template.RECORD in stages():  # a project of one's own, whose stages run the installed package
        total.update("".join(map(package.of, pipeline)).encode())
    # Sizes and times stand for the bytes; where they change for nothing, DVC is asked, and it reads the bytes. For an
    # experiment DVC takes what git has and is not committed away and back, which changes times.
    kept = {Path(name).absolute() for name in experiments.git("ls-files", "-z", "--", str(raw)).split("\0") if name}
    with file_hashes.memo() as memo:
        hashes = file_hashes.FileHashes(memo)  # a sweep asks for each trial, twice
        for path in _images(raw):
            if path.is_file() and path.absolute() in kept:
                total.update(f"{path.as_posix()} {hashes.of(path)}\n".encode())
            elif path.is_file():
                state = path.stat()
                total.update(f"{path.as_posix()} {state.st_size} {state.st_mtime_ns}\n".encode())
    return total.hexdigest()


def newest(settings: schema.Project) -> str:
    """Return ``fingerprint`` of what there is now: images in an object store are brought here first.

    Raises:
        ValueError: the store can't be read.
    """
    if paths.is_remote(settings.data.raw):
        object_store.fetch(settings.data.raw)
    return fingerprint(settings)


def _images(raw: Path) -> list[Path]:
    """Return the user's images as `prepare` finds them, also in folders that are links, and a table before them."""
    if raw == paths.SAMPLE:
        return []  # which a stage makes
    if raw.is_dir():
        return folders.below(raw)[0]
    named: Sequence[Entry] = []
    with suppress(ValueError):  # which is said where images are looked for
        named = table.read(raw)[0]
    return [raw, *sorted(raw.parent / entry.path for entry in named)]


def changed(settings: schema.Project, state: str) -> bool:
    """Return whether what ``fingerprint`` looks at is no longer as it found it.

    Not at first sight: DVC takes what is not committed out of the workspace for a moment to set an experiment up.
    """
    end = time.monotonic() + LASTING
    while True:
        with suppress(OSError):
            if fingerprint(settings) == state:
                return False
        if time.monotonic() > end:
            return True
        time.sleep(0.2)


def stages() -> dict[str, Any]:
    stages: dict[str, Any] = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return stages


def upstream(values: Mapping[str, Any], state: str) -> str:
    """Return the digest of all that stages before phase 2 depend on: trials in which it is the same share them."""
    pairs = [name.partition(".")[::2] for name in before_phase2()]
    return digest({f"{group}.{name}": values[group][name] if name else values[group] for group, name in pairs}, state)


def before_phase2() -> set[str]:
    """Return the groups, and fields as GROUP.FIELD, that DVC tracks for the stages before phase 2."""
    return {name for stage in experiments.SHARED for name in stages()[stage]["params"]}


def ran(log: Path) -> bool:
    """Return whether a trial's phase 2 was run, by its log; else DVC has restored it."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return f"Running stage '{experiments.TARGET}'" in text


def run(
    name: str,
    overrides: Sequence[str],
    sweep: Path,
    owner: str,
    target: str = experiments.TARGET,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run one trial, or what several have in common, in a temporary copy of the project.

    Args:
        sweep: the sweep's folder. A log in it gets all that DVC and the stages say.
        owner: as ``supervisor.myself`` names the sweep's process. When that ends, so does the trial.
        target: the stage that it ends with.
        environment: more variables for the stages.

    Returns:
        Why it failed, one line; empty if it did not.

    Raises:
        KeyboardInterrupt: it was stopped, and did neither fail nor finish.
    """
    words = [sys.executable, "-m", "dvc", "--wait-for-lock", "exp", "run", "--temp", "--name", name]
    words += [word for override in overrides for word in ("-S", override)]
    # The `python` of the stages must be this one, also if its environment is not activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    log = sweep / f"{name}.log"
    process = supervisor.start(
        sweep, owner, [*words, target], log, {**os.environ, **(environment or {}), "PATH": path}
    )
    try:
        code = process.wait()
    finally:
        supervisor.stop(process)
        supervisor.tidy(name)
    if code in (supervisor.INTERRUPTED, -signal.SIGINT):  # by its supervisor, or before that heard anything
        raise KeyboardInterrupt
    return reasons.find(log.read_text(encoding="utf-8", errors="replace"), code) if code else ""
