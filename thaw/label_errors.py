"""Images whose label is suspected to be wrong: confident learning on probabilities from outside the training.

Confident learning (Northcutt, Jiang & Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR
2021; the library cleanlab) compares labels with what a model says of images that it was not trained on. Training
images get their probabilities from a ridge regression of the classes on phase 1's pooled features, which is fitted in
seconds and leaves each image out once; validation images get theirs from the trained head. Nothing is ever done about
a suspect but showing it to a person.
"""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from cleanlab.filter import find_label_issues
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from thaw import layout, records

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


class Images(Protocol):
    """What is needed of a split's images."""

    names: list[str]
    labels: Labels


COLUMNS = ("path", "split", "label", "suggested", "label_probability", "suggested_probability")
FOLDS = 5
# What scores are multiplied by before they become probabilities; the likeliest is taken.
SHARPNESS = np.geomspace(0.5, 50, 100)


def cross_validated(features: Floats, labels: Labels, classes: int, seed: int) -> NDArray[np.float64]:
    """What is said of each image by a model that was fitted without it.

    Args:
        features: (n, channels), one row an image.
        labels: (n,) indices of classes.
        classes: how many there are.
        seed: of the division into ``FOLDS`` parts, each of which is left out once.

    Returns:
        (n, classes), rows that sum to 1.
    """
    count, channels = features.shape
    rows = np.asarray(features, np.float32)
    rows = (rows - rows.mean(0)) / (rows.std(0) + 1e-6)
    wanted = np.eye(classes, dtype=np.float32)[labels]
    shuffled = np.random.default_rng(seed).permutation(count)
    fold = np.empty(count, np.int64)
    fold[shuffled[np.argsort(labels[shuffled], kind="stable")]] = np.arange(count) % FOLDS  # stratified
    scores = np.zeros((count, classes))
    for number in range(FOLDS):
        out = fold == number
        if out.any() and not out.all():
            # A prior as strong as an image a channel: weak among many images, and enough among few.
            model = Ridge(alpha=float(channels), solver="cholesky").fit(rows[~out], wanted[~out])
            scores[out] = model.predict(rows[out])
    losses = [-np.log(softmax(scores * scale)[np.arange(count), labels] + 1e-12).mean() for scale in SHARPNESS]
    return softmax(scores * SHARPNESS[int(np.argmin(losses))])


def softmax(scores: Floats) -> NDArray[np.float64]:
    """Scores (n, classes) → probabilities."""
    powers: NDArray[np.float64] = np.exp(scores - scores.max(axis=1, keepdims=True), dtype=np.float64)
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


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
        if own != likeliest:
            row = {"path": names[index], "split": split, "label": classes[own], "suggested": classes[likeliest]}
            row["label_probability"] = round(float(probabilities[index, own]), 4)
            row["suggested_probability"] = round(float(probabilities[index, likeliest]), 4)
            rows.append(row)
    return rows


def record(
    classes: Sequence[str], train: Images, features: Floats, val: Images, scores: Floats, seed: int
) -> list[dict[str, Any]]:
    """Find the suspects of training and validation and write them, the most suspect first.

    Args:
        classes: names.
        train: the training images, and
        features: of each one (channels,), its pooled features without augmentation.
        val: the validation images, and
        scores: of each one (classes,), what the trained head says of it, before the softmax.
        seed: see ``cross_validated``.
    """
    unseen = cross_validated(features, train.labels, len(classes), seed)
    found = suspects("train", train.names, train.labels, unseen, classes)
    found += suspects("val", val.names, val.labels, softmax(scores), classes)
    rows = ranked(found)
    records.write_csv(layout.SUSPECTS, COLUMNS, rows)
    return rows


def ranked(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The most suspect first: those whose own label is the least probable."""
    return sorted(rows, key=lambda row: (row["label_probability"], -row["suggested_probability"], row["path"]))
