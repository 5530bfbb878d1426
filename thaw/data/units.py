"""Units of independent images: near-duplicates and images of one group form one unit, also transitively.

What is counted by image and means independent images (intervals, tests, leaks) is counted by these.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw import paths
from thaw.data import placement

FEW = 10  # units of a split below which its figures tell hardly anything
HELD_OUT = {"val": "choose an epoch or a model by", "test": "tell how good a model is"}
LEARNT_FROM = {"val": ("train",), "test": ("train", "val")}  # what a held-out image must have nothing in common with


def read(manifest: Sequence[Mapping[str, str]]) -> NDArray[np.int64]:
    """Return the unit of each row of the manifest, by the number of its first row: (rows,).

    Args:
        manifest: rows with ``unit``, which ``prepare`` leaves empty for an image that is alone.
    """
    from thaw.images import columns  # noqa: PLC0415 -- pyarrow takes half a second, which `thaw check` need not wait for

    codes, words = columns.of(manifest).codes("unit")
    found = np.arange(len(manifest), dtype=np.int64)
    first = np.full(len(words), len(manifest), np.int64)
    np.minimum.at(first, codes, found)
    together = codes != words.index("") if "" in words else np.ones(len(found), np.bool_)
    found[together] = first[codes[together]]
    return found


def leaked(units: Sequence[int] | NDArray[np.integer[Any]], divided: Sequence[str]) -> NDArray[np.bool_]:
    """Return for each image whether it is held out and its unit has an image that was trained on or selected by.

    Args:
        units: of each image.
        divided: its split.

    Returns:
        (images,)
    """
    own, placed = np.asarray(units), placement.splits(divided, none=placement.NUMBERS[placement.LEFT_OUT])
    found = np.zeros(len(own), np.bool_)
    for split, sources in LEARNT_FROM.items():
        learnt = np.isin(placed, [placement.NUMBERS[source] for source in sources])
        held = placed == placement.NUMBERS[split]
        found[held] = np.isin(own[held], own[learnt])
    return found


def leaks(units: Sequence[int] | NDArray[np.integer[Any]], divided: Sequence[str]) -> dict[str, int]:
    """Return how many images of "val" and "test" are leaked."""
    placed = placement.splits(divided, none=placement.NUMBERS[placement.LEFT_OUT])[leaked(units, divided)]
    return {split: int((placed == placement.NUMBERS[split]).sum()) for split in LEARNT_FROM}


def warning(found: Mapping[str, int], divided: Sequence[str]) -> str:
    """Return the warning about leaks, a sentence without its end; empty if there are none.

    Args:
        found: from ``leaks``.
        divided: the split of each image.
    """
    counts = Counter(divided)
    said = [f"{count:,} of {counts[split]:,} {split} images" for split, count in found.items() if count]
    learnt = "training or validation" if found["test"] else "training"
    alike = f"are copies or near-duplicates of {learnt} images, or of a group with them"
    return f"leaks: {' and '.join(said)} {alike}; {paths.LEAKS} lists pairs" if said else ""


def few(units: Sequence[int] | NDArray[np.integer[Any]], divided: Sequence[str]) -> list[str]:
    """Return a warning for each held-out split that has fewer than ``FEW`` units, a sentence without its end.

    Args:
        units: of each image.
        divided: its split.
    """
    own, placed = np.asarray(units), placement.splits(divided, none=placement.NUMBERS[placement.LEFT_OUT])
    said = []
    for split, serves in HELD_OUT.items():
        count = len(np.unique(own[placed == placement.NUMBERS[split]]))
        if count < FEW:
            said.append(
                f"{split} has {count} independent image{'' if count == 1 else 's'} or groups of images that belong "
                f"together, too few to {serves}; add images, or raise data.{split} if splits are drawn"
            )
    return said
