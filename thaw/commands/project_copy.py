"""A copy of a project in which ``thaw verify`` runs stages again: what they read, and nothing that they make."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from thaw import paths
from thaw.tracking import lineage


def outs(declared: dict[str, Any]) -> list[Path]:
    """Return the files and folders that a stage declares to make."""
    every = [*declared.get("outs", ()), *declared.get("metrics", ()), *declared.get("plots", ())]
    return [Path(next(iter(each)) if isinstance(each, dict) else each) for each in every]


def fill(project: Path, copy: Path, declared: dict[str, Any], wanted: Sequence[str]) -> None:
    """Copy code and configuration, and what the stages read that none of them makes."""
    made = {out for each in declared.values() for out in outs(each)}
    ours = {out for name in wanted for out in outs(declared[name])}
    for name in ("conf", "stages", "thaw"):
        if (project / name).is_dir():  # a project on the installed package has no thaw/
            shutil.copytree(project / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    values = yaml.safe_load((project / paths.PARAMS).read_text(encoding="utf-8"))
    values["tracking"]["enabled"] = False
    own = values.get("compute", {})
    own |= {name: "" for name in ("cache_dir", "shared_cache") if name in own}  # nothing is taken from a cache
    (copy / paths.PARAMS).write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    shutil.copyfile(project / lineage.PIPELINE, copy / lineage.PIPELINE)
    # What is another one in the copy, and what no stage reads.
    apart = {project / path for path in [*made, paths.MEMORY, *map(Path, ("conf", "stages", "thaw"))]}
    apart |= {path for path in project.iterdir() if path.name.startswith(".")}
    for each in _read(project, values):
        _link(Path(os.path.abspath(project / each)), Path(os.path.abspath(copy / each)), apart)  # noqa: PTH100
    # Where every image was put is an input of prepare, which it writes again.
    for path in [*sorted(made - ours), paths.MEMORY]:
        if (project / path).exists() and not (copy / path).exists():
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            copying = shutil.copytree if (project / path).is_dir() else shutil.copyfile
            copying(project / path, copy / path)


def _read(project: Path, values: dict[str, Any]) -> list[Path]:
    """Return what a project's configuration names by paths from the project on: images, or a table's folder; weights.

    Whole paths mean the same from the copy.
    """
    raw, weights = values["data"]["raw"], values["backbone"]["weights"]
    images = paths.REMOTE if paths.is_remote(raw) else Path(raw)
    images = images if (project / images).is_dir() else images.parent
    return [path for path in (images, *([Path(weights)] if weights else [])) if not path.is_absolute()]


def place(project: Path, scratch: Path) -> Path:
    """Return where the copy is put: so deep that what it names by ``..`` lies in the scratch folder too."""
    values = yaml.safe_load((project / paths.PARAMS).read_text(encoding="utf-8"))
    up = max(Path(os.path.normpath(each)).parts.count("..") for each in [*_read(project, values), Path()])
    return scratch.joinpath(*["around"] * up, "project")


def _link(path: Path, link: Path, apart: set[Path]) -> None:
    """Put a link to what is only read, or links to all that is in it where it is around what is ``apart``."""
    if path in apart or not path.exists():
        return
    if any(each.is_relative_to(path) for each in apart):
        for each in path.iterdir():
            _link(each, link / each.name, apart)
    elif not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """Give a copy of the project as it was in a commit or an experiment, with what DVC's cache has of it.

    Raises:
        ValueError: git knows no such revision, or the cache lacks something of it.
    """
    listed = _git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps/").splitlines()
    named = [line.split()[0] for line in listed if line.rsplit("/", 1)[-1] == revision]
    try:
        commit = named[0] if named else _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").strip()
    except subprocess.CalledProcessError:
        raise ValueError(
            f"expected a stage ({', '.join(lineage.stages())}), a commit or an experiment, received {revision!r}"
        ) from None
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        _git("clone", "--quiet", "--shared", "--no-checkout", ".", str(folder))
        _git("-C", str(folder), "checkout", "--quiet", "--detach", commit)
        cache = subprocess.run(["dvc", "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
        for words in (["cache", "dir", "--local", str(Path(cache).resolve())], ["checkout", "--quiet"]):
            done = subprocess.run(["dvc", *words], cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                raise ValueError(
                    f"expected all files of {revision} in DVC's cache: {' '.join(done.stderr.split()):.300}"
                )
        yield folder


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout
