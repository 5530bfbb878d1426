"""A copy of the project under git, in which a benchmark runs sweeps as a user does, and what a sweep leaves there."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("conf", "stages", "thaw", ".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore", "dvc.yaml")
ENVIRONMENT = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}


@contextmanager
def cold() -> Iterator[Path]:
    """Return a copy with nothing computed yet; it is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve() / "project"
        for part in PARTS:
            (copy / part).parent.mkdir(parents=True, exist_ok=True)
            source = ROOT / part
            shutil.copytree(source, copy / part) if source.is_dir() else shutil.copyfile(source, copy / part)
        run(copy, "python", "-m", "thaw.config", "--reset")
        run(copy, "git", "init", "--quiet", "--initial-branch=main")
        run(copy, "git", "add", ".")
        name = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@example.com")
        run(copy, "git", *name, "commit", "--quiet", "--message=start")
        yield copy


def run(folder: Path, *words: str) -> str:
    """Run a command and return what it prints."""
    done = subprocess.run(words, cwd=folder, env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{words}: expected it to end well, received\n{done.stdout}\n{done.stderr}")
    return done.stdout


def start(folder: Path, overrides: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a sweep in a process of its own."""
    words = [sys.executable, "-m", "thaw.sweep", *overrides]
    with (folder.parent / "sweep.log").open("a") as log:
        return subprocess.Popen(words, cwd=folder, env=os.environ | ENVIRONMENT, stdout=log, stderr=log)


def table(folder: Path) -> bytes:
    """Return the table of the one sweep that ran there."""
    (path,) = (folder / ".thaw" / "sweeps").glob("*/table.csv")
    return path.read_bytes()


def busy(folder: Path) -> list[psutil.Process]:
    """Return the processes that work in the copy."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def subset(data: Path, per_class: int, target: Path) -> Path:
    """Copy some images of each class; all of them where ``per_class`` is 0."""
    if not per_class:
        return data.resolve()
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        (target / folder.name).mkdir(parents=True)
        for image in sorted(folder.iterdir())[:per_class]:
            shutil.copy2(image, target / folder.name)
    return target.resolve()
