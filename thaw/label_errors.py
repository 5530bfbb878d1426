"""Images whose label is suspected to be wrong: confident learning on probabilities from outside the training.

Confident learning (Northcutt, Jiang & Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR
2021; the library cleanlab) compares labels with what a model says of images that it was not trained on. Training
images get their probabilities from ``thaw.out_of_sample``, validation images from the trained head. Nothing is ever
done about a suspect but showing it to a person.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from cleanlab.filter import find_label_issues
from numpy.typing import NDArray

from thaw import layout, records

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


class Images(Protocol):
    """What is needed of a split's images."""

    names: list[str]
    labels: Labels


COLUMNS = ("path", "split", "label", "suggested", "label_probability", "suggested_probability")


def suspects(
    split: str, names: Sequence[str], labels: Labels, probabilities: Floats, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """The images of a split whose label is probably wrong.

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
    shares = np.asarray(probabilities, np.float64)[:, present]
    shares /= shares.sum(axis=1, keepdims=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of small classes, in which it finds little
        found = find_label_issues(compact, shares, return_indices_ranked_by="self_confidence", n_jobs=1)
    rows = []
    for index in found:
        own, likeliest = int(labels[index]), int(np.argmax(probabilities[index]))
        if probabilities[index, likeliest] > probabilities[index, own]:
            row = {"path": names[index], "split": split, "label": classes[own], "suggested": classes[likeliest]}
            row["label_probability"] = round(float(probabilities[index, own]), 4)
            row["suggested_probability"] = round(float(probabilities[index, likeliest]), 4)
            rows.append(row)
    return rows


def record(classes: Sequence[str], splits: Mapping[str, Images]) -> list[dict[str, Any]]:
    """Find the suspects and write them, the most suspect first.

    Args:
        classes: names.
        splits: the images of training and validation, whose probabilities phase 1 wrote.
    """
    found: list[dict[str, Any]] = []
    for split, images in splits.items():
        unseen = np.load(layout.out_of_sample(split), allow_pickle=False)
        found += suspects(split, images.names, images.labels, unseen, classes)
    rows = ranked(found)
    records.write_csv(layout.SUSPECTS, COLUMNS, rows)
    return rows


def ranked(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The most suspect first: those whose own label is the least probable."""
    return sorted(rows, key=lambda row: (row["label_probability"], -row["suggested_probability"], row["path"]))
