"""What evaluation has in hand of the three splits: labels, units, leaks, and what the phases left of their images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw import paths
from thaw.data import units
from thaw.images import columns


@dataclass
class Split:
    """The images of a split, in the manifest's order."""

    labels: NDArray[np.integer[Any]]  # (images,)
    units: NDArray[np.integer[Any]]  # (images,) equal numbers for images that are not independent
    leaked: NDArray[np.bool_]  # (images,) whether a unit's images were learnt from or selected by

    @property
    def clean(self) -> NDArray[np.bool_]:
        """Which images to fit or measure by, (images,): those that are not leaked; all where each is."""
        return np.ones_like(self.leaked) if self.leaked.all() else ~self.leaked


def read(rows: Sequence[Mapping[str, str]], classes: Sequence[str]) -> dict[str, Split]:
    """Return each split.

    Args:
        rows: of the manifest.
        classes: names; a label is an index into them.
    """
    table, every = columns.of(rows), units.read(rows)
    number = {name: index for index, name in enumerate(classes)}
    codes, names = table.codes("label")
    labels = np.array([number.get(name, -1) for name in names], np.int64)[codes]
    found: dict[str, Split] = {}
    for split in paths.SPLITS:
        own = table.are("split", split)
        learnt = [found[other].units for other in units.LEARNT_FROM.get(split, ())]
        leaked = np.isin(every[own], np.concatenate(learnt)) if learnt else np.zeros(int(own.sum()), np.bool_)
        found[split] = Split(labels[own], every[own], leaked)
    return found


def warning(rows: Sequence[Mapping[str, str]], found: Mapping[str, Split]) -> str:
    """Return the warning about leaks, empty where there are none."""
    leaks = {split: int(found[split].leaked.sum()) for split in units.LEARNT_FROM}
    return units.warning(leaks, columns.of(rows).strings("split"))


def source(phase: str) -> Path:
    """Return the folder of the phase whose model this is: where phase 2 unfroze nothing, phase 1's."""
    folder = paths.PHASES[phase]
    return folder if paths.validation(folder).is_file() else paths.PHASE1


def embedded(folder: Path, split: str) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """Return the embeddings that a phase left, (n, channels), and the places of their images in the split."""
    with np.load(paths.embeddings(folder, split), allow_pickle=False) as kept:
        return kept["rows"], kept["images"]
