"""Make a project: a folder with the pipeline, a configuration of its own, git and DVC."""

import contextlib
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import yaml

from thaw import paths
from thaw.config import chosen, load
from thaw.data import folders
from thaw.project import template

RAW = "data/raw"  # where images lie that were given as none, or that DVC is to keep
TABLES = (".csv", ".parquet")
# Goes before a project's own .gitignore where the repository around it leaves out some of it, such as data/ or *.csv.
# Without these files experiments would lack figures, and would divide the images anew. Images stay left out.
FOLLOWED = """\
# Kept in git, though the repository around this project leaves out some of it
!/.dvc/
!/.dvc/**
!/.dvcignore
!/.gitignore
!/.vscode/
!/.vscode/**
!/README.md
!/conf/
!/conf/**
!/data/
/data/*
!/data/*.dvc
!/data/.gitignore
!/data/splits.json
!/dvc.lock
!/dvc.yaml
!/metrics/
!/metrics/**
!/params.yaml
!/pyproject.toml
!/schemas/
!/schemas/**
!/stages/
!/stages/**

"""
LATER = ("data/raw.dvc", "data/splits.json", "dvc.lock", "metrics/evaluate.json", "metrics/per_class.csv")


@dataclass
class Made:
    """A project that was made."""

    folder: Path
    raw: str  # ``data.raw``, as the project has it
    repository: str  # "new", or "yours": it was there before, and nothing was committed to it
    committed: bool
    uncommitted: str  # why a new repository has no first commit, and the remedy, in a line; else empty
    choices: list[str]  # those remembered in conf/chosen.yaml


def make(
    folder: Path, data: str = "", words: Sequence[str] = (), *, keep: bool = False, named: str = "--data"
) -> Made:
    """Make a project in a folder that is not there yet, is empty, or holds nothing but a git repository.

    Args:
        folder: where.
        data: a folder of images or a table of them, or an address in an object store; empty: they will be put into
            data/raw.
        words: choices as ``python -m thaw.config`` takes them, such as ``backbone=resnet50``.
        keep: have DVC keep a copy of the images as data/raw, instead of reading them where they lie.
        named: what the user calls ``data``, for errors.

    Raises:
        ValueError: the folder is taken, lies in another project, or is ignored by git; there are no such images; a
            choice is wrong; git is missing. One line, and nothing was written.
    """
    folder = paths.whole(folder)
    if shutil.which("git") is None:
        raise ValueError("expected the program git, which experiments need, found none; install it")
    check_once(data, words)
    within = _check_place(folder, data)
    is_remote = paths.is_remote(data)
    if is_remote and keep:
        raise ValueError(f"--add: expected a folder, received the address {data}; leave it out, or download it")
    images = _check_data(data, folder, named, keep=keep) if data and not is_remote else None
    raw = [f"data.raw={images.as_posix() if images else data}"] if data and not keep else []
    choices = chosen.add([], [*raw, *words], template.source() / paths.CONF)
    folder.parent.mkdir(parents=True, exist_ok=True)
    there = folder.is_dir()
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        lying = Path(scratch) / folder.name
        write(lying, folder.name, choices)
        for path in sorted(lying.iterdir()) if there else [lying]:
            path.rename(folder / path.name if there else folder)
    reason = ""
    try:
        if within:
            _follow(folder)
        if not within:
            _git(folder, "init", "--quiet", "--initial-branch=main")
        if images and keep:
            _add(folder, images)
        if not within:
            _git(folder, "add", ".")
            reason = _commit(folder, f"Start a project of thaw {version('thaw')}")
    except BaseException:
        _take_back(folder, there=there, within=within is not None)
        raise
    settled = yaml.safe_load((folder / paths.PARAMS).read_text(encoding="utf-8"))["data"]["raw"]
    committed = not within and not reason
    return Made(folder, settled, "yours" if within else "new", committed, reason, choices)


def check_named(data: str, named: str) -> None:
    """Require that images are named, and not by an empty word, which as a path would be the current folder.

    Args:
        data: the word, as it was typed.
        named: what the user calls it.

    Raises:
        ValueError: it is empty.
    """
    if not data.strip():
        raise ValueError(f"{named}: expected the path of images, received an empty word; the current folder is .")


def check_once(data: str, words: Sequence[str]) -> None:
    """Require that the images are not named among the choices too.

    Raises:
        ValueError: they are.
    """
    again = [word for word in words if chosen.key(word) == "data.raw"]
    if data and again:
        raise ValueError(f"data.raw: expected the images once, received {data} and {again[0]}; leave one of them out")


def write(folder: Path, name: str, choices: Sequence[str]) -> None:
    """Write the files of a project, compiled with these choices.

    Raises:
        ValueError: a choice is wrong.
    """
    for path, text in template.files(name):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8", newline="\n")
    for empty in template.EMPTY:
        (folder / empty).mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(folder):
        load.compose(choices, ())  # or a mistake would be blamed on a memory that is not there yet
        compiled = load.compose((), choices)
        chosen.write(choices, paths.CONF)
        paths.PARAMS.write_text(compiled, encoding="utf-8", newline="\n")


def _check_place(folder: Path, data: str) -> Path | None:
    """Return the git repository that the folder is in or will be in, if there is one."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: expected a new or an empty folder, received a file; choose another name")
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if [name for name in there if name != ".git"]:
        holds_images = bool(data) and not paths.is_remote(data) and paths.whole(data).is_relative_to(folder)
        free = folder.with_name(f"{folder.name}-classifier") if holds_images else folder / "classifier"
        inside = "" if (folder / "dvc.yaml").exists() else f", such as {free}"
        raise ValueError(
            f"{folder}: expected a new or an empty folder, received one with {there[0]!r} in it"
            f"{f' and {len(there) - 1:,} more' if len(there) > 1 else ''}; choose another{inside}"
        )
    for parent in folder.parents:
        if (parent / ".dvc").is_dir():
            raise ValueError(f"{folder}: expected a place outside of other DVC projects, received one in {parent}")
    around = next(path for path in (folder, *folder.parents) if path.is_dir())
    root = _git(around, "rev-parse", "--show-toplevel", fails=True).strip()
    if root and folder != Path(root) and _git(around, "check-ignore", f"{folder}/", fails=True):
        raise ValueError(f"{folder}: expected a folder that git follows, received one that .gitignore in {root} names")
    return Path(root) if root else None


def _check_data(data: str, folder: Path, named: str, *, keep: bool) -> Path:
    """Return the whole path of the images."""
    path = paths.whole(data)
    if not path.exists():
        raise ValueError(f"{named}: expected a folder of images, or a table of them, found nothing at {path}")
    if path.is_file() and path.suffix.lower() not in TABLES:
        raise ValueError(
            f"{named}: expected a folder, or a {' or '.join(TABLES)} file, received the file {path}"
            f"{folders.remedy(path)}"
        )
    if path.is_file() and keep:
        raise ValueError(
            f"--add: expected a folder, since a table's images lie where it says, received {path}; leave it out"
        )
    if path.is_dir() and (folder.is_relative_to(path) or path.is_relative_to(folder)):
        raise ValueError(
            f"{folder}: expected a folder apart from the images, received one that shares {path} with them"
        )
    return path


def _follow(folder: Path) -> None:
    """See to it that git follows a project's files, whatever the repository around it leaves out."""
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    own = [name for name in files if not name.startswith(".git/")]
    if _git(folder, "check-ignore", *own, *LATER, fails=True):
        path = folder / ".gitignore"
        path.write_text(FOLLOWED + path.read_text(encoding="utf-8"), encoding="utf-8", newline="\n")


def _add(folder: Path, images: Path) -> None:
    """Let DVC keep a copy of the images, as data/raw."""
    (folder / RAW).rmdir()
    words = [sys.executable, "-m", "dvc", "add", "--quiet", "--out", RAW, str(images)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{shlex.join(words[2:])}: {' '.join(done.stderr.split())}")


def _take_back(folder: Path, *, there: bool, within: bool) -> None:
    """Remove what was written; a folder and a repository that were there before stay."""
    for path in list(folder.iterdir()) if there else [folder]:
        if path.is_dir() and not (within and path.name == ".git"):
            shutil.rmtree(path, ignore_errors=True)
        elif path.is_file():
            path.unlink()


def _commit(folder: Path, message: str) -> str:
    """Commit what was added; return why git did not, with the remedy, in a line, or nothing."""
    try:
        _git(folder, "commit", "--quiet", f"--message={message}")
    except ValueError as error:
        again = f"git -C {shlex.quote(str(folder))} commit --message=start"
        if not all(_git(folder, "var", f"GIT_{who}_IDENT", fails=True) for who in ("AUTHOR", "COMMITTER")):
            who = 'git config --global user.name "…" && git config --global user.email "…"'
            return f"git knows no user.name and user.email; tell it, and commit: {who} && {again}"
        return f"{error!s:.400}; mend that, and commit: {again}"
    return ""


def _git(folder: Path, *words: str, fails: bool = False) -> str:
    """Return what git says in a folder; nothing where it may fail and does."""
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode and not fails:
        said = " ".join((done.stderr or done.stdout).split())
        raise ValueError(f"git {words[0]}: {said or f'ended with exit code {done.returncode}, and said nothing'}")
    return "" if done.returncode else done.stdout
