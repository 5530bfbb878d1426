"""Warn of splits that came with the images: what went elsewhere than it was given, and classes that a split lacks."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from thaw.data import placement
from thaw.data.packed import Rows
from thaw.data.placement import NUMBERS
from thaw.data.samples import Sample

NAMED = 5  # classes in a line


def warnings(
    samples: Rows[Sample], divided: Sequence[str], sources: Mapping[str, str], cells: NDArray[np.int64]
) -> Iterator[str]:
    """Yield what a person who gave splits should know, a line each.

    Args:
        samples: the images, with the splits that they came with.
        divided: the split of each in the end.
        sources: of each split: folder or drawn.
        cells: (splits and left out, classes), the number of images.
    """
    for split in placement.HELD_OUT:
        if sources[split] == "drawn":
            continue
        given = samples.columns["split"]
        if joined := sum(not came and place == split for came, place in zip(given, divided, strict=True)):
            yield (
                f"{joined:,} images without a split went to {split}, since they are one picture or of one group with "
                f"images that were given to {split}; give them a split of their own if that is wrong"
            )
    yield from _drawn_from_training(samples, divided)
    yield from _lacking(samples.columns["label"].values, cells)


def _drawn_from_training(samples: Rows[Sample], divided: Sequence[str]) -> Iterator[str]:
    """Say how many images were drawn though a table gives them to training; of a folder ``train`` that is expected."""
    given = samples.columns["split"]
    if all(given):
        return
    moved = [
        label
        for came, place, label in zip(given, divided, samples.columns["label"], strict=True)
        if came == "train" and place in placement.HELD_OUT
    ]
    if moved:
        yield (
            f"{len(moved):,} images that were given to train were drawn for validation or the test, since "
            f"{_named(set(moved))} had too few without a split to draw from; leave the split of more images empty, or "
            "give val and test images of these classes"
        )


def _lacking(classes: Sequence[str], cells: NDArray[np.int64]) -> Iterator[str]:
    """Say which classes a held-out split lacks; one that is drawn has all."""
    there = cells.sum(axis=0) > 0
    for split, use in (("val", "chooses the epoch"), ("test", "measures")):
        held = cells[NUMBERS[split]] > 0
        absent = [classes[kind] for kind in np.flatnonzero(there & ~held).tolist()]
        if not absent or not held.any():
            continue
        remedy = f"give {split} images of every class, or none: then it is drawn"
        if held.sum() == 1:
            yield (
                f"all {split} images are of one class, {classes[int(np.argmax(held))]}: a model that always says it "
                f"is right there, so how {split} {use} tells nothing; {remedy}"
            )
        else:
            yield f"{split} has no image of {_named(absent)}, so it {use} without them; {remedy}"


def _named(labels: Collection[str]) -> str:
    """Return the number of classes and the first of them."""
    kinds = "1 class" if len(labels) == 1 else f"{len(labels):,} classes"
    return f"{kinds} ({', '.join(sorted(labels)[:NAMED])}{', …' * (len(labels) > NAMED)})"
