"""Find images whose label is probably wrong: confident learning on out-of-fold probabilities.

Confident learning (Northcutt, Jiang & Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR
2021; the library cleanlab) compares labels with what a model says of images that it was not trained on. Training
images get their probabilities from ``thaw.features.out_of_fold``, validation images from the trained head. Nothing is
ever done about a suspect but showing it to a person.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from cleanlab.experimental.label_issues_batched import LabelInspector
from cleanlab.filter import find_label_issues
from numpy.typing import NDArray

from thaw import paths, records

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


class Images(Protocol):
    """The part of a split's images that is needed here."""

    names: Sequence[str]
    labels: Labels


# Probabilities in memory, of which cleanlab makes several copies of 8 bytes each; and pairs of classes, counted by it.
AT_ONCE = 20_000_000
PART = 4_000_000  # probabilities of a part, where not all are in memory

COLUMNS = ("path", "split", "label", "suggested", "label_probability", "suggested_probability")


def suspects(
    split: str, names: Sequence[str], labels: Labels, probabilities: Floats, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Find the images of a split whose label is probably wrong.

    Args:
        split: its name.
        names: the images' paths.
        labels: (n,) indices into ``classes``.
        probabilities: (n, classes) from models that were not trained on the image.
        classes: names.

    Returns:
        Rows under ``COLUMNS``, in no particular order; see ``ranked``.
    """
    if len(labels) == 0:
        return []
    # cleanlab wants every class among the labels, and takes those that are there for all.
    present, compact = np.unique(labels, return_inverse=True)

    def shares(some: slice) -> Floats:
        of_present: NDArray[np.float64] = np.asarray(probabilities[some], np.float64)[:, present]
        of_present /= of_present.sum(axis=1, keepdims=True)
        return of_present

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of small classes, in which it finds little
        found = (
            find_label_issues(compact, shares(slice(None)), return_indices_ranked_by="self_confidence", n_jobs=1)
            if max(len(labels), len(present)) * len(present) <= AT_ONCE
            else _in_parts(compact, shares, len(present))
        )
    rows = []
    for index in found:
        own, likeliest = int(labels[index]), int(np.argmax(probabilities[index]))
        if probabilities[index, likeliest] > probabilities[index, own]:
            row = {"path": names[index], "split": split, "label": classes[own], "suggested": classes[likeliest]}
            row["label_probability"] = round(float(probabilities[index, own]), 4)
            row["suggested_probability"] = round(float(probabilities[index, likeliest]), 4)
            rows.append(row)
    return rows


def _in_parts(labels: Labels, shares: Callable[[slice], Floats], classes: int) -> Labels:
    """Find the suspects by cleanlab's way for tables that don't fit the memory, which reads them part by part.

    It takes as many of the least probable labels as there are images that are surely of another class; at once, it
    counts them for each two classes.
    """
    inspector = LabelInspector(num_class=classes, verbose=False)
    size = max(1, min(PART, AT_ONCE) // classes)
    parts = [slice(first, first + size) for first in range(0, len(labels), size)]
    for part in parts:
        inspector.update_confident_thresholds(labels[part], shares(part))
    for part in parts:
        inspector.score_label_quality(labels[part], shares(part))
    found: Labels = inspector.get_label_issues()
    return found


def record(classes: Sequence[str], splits: Mapping[str, Images]) -> list[dict[str, Any]]:
    """Find the suspects and write them, the most suspect first.

    Args:
        classes: names.
        splits: the images of training and validation, whose probabilities phase 1 wrote.
    """
    found: list[dict[str, Any]] = []
    for split, images in splits.items():
        unseen = np.load(paths.out_of_sample(split), mmap_mode="r", allow_pickle=False)
        found += suspects(split, images.names, images.labels, unseen, classes)
    rows = ranked(found)
    records.write_csv(paths.SUSPECTS, COLUMNS, rows)
    return rows


def ranked(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort the most suspect first: those whose own label is the least probable."""
    return sorted(rows, key=lambda row: (row["label_probability"], -row["suggested_probability"], row["path"]))
