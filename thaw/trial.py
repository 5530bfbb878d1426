"""One trial of a sweep: a DVC experiment in a copy of the project, its name, its run and what is left of it.

A trial that is finished, with the same configuration, code and images, is found under its name and not run again.
"""

import hashlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from thaw import config, layout

# A trial ends here: the test set is for the one trial that is chosen in the end, not for choosing.
TARGET = "phase2_finetune"
GRACE = 60  # seconds that DVC has to put things in order after Ctrl-C before it is killed
NAME_LENGTH = 150  # characters of a name's readable part; a file system takes 255 in all


def trial_name(overrides: Sequence[str], values: dict[str, Any]) -> str:
    """A name for people and for git: the same for the same trial, another for another.

    Args:
        overrides: in Hydra's grammar; the readable part.
        values: the whole configuration. The digest at the end covers it, the code and the state of the images.
    """
    readable = re.sub(r"[^\w.=,+-]+", "_", ",".join(overrides))
    readable = re.sub(r"\.{2,}", ".", readable).lstrip("+-.")[:NAME_LENGTH]
    kept = {key: value for key, value in values.items() if key not in config.UNTRACKED and key != "compiled_from"}
    total = hashlib.sha256(json.dumps(kept, sort_keys=True).encode())
    for path in sorted([Path("dvc.yaml"), *Path("thaw").glob("*.py"), *Path("stages").glob("*.py")]):
        total.update(path.as_posix().encode() + path.read_bytes())
    raw = Path(values["data"]["raw"])
    # Sizes and times stand for the bytes; where they change for nothing, DVC is asked, and it reads the bytes.
    for path in sorted([raw] if raw.is_file() else raw.rglob("*") if raw != layout.SAMPLE else ()):
        if path.is_file():
            state = path.stat()
            total.update(f"{path.as_posix()} {state.st_size} {state.st_mtime_ns}\n".encode())
    return f"{readable}-{total.hexdigest()[:8]}"


def finished(name: str) -> tuple[str, dict[str, Any]] | None:
    """The experiment of the same trial on the current commit, also if another sweep named it, and its figures.

    Where nothing is thawed, phase 2 has no validation figures of its own: its model is phase 1's, and so are they.
    """
    commit, digest = head(), name.rsplit("-", 1)[1]
    pattern = f"refs/exps/{commit[:2]}/{commit[2:]}/*-{digest}"
    for ref in _git("for-each-ref", "--format=%(refname)", pattern).split():
        phase1, phase2 = (_git("show", f"{ref}:./{layout.metrics(of).as_posix()}") for of in ("phase1_head", TARGET))
        if phase1 and phase2:
            return ref.rsplit("/", 1)[1], json.loads(phase1) | json.loads(phase2)
    return None


def head() -> str:
    """The current commit, to which DVC ties experiments.

    Raises:
        ValueError: there is none.
    """
    if commit := _git("rev-parse", "--verify", "HEAD").strip():
        return commit
    raise ValueError("expected a git repository with a commit, which experiments need; commit the project first")


def check_images_travel(raw: Path) -> None:
    """A trial's copy of the project holds what git or DVC know, and no more.

    Raises:
        ValueError: the images are not among it.
    """
    if raw == layout.SAMPLE or raw.is_absolute() or any(Path(f"{path}.dvc").is_file() for path in (raw, *raw.parents)):
        return
    if not _git("ls-files", "--", str(raw)):
        raise ValueError(
            f"data.raw: expected {raw} to be known to DVC or git, so that a trial's copy of the project gets it; "
            f"run `dvc add {raw}`, then `git add {raw}.dvc`"
        )


def _git(*words: str) -> str:
    """What git says; nothing if it fails."""
    done = subprocess.run(["git", *words], capture_output=True, text=True, encoding="utf-8", check=False)
    return "" if done.returncode else done.stdout


def run(name: str, overrides: Sequence[str], log: Path) -> str:
    """Run one trial in a temporary copy of the project.

    Args:
        log: gets all that DVC and the stages say.

    Returns:
        Why it failed, one line; empty if it did not.
    """
    words = [sys.executable, "-m", "dvc", "--wait-for-lock", "exp", "run", "--temp", "--name", name]
    words += [word for override in overrides for word in ("-S", override)]
    # The `python` of the stages must be this one, also if its environment is not activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with log.open("w", encoding="utf-8") as file:
        # A session of its own: a stop reaches DVC, its stage and what that has started, once and together.
        process = subprocess.Popen(
            [*words, TARGET],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PATH": path},
            start_new_session=True,
        )
        try:
            failed = process.wait() != 0
        finally:
            _stop(process)
    return reason(log.read_text(encoding="utf-8", errors="replace")) if failed else ""


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C to a trial that still runs and all it has started, so that DVC gives back its locks."""
    if process.poll() is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(GRACE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def reason(log: str) -> str:
    """The line of a failed trial's log that says why: a stage's own message stands before DVC's."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    for before, line in itertools.pairwise(["", *lines]):
        if line.startswith("ERROR: "):
            of_stage = "failed to run:" in line and before and not before.startswith(">")
            return before if of_stage else line.removeprefix("ERROR: ")
    return lines[-1] if lines else "it ended without a word"
