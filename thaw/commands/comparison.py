"""Compare two files that a stage has made: by their bytes, and else by the figures in them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from thaw import records
from thaw.tracking import lineage

# BYTES is of pictures, pages and deployed models: their figures lie in files beside them, which are compared.
SAME, NEAR, BYTES, OTHER = "same bytes", "same figures", "other bytes", "different"
TOLERANCE = 1e-3  # of figures that other threads, processors or a GPU add up in another order
HARDWARE = ("device", "threads", "precision")  # what a record says of the machine, and is no result


@dataclass(frozen=True)
class Finding:
    """What became of one file."""

    stage: str
    path: str
    verdict: str  # SAME, NEAR, BYTES or OTHER
    note: str = ""


def compare(stage: str, project: Path, copy: Path, path: Path, tolerance: float) -> Finding:
    """Return what became of a file of a stage in two folders; figures may differ by ``tolerance``."""
    old, new = project / path, copy / path
    if not (old.is_file() and new.is_file()):
        return Finding(stage, path.as_posix(), OTHER, "gone" if old.is_file() else "new")
    if records.sha256(old) == records.sha256(new):
        return Finding(stage, path.as_posix(), SAME)
    if path.suffix not in READ:
        return Finding(stage, path.as_posix(), BYTES, "of a kind that has no figures")
    try:
        largest = difference(old, new)
    except (ValueError, OSError, KeyError) as error:
        return Finding(stage, path.as_posix(), OTHER, f"{error}")
    verdict = NEAR if largest <= tolerance else OTHER
    return Finding(stage, path.as_posix(), verdict, f"differs by {largest:.2g} at most")


def difference(old: Path, new: Path) -> float:
    """Return the largest absolute difference of the figures of two files.

    Raises:
        ValueError: what is no figure differs.
    """
    one, two = (READ[path.suffix](path) for path in (old, new))
    if one.keys() != two.keys():
        raise ValueError("other rows or fields")
    return max((_apart(name, one[name], two[name]) for name in one), default=0.0)


def _apart(name: Any, one: Any, two: Any) -> float:
    try:
        numbers = [np.asarray(each, np.float64) for each in (one, two)]
    except (ValueError, TypeError):
        numbers = []
    if len(numbers) == 2 and numbers[0].shape == numbers[1].shape:
        gaps = np.abs(numbers[0] - numbers[1])
        return float(np.where(numbers[0] == numbers[1], 0, gaps).max(initial=0.0))
    if "sha256" in str(name) or np.array_equal(one, two):  # of a file that is compared itself
        return 0.0
    raise ValueError(f"{name}: {one} → {two}"[:200])


def _mapping(value: Any) -> dict[str, Any]:
    """Return lists within a record as mappings by number."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    return {str(name): _mapping(each) if isinstance(each, dict | list) else each for name, each in pairs}


def _record(path: Path) -> dict[str, Any]:
    leaves = lineage.leaves(_mapping(records.read_json(path)))
    return {".".join(name): value for name, value in leaves if name[0] not in HARDWARE}


def _table(path: Path) -> dict[str, Any]:
    rows = enumerate(records.read_csv(path))
    return {f"{number}.{name}": cell for number, row in rows for name, cell in row.items()}


def _array(path: Path) -> dict[str, Any]:
    found = np.load(path, allow_pickle=False)
    return {"": found} if isinstance(found, np.ndarray) else dict(found)


def _weights(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


READ = {".json": _record, ".csv": _table, ".npy": _array, ".npz": _array, ".h5": _weights}
