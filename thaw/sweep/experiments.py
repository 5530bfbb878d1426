"""The experiments of trials: what git and DVC know of them, found by name."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from thaw import paths, records
from thaw.sweep import dvc_files
from thaw.sweep.results import Figures

# A trial ends here: the test set is for the one trial that is chosen in the end, not for choosing.
TARGET = "phase2_finetune"
SHARED = ("prepare", "phase1_head")  # what trials have in common that differ in phase 2 only
RERUN = "run the sweep again, which repeats no work that still holds"


@dataclass
class Finished:
    """The experiment of a trial that is finished."""

    name: str
    commit: str  # that DVC has tied it to
    figures: Figures


def finished(name: str, commit: str) -> Finished | None:
    """Return the experiment of the same trial, also if another sweep named it, and its figures.

    Where nothing is thawed, phase 2 has no validation figures of its own: its model is phase 1's, and so are they.

    Args:
        commit: on which the sweep began. DVC ties an experiment to the commit that is current when it runs, so the
            current one is looked at too.
    """
    for on in dict.fromkeys((commit, head())):
        for ref in _refs(f"*-{name.rsplit('-', 1)[1]}", on):
            metrics = (f"{ref}:./{paths.metrics(of).as_posix()}" for of in ("phase1_head", TARGET))
            phase1, phase2 = (git("show", path) for path in metrics)
            if phase1 and phase2:
                return Finished(ref.rsplit("/", 1)[1], on, Figures.of(json.loads(phase1) | json.loads(phase2)))
    return None


def files(name: str, paths: Sequence[str], commit: str = "") -> list[str]:
    """Return files of the experiment of this name; empty texts for those that it does not have.

    Args:
        commit: that it is tied to; empty: to whichever, the newest experiment goes before.
    """
    refs = _refs(name, commit)
    return [git("show", f"{refs[0]}:./{path}") if refs else "" for path in paths]


def counted(name: str, commit: str = "") -> int:
    """Return the validation images of the experiment of this name; ``commit`` as in ``files``.

    Raises:
        ValueError: there is no such experiment.
    """
    (text,) = files(name, [paths.metrics("prepare").as_posix()], commit)
    if not text:
        raise ValueError(f"{name}: expected its experiment in git, found none; {RERUN}")
    return int(json.loads(text)["splits"]["val"]["images"])


def cached(name: str, path: Path, commit: str = "") -> bytes | None:
    """Return a file that the experiment of this name has made, if DVC still has it; ``commit`` as in ``files``."""
    refs = _refs(name, commit)
    return dvc_files.read(git("rev-parse", refs[0]).strip(), path) if refs else None


def forget(name: str, commit: str = "") -> None:
    """Take an experiment off the list; what it has computed stays in DVC's cache. ``commit`` as in ``files``."""
    for ref in _refs(name, commit):
        git("update-ref", "-d", ref)


def _refs(pattern: str, commit: str = "") -> list[str]:
    """Return experiments, the newest first; ``commit`` as in ``files``."""
    on = f"{commit[:2]}/{commit[2:]}" if commit else "*/*"
    return git("for-each-ref", "--sort=-committerdate", "--format=%(refname)", f"refs/exps/{on}/{pattern}").split()


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
    return found if all(map(dvc_files.is_cached, found["outs"])) else None


def head() -> str:
    """Return the current commit, to which DVC ties experiments.

    Raises:
        ValueError: there is none.
    """
    if commit := git("rev-parse", "--verify", "HEAD").strip():
        return commit
    raise ValueError("expected a git repository with a commit, which experiments need; commit the project first")


def committed(path: Path) -> str:
    """Return what the current commit has of a file, empty if nothing."""
    return git("show", f"HEAD:./{path.as_posix()}")


def check_images_travel(raw: Path) -> None:
    """Refuse images that a trial's copy of the project would lack: it holds what git or DVC know, and no more.

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
    if not git("ls-files", "--", str(raw)):
        raise ValueError(
            f"data.raw: expected {raw} to be known to DVC or git, so that a trial's copy of the project gets it; "
            f"run `dvc add {raw}`, then `git add {raw}.dvc`, or give it as an absolute path"
        )


def git(*words: str) -> str:
    """Return what git says; nothing if it fails."""
    done = subprocess.run(["git", *words], capture_output=True, text=True, encoding="utf-8", check=False)
    return "" if done.returncode else done.stdout
