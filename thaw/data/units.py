"""Units of independent images: near-duplicates and images of one group form one unit, also transitively.

What is counted by image and means independent images (intervals, tests, leaks) is counted by these.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from thaw import paths
from thaw.data import clusters

LEARNT_FROM = {"val": ("train",), "test": ("train", "val")}  # what a held-out image must have nothing in common with


def read(manifest: Sequence[Mapping[str, str]]) -> list[int]:
    """Return the unit of each row of the manifest, by a number.

    Args:
        manifest: rows with ``unit``, which ``prepare`` leaves empty for an image that is alone.
    """
    return clusters.joined(len(manifest), keys=[[row["unit"] for row in manifest]])


def leaked(units: Sequence[int], divided: Sequence[str]) -> list[bool]:
    """Return for each image whether it is held out and its unit has an image that was trained on or selected by.

    Args:
        units: of each image.
        divided: its split.
    """
    members = {split: {u for u, own in zip(units, divided, strict=True) if own == split} for split in ("train", "val")}
    return [
        any(unit in members[other] for other in LEARNT_FROM.get(split, ()))
        for unit, split in zip(units, divided, strict=True)
    ]


def leaks(units: Sequence[int], divided: Sequence[str]) -> dict[str, int]:
    """Return how many images of "val" and "test" are leaked."""
    held = [split for split, own in zip(divided, leaked(units, divided), strict=True) if own]
    return {split: held.count(split) for split in LEARNT_FROM}


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
