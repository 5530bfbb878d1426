"""What a stage that was killed leaves to the next run: where it lies, and by what it is known.

It lies beside the activation cache, outside of what DVC deletes before a stage. Its name has the hash of the stage's
inputs, so a changed input finds none, and it goes when the stage has come to its end.
"""

import shutil
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from thaw import console, paths, records
from thaw.runtime import threads
from thaw.tracking import lineage

DAYS = 7  # after which that of an experiment is removed: nobody has gone on with it
SECONDS = 10.0  # of work after which rows are kept
DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def place(stage: str, ending: str = "", *more: Any) -> Path:
    """Return the path for what a stage with the inputs that it has now leaves, and remove those of other inputs.

    An isolated experiment works in a copy that is deleted after it, so what it leaves lies in the project that it came
    from. There each goes after a week.

    Args:
        stage: as dvc.yaml calls it.
        ending: of a file's name; empty: it is a folder.
        more: what else its result depends on, as JSON-able values.
    """
    from thaw.runtime import devices  # noqa: PLC0415 -- seconds, for TensorFlow

    folder = paths.main_root() / paths.CHECKPOINTS
    is_copy = paths.main_root() != Path.cwd().resolve()
    if is_copy:
        folder /= "experiments"
    here = {"threads": threads.used(), "device": devices.record(), "more": more}
    path = folder / f"{stage}-{lineage.key({**lineage.inputs(stage), 'here': here})}{ending}"
    for other in folder.glob(f"{stage}-*"):
        with suppress(FileNotFoundError):
            if other != path and (not is_copy or time.time() - other.stat().st_mtime > DAYS * 86400):
                shutil.rmtree(other) if other.is_dir() else other.unlink()
    return path


@contextmanager
def results(stage: str, *more: Any) -> Iterator[Path]:
    """Give a folder for what a stage has done, with what an unfinished run of the same inputs has left in it.

    It is removed if the stage comes to its end, and stays if an error or a kill ends it.
    """
    folder = place(stage, "", *more)
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)  # another experiment of the same inputs may have come to its end first


def rows(
    folder: Path | None,
    name: str,
    compute: Callable[[int], Iterable[Mapping[str, np.ndarray]]],
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, np.ndarray]:
    """Return the rows that are computed batch by batch, those that were kept and the rest.

    Args:
        folder: of ``results``; None: nothing is kept.
        name: of the rows in it.
        compute: from the number of rows that are there to the batches that follow: arrays by name, equally long.
        clock: seconds.

    Returns:
        Arrays by name, (rows, ...).
    """
    found = _kept(folder, name) if folder else []
    start, last = _count(found), clock()
    waiting: list[dict[str, np.ndarray]] = []

    def keep() -> None:
        nonlocal folder, start, last
        part = _joined(waiting)
        if folder:
            try:
                records.write_arrays(folder / f"{name}-{start:012}.npz", **part)
            except OSError as error:  # the work is worth more than that it need not be done again
                console.warn(f"{folder.name}: nothing more is kept for a run that goes on ({error})")
                folder = None
        found.append(part)
        waiting.clear()
        start, last = start + _count([part]), clock()

    for batch in compute(start):
        waiting.append(dict(batch))
        if clock() - last >= SECONDS:
            keep()
    if waiting:
        keep()
    return _joined(found)


def _kept(folder: Path, name: str) -> list[dict[str, np.ndarray]]:
    """Return the parts that follow each other from the first row; what comes after a damaged one is removed."""
    found: list[dict[str, np.ndarray]] = []
    for file in sorted(folder.glob(f"{name}-*.npz")):
        try:
            if int(file.stem.rpartition("-")[2]) != _count(found):
                raise ValueError("the part before it is missing")
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as kept:
                found.append({each: kept[each] for each in kept.files})
        except DAMAGE as error:
            console.warn(f"{file.name} is damaged ({' '.join(str(error).split()):.120}); it is computed again")
            file.unlink(missing_ok=True)
    return found


def _count(parts: Sequence[Mapping[str, np.ndarray]]) -> int:
    return sum(len(next(iter(part.values()))) for part in parts)


def _joined(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Join arrays by name, each taken out of its part then, so that only one of them is in memory twice."""
    return {name: np.concatenate([part.pop(name) for part in parts]) for name in (list(parts[0]) if parts else ())}
