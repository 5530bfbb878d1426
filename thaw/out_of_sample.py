"""What is said of each training image by a model that was fitted without it, in seconds and flat memory.

The model is a ridge regression of the classes on phase 1's pooled features. All it needs of the images are sums over
them, so one pass adds up the sums of each fold, and a fold's model is solved from those of the others.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]
Rows = Callable[[NDArray[np.int64]], Floats]  # (b,) images → (b, channels) features

FOLDS = 5
CHUNK = 1024  # images in memory at once
# What scores are multiplied by before they become probabilities; the likeliest is taken.
SHARPNESS = np.geomspace(0.5, 50, 100)


def probabilities(
    rows: Rows, labels: Labels, classes: int, seed: int, units: Sequence[str] = ()
) -> NDArray[np.float32]:
    """Cross-validated probabilities.

    Args:
        rows: gives the features of some images.
        labels: (n,) indices of classes.
        classes: how many there are.
        seed: of the division into ``FOLDS`` parts, each of which is left out once.
        units: a word for each image; those with the same word are left out together, an empty one is alone. A copy in
            another part would know the label, also where it is wrong.

    Returns:
        (n, classes), rows that sum to 1. Where all images of a class are left out together, they are equal: of a class
        that a model has not seen it can say nothing.
    """
    count = len(labels)
    fold = _folds(labels, units, seed)
    models = _models(rows, labels, classes, fold)
    scores = np.zeros((count, classes))
    for chunk in _chunks(count):
        features = rows(chunk)
        for number, (weights, offset) in enumerate(models):
            out = fold[chunk] == number
            scores[chunk[out]] = features[out] @ weights + offset
    _, each, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    together = np.unique(each * FOLDS + fold, return_counts=True)
    unseen = np.isin(each * FOLDS + fold, together[0][together[1] == sizes[together[0] // FOLDS]])
    if unseen.all():
        return np.full((count, classes), 1 / classes, np.float32)
    losses = [
        -np.log(softmax(scores * scale)[np.arange(count), labels] + 1e-12)[~unseen].mean() for scale in SHARPNESS
    ]
    found = softmax(scores * SHARPNESS[int(np.argmin(losses))]).astype(np.float32)
    found[unseen] = 1 / classes
    return found


def _folds(labels: Labels, units: Sequence[str], seed: int) -> NDArray[np.int64]:
    """The part that each image is in, (n,): units whole, every class spread evenly, the largest units first."""
    count = len(labels)
    numbers = {word: number for number, word in enumerate(dict.fromkeys(units), start=count) if word}
    unit = np.array([numbers.get(word, index) for index, word in enumerate(units or [""] * count)], np.int64)
    _, unit, sizes = np.unique(unit, return_inverse=True, return_counts=True)
    shuffled = np.random.default_rng(seed).permutation(count)
    first = shuffled[np.sort(np.unique(unit[shuffled], return_index=True)[1])]  # of each unit one, in a drawn order
    ordered = first[np.lexsort((-sizes[unit[first]], labels[first]))]
    fold = np.empty(len(first), np.int64)
    fold[unit[ordered]] = np.arange(len(first)) % FOLDS
    return fold[unit]


def _models(
    rows: Rows, labels: Labels, classes: int, fold: NDArray[np.int64]
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """For each fold weights (channels, classes) and offset (classes,), fitted to all images but its own."""
    channels = rows(np.arange(1)).shape[1]
    # Of each fold: images, sum of the features, of their products with each other, of the labels, of both's products.
    sizes, sums = np.zeros(FOLDS), np.zeros((FOLDS, channels))
    squares, targets = np.zeros((FOLDS, channels, channels)), np.zeros((FOLDS, classes))
    products = np.zeros((FOLDS, channels, classes))
    for chunk in _chunks(len(labels)):
        features, wanted = rows(chunk), np.eye(classes, dtype=np.float32)[labels[chunk]]
        for number in range(FOLDS):
            of = fold[chunk] == number
            part, given = features[of], wanted[of]
            sizes[number] += len(part)
            sums[number] += part.sum(axis=0)
            squares[number] += part.T @ part
            targets[number] += given.sum(axis=0)
            products[number] += part.T @ given
    mean = sums.sum(axis=0) / sizes.sum()
    spread = np.sqrt(np.maximum(np.diagonal(squares.sum(axis=0)) / sizes.sum() - mean**2, 0)) + 1e-6
    whole, models = squares.sum(axis=0), []
    for number in range(FOLDS):
        others = np.arange(FOLDS) != number
        size = max(sizes[others].sum(), 1)
        centre, share = sums[others].sum(axis=0) / size, targets[others].sum(axis=0) / size
        within = (whole - squares[number] - size * np.outer(centre, centre)) / np.outer(spread, spread)
        along = (products[others].sum(axis=0) - size * np.outer(centre, share)) / spread[:, None]
        # A prior as strong as an image a channel: weak among many images, and enough among few.
        within[np.diag_indices(channels)] += channels
        weights = np.linalg.solve(within, along) / spread[:, None]
        models.append((weights, share - centre @ weights))
    return models


def _chunks(count: int, size: int = 0) -> Iterator[NDArray[np.int64]]:
    size = size or CHUNK
    for first in range(0, count, size):
        yield np.arange(first, min(first + size, count))


def trained(rows: Rows, count: int, head: Callable[[Floats], Any], size: int = 0) -> NDArray[np.float32]:
    """What a trained head says of images that it was not trained on: (count, classes), rows that sum to 1.

    Args:
        size: images at once; 0: ``CHUNK``, which suits a head alone.
    """
    return np.concatenate([softmax(np.asarray(head(rows(some)))).astype(np.float32) for some in _chunks(count, size)])


def softmax(scores: Floats) -> NDArray[np.float64]:
    """Scores (n, classes) → probabilities."""
    powers: NDArray[np.float64] = np.exp(scores - scores.max(axis=1, keepdims=True), dtype=np.float64)
    powers /= powers.sum(axis=1, keepdims=True)
    return powers
