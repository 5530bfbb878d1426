"""Run one trial of a sweep: a DVC experiment in a copy of the project, its name, its run and its files.

A trial that is finished, with the same configuration, code, images, splits, weights and packages, is found under its
name and not run again.
"""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from thaw import paths, records
from thaw.config import load, schema
from thaw.networks import environment
from thaw.runtime import code_version
from thaw.sweep import reasons, supervisor

# A trial ends here: the test set is for the one trial that is chosen in the end, not for choosing.
TARGET = "phase2_finetune"
CACHE = Path(".dvc/cache/files/md5")  # DVC's; what is not found in it, as where it is elsewhere, counts as gone
SHARED = ("prepare", "phase1_head")  # what trials have in common that differ in phase 2 only
ALIASES = {"learning_rate": "lr", "unfreeze": "depth"}
NAME_LENGTH = 150  # characters of a name's readable part; a file system takes 255 in all
LASTING = 10.0  # seconds after which a change of what a trial is made of is one
RERUN = "run the sweep again, which repeats no work that still holds"


@dataclass
class Finished:
    """The experiment of a trial that is finished."""

    name: str
    commit: str  # that DVC has tied it to
    figures: dict[str, Any]


def trial_name(overrides: Sequence[str], values: Mapping[str, Any], state: str = "") -> str:
    """Return a name for people and for git: the same for the same trial, another for another.

    Args:
        overrides: in Hydra's grammar; the readable part.
        values: the whole configuration. The digest at the end covers it and the state of all else.
        state: as ``fingerprint`` found it; empty: it is looked for.
    """
    readable = re.sub(r"[^\w.=,+-]+", "_", ",".join(overrides))
    readable = re.sub(r"\.{2,}", ".", readable).lstrip("+-.")[:NAME_LENGTH]
    kept = {key: value for key, value in values.items() if key not in load.UNTRACKED and key != "compiled_from"}
    return f"{readable}-{digest(kept, state or fingerprint(values))}"


def digest(values: Mapping[str, Any], state: str) -> str:
    """Return eight hex digits of some values and the state of all else."""
    return hashlib.sha256(f"{json.dumps(values, sort_keys=True)}{state}".encode()).hexdigest()[:8]


def inputs(values: Mapping[str, Any]) -> str:
    """Return the values of a configuration that name the user's files: trials with the same values read the same
    files.
    """
    return json.dumps([values["data"]["raw"], values["backbone"]["weights"], values["backbone"]["builder"]])


def fingerprint(values: Mapping[str, Any]) -> str:
    """Return a digest of all that determines a trial besides its values.

    These are its code, the state of the images, where each of them was put, the packages, and the weights' bytes.
    """
    raw, total = Path(values["data"]["raw"]), hashlib.sha256()
    around = environment.describe(schema.Backbone(**values["backbone"]))
    total.update(json.dumps(around, sort_keys=True).encode())
    # A trial starts with the memory of the workspace, and puts images where that has them.
    total.update(paths.MEMORY.read_bytes() if paths.MEMORY.is_file() else b"")
    pipeline = {stage: stages()[stage] for stage in (*SHARED, TARGET)}
    code = {name for stage in pipeline.values() for name in stage["deps"] if name.startswith(("stages/", "thaw/"))}
    total.update(json.dumps(pipeline).encode())
    total.update(code_version.of_files(Path(), map(Path, code)).encode())
    # Sizes and times stand for the bytes; where they change for nothing, DVC is asked, and it reads the bytes. For an
    # experiment DVC takes what git has and is not committed away and back, which changes times.
    kept = {Path(name).absolute() for name in _git("ls-files", "-z", "--", str(raw)).split("\0") if name}
    for path in sorted([raw] if raw.is_file() else raw.rglob("*") if raw != paths.SAMPLE else ()):
        if path.is_file() and path.absolute() in kept:
            total.update(f"{path.as_posix()} {records.sha256(path)}\n".encode())
        elif path.is_file():
            state = path.stat()
            total.update(f"{path.as_posix()} {state.st_size} {state.st_mtime_ns}\n".encode())
    return total.hexdigest()


def changed(values: Mapping[str, Any], state: str) -> bool:
    """Return whether what ``fingerprint`` looks at is no longer as it found it.

    Not at first sight: DVC takes what is not committed out of the workspace for a moment to set an experiment up.
    """
    end = time.monotonic() + LASTING
    while True:
        with suppress(OSError):
            if fingerprint(values) == state:
                return False
        if time.monotonic() > end:
            return True
        time.sleep(0.2)


def stages() -> dict[str, Any]:
    stages: dict[str, Any] = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return stages


def upstream(values: Mapping[str, Any], state: str) -> str:
    """Return the digest of all that stages before phase 2 depend on: trials in which it is the same share them."""
    groups = {group for stage in SHARED for group in stages()[stage]["params"]}
    return digest({group: values[group] for group in groups}, state)


def label(shown: Sequence[str]) -> str:
    """Return a short name for people, such as ``lr=3e-05 depth=block_13``, of the overrides that tell trials apart."""
    keys = [override.partition("=")[0] for override in shown]
    short = [key.rsplit(".", 1)[-1].lstrip("+") for key in keys]
    names = [ALIASES.get(name, name) if short.count(name) == 1 else key for name, key in zip(short, keys, strict=True)]
    return " ".join(name + override[len(key) :] for name, key, override in zip(names, keys, shown, strict=True))


def finished(name: str, commit: str) -> Finished | None:
    """Return the experiment of the same trial, also if another sweep named it, and its figures.

    Where nothing is unfrozen, phase 2 has no validation figures of its own: its model is phase 1's, and so are they.

    Args:
        commit: on which the sweep began. DVC ties an experiment to the commit that is current when it runs, so the
            current one is looked at too.
    """
    for on in dict.fromkeys((commit, head())):
        for ref in _refs(f"*-{name.rsplit('-', 1)[1]}", on):
            metrics = (f"{ref}:./{paths.metrics(of).as_posix()}" for of in ("phase1_head", TARGET))
            phase1, phase2 = (_git("show", path) for path in metrics)
            if phase1 and phase2:
                return Finished(ref.rsplit("/", 1)[1], on, json.loads(phase1) | json.loads(phase2))
    return None


def files(name: str, paths: Sequence[str], commit: str = "") -> list[str]:
    """Return files of the experiment of this name; empty texts for those that it does not have.

    Args:
        commit: that it is tied to; empty: to whichever, the newest experiment goes before.
    """
    refs = _refs(name, commit)
    return [_git("show", f"{refs[0]}:./{path}") if refs else "" for path in paths]


def counted(name: str, commit: str = "") -> int:
    """Return the number of validation images of the experiment of this name; ``commit`` as in ``files``.

    Raises:
        ValueError: there is no such experiment.
    """
    (text,) = files(name, [paths.metrics("prepare").as_posix()], commit)
    if not text:
        raise ValueError(f"{name}: expected its experiment in git, found none; {RERUN}")
    return int(json.loads(text)["splits"]["val"]["images"])


def cached(name: str, stage: str, file: str, commit: str = "") -> bytes | None:
    """Return a file that a stage of the experiment has made, out of DVC's cache; None if it is not there."""
    (lock,) = files(name, ["dvc.lock"], commit)
    for md5 in outs(lock, [stage]) if lock else ():
        listing = CACHE / md5[:2] / md5[2:]
        for entry in json.loads(listing.read_text(encoding="utf-8")) if listing.is_file() else ():
            path = CACHE / entry["md5"][:2] / entry["md5"][2:]
            if entry["relpath"] == file and path.is_file():
                found: bytes = path.read_bytes()
                return found
    return None


def forget(name: str, commit: str = "") -> None:
    """Take an experiment off the list; what it has computed stays in DVC's cache. ``commit`` as in ``files``."""
    for ref in _refs(name, commit):
        _git("update-ref", "-d", ref)


def _refs(pattern: str, commit: str = "") -> list[str]:
    """Return experiments, the newest first; ``commit`` as in ``files``."""
    on = f"{commit[:2]}/{commit[2:]}" if commit else "*/*"
    return _git("for-each-ref", "--sort=-committerdate", "--format=%(refname)", f"refs/exps/{on}/{pattern}").split()


def outs(lock: str, names: Sequence[str]) -> list[str]:
    """Return the hashes under which DVC's cache has what some stages have made, out of the text of a dvc.lock."""
    locked = yaml.safe_load(lock)["stages"]
    return [out["md5"] for name in names for out in locked[name]["outs"] if out["md5"].endswith(".dir")]


def left(key: str) -> dict[str, Any] | None:
    """Return what an earlier sweep has left of an upstream, while DVC's cache still has it."""
    path = paths.UPSTREAMS / f"{key}.json"
    if not path.is_file():
        return None
    found = records.read_json(path)
    return found if all((CACHE / md5[:2] / md5[2:]).is_file() for md5 in found["outs"]) else None


def head() -> str:
    """Return the current commit, to which DVC ties experiments.

    Raises:
        ValueError: there is none.
    """
    if commit := _git("rev-parse", "--verify", "HEAD").strip():
        return commit
    raise ValueError("expected a git repository with a commit, which experiments need; commit the project first")


def committed(path: Path) -> str:
    """Return what the current commit has of a file, empty if nothing."""
    return _git("show", f"HEAD:./{path.as_posix()}")


def check_images_travel(raw: Path) -> None:
    """Check that the images get into a trial's copy of the project, which holds what git or DVC know, and no more.

    Raises:
        ValueError: the images are not among it.
    """
    if raw == paths.SAMPLE or raw.is_absolute() or any(Path(f"{path}.dvc").is_file() for path in (raw, *raw.parents)):
        return
    whole = Path(os.path.abspath(raw))  # noqa: PTH100 -- resolve() would follow a link out of the project
    if not whole.is_relative_to(Path.cwd()):
        raise ValueError(
            f"data.raw: expected a path in the project or an absolute one, since trials run in copies of the project, "
            f"received {raw}; write data.raw={whole}"
        )
    if not _git("ls-files", "--", str(raw)):
        raise ValueError(
            f"data.raw: expected {raw} to be known to DVC or git, so that a trial's copy of the project gets it; "
            f"run `dvc add {raw}`, then `git add {raw}.dvc`, or give it as an absolute path"
        )


def _git(*words: str) -> str:
    """Return what git prints; nothing if it fails."""
    done = subprocess.run(["git", *words], capture_output=True, text=True, encoding="utf-8", check=False)
    return "" if done.returncode else done.stdout


def ran(log: Path) -> bool:
    """Return whether a trial's phase 2 was run, by its log; else DVC has restored it."""
    return log.is_file() and f"Running stage '{TARGET}'" in log.read_text(encoding="utf-8", errors="replace")


def run(
    name: str,
    overrides: Sequence[str],
    sweep: Path,
    owner: str,
    target: str = TARGET,
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
