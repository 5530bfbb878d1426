"""The file of a checkpoint: the state of a training between two steps, from which ``thaw.training.resume`` goes on.

It lies where ``thaw.tracking.unfinished`` says. It is written beside and put in place at once. There is no pickle in
it.
"""

import io
import json
import os
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from thaw import console, paths
from thaw.runtime import workers
from thaw.tracking import unfinished

FORMAT = 1  # of the file; a new number makes old ones unknown
DAMAGE = (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error)


@dataclass
class State:
    """A training between two steps."""

    epoch: int = 0  # epochs that are done
    step: int = 0  # steps of the next one that are done
    ended: bool = False  # nothing is left to train
    elapsed: float = 0.0  # seconds of training
    rows: list[dict[str, float]] = field(default_factory=list)  # of the history
    callbacks: dict[str, dict[str, Any]] = field(default_factory=dict)  # what is plain of each, by its class
    arrays: dict[str, list[np.ndarray]] = field(default_factory=dict)  # by what they are of; empty: nothing was done


def place(stage: str, *more: Any) -> Path:
    """Return the file of the checkpoint of a stage with the inputs that it has now, and remove those of other inputs.

    Args:
        stage: as dvc.yaml calls it.
        more: what else its result depends on, as JSON-able values.

    Returns:
        Of workers that share a training only the first has one; another gets a name that nothing has.
    """
    if not workers.here().is_chief:
        return paths.CHECKPOINTS / f"{stage}-of-the-first-worker.npz"
    return unfinished.place(stage, ".npz", FORMAT, *more)


def read(file: Path | None) -> State:
    """Return what a checkpoint holds, or the state before the first step.

    A file that is not as it was written is left aside, and that is said.
    """
    try:
        return _state(file.read_bytes(), file.name) if file and file.is_file() else State()
    except OSError as error:
        return _damaged(file.name if file else "", error)


def shared(file: Path | None) -> State:
    """Return what the checkpoint of the first worker holds; all workers must call it."""
    data = b""
    with suppress(OSError):
        data = file.read_bytes() if file and file.is_file() else b""
    data = workers.from_chief(data)
    return _state(data, file.name if file else "of the first worker") if data else State()


def _state(data: bytes, name: str) -> State:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as kept:
            plain = json.loads(kept["plain"].tobytes())
            counts = plain.pop("counts")
            arrays = {name: [kept[f"{name}/{number}"] for number in range(count)] for name, count in counts.items()}
        return State(**plain, arrays=arrays)
    except DAMAGE as error:
        return _damaged(name, error)


def _damaged(name: str, error: Exception) -> State:
    what = " ".join(f"{type(error).__name__}: {error}".split())
    console.warn(f"the checkpoint {name} is damaged ({what:.120}); training starts from the beginning")
    return State()


def write(file: Path, state: State) -> None:
    """Write a checkpoint, as a whole or not at all, so that it is there after a loss of power too.

    Raises:
        OSError: the disk is full.
    """
    plain = {name: value for name, value in vars(state).items() if name != "arrays"}
    plain["counts"] = {name: len(values) for name, values in state.arrays.items()}
    flat = {f"{name}/{number}": value for name, values in state.arrays.items() for number, value in enumerate(values)}
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as opened:
            np.savez(opened, allow_pickle=False, plain=np.frombuffer(json.dumps(plain).encode(), np.uint8), **flat)
            opened.flush()
            os.fsync(opened.fileno())
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
