"""What evaluation has in hand of the three splits: labels, units, leaks, and what the phases left of their images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw import paths
from thaw.data import units


@dataclass
class Split:
    """The images of a split, in the manifest's order."""

    labels: NDArray[np.integer[Any]]  # (images,)
    units: NDArray[np.integer[Any]]  # (images,) equal numbers for images that are not independent
    leaked: NDArray[np.bool_]  # (images,) whether a unit's images were learnt from or selected by


def read(rows: Sequence[Mapping[str, str]], classes: Sequence[str]) -> dict[str, Split]:
    """Return each split.

    Args:
        rows: of the manifest.
        classes: names; a label is an index into them.
    """
    number = {name: index for index, name in enumerate(classes)}
    divided, every = [row["split"] for row in rows], units.read(rows)
    leaked = np.array(units.leaked(every, divided), bool)
    found = {}
    for split in paths.SPLITS:
        places = [place for place, own in enumerate(divided) if own == split]
        labels = np.array([number[rows[place]["label"]] for place in places], np.int64)
        found[split] = Split(labels, np.array([every[place] for place in places], np.int64), leaked[places])
    return found


def warning(rows: Sequence[Mapping[str, str]], found: Mapping[str, Split]) -> str:
    """Return the warning about leaks, empty where there are none."""
    leaks = {split: int(found[split].leaked.sum()) for split in units.LEARNT_FROM}
    return units.warning(leaks, [row["split"] for row in rows])


def source(phase: str) -> Path:
    """Return the folder of the phase whose model this is: where phase 2 unfroze nothing, phase 1's."""
    folder = paths.PHASES[phase]
    return folder if paths.validation(folder).is_file() else paths.PHASE1


def embedded(folder: Path, split: str) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """Return the embeddings that a phase left, (n, channels), and the places of their images in the split."""
    with np.load(paths.embeddings(folder, split), allow_pickle=False) as kept:
        return kept["rows"], kept["images"]
