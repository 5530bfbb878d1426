"""What is said of each training image by a model that was fitted without it, in seconds and flat memory.

The model is a ridge regression of the classes on phase 1's pooled features. All it needs of the images are sums over
them, so one pass adds up the sums of each fold, and a fold's model is solved from those of the others.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw import records

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]
Rows = Callable[[NDArray[np.int64]], Floats]  # (b,) images → (b, channels) features

FOLDS = 5
CHUNK = 1024  # images in memory at once
# What scores are multiplied by before they become probabilities; the likeliest is taken.
SHARPNESS = np.geomspace(0.5, 50, 100)


def probabilities(
    rows: Rows, labels: Labels, classes: int, seed: int, units: Sequence[str] = ()
) -> Iterator[NDArray[np.float32]]:
    """Yield cross-validated probabilities, a chunk of images at a time, since those of all may not fit the memory.

    Args:
        rows: gives the features of some images.
        labels: (n,) indices of classes.
        classes: how many there are.
        seed: of the division into ``FOLDS`` parts, each of which is left out once.
        units: a word for each image; those with the same word are left out together, an empty one is alone. A copy in
            another part would know the label, also where it is wrong.

    Yields:
        (b, classes), rows that sum to 1, in the images' order. Where all images of a class are left out together, they
        are equal: of a class that a model has not seen it can say nothing.
    """
    count = len(labels)
    fold, rows = _folds(labels, units, seed), _centred(rows, count)
    models, unseen = _models(rows, labels, classes, fold), _all_left_out(labels, fold)
    losses = np.zeros(len(SHARPNESS))
    for chunk in _chunks(count):
        seen = ~unseen[chunk]
        scores = _scores(rows(chunk), fold[chunk], models)[seen]
        own = np.arange(len(scores)), labels[chunk][seen]
        losses += [-np.log(softmax(scores * scale)[own] + 1e-12).sum() for scale in SHARPNESS]
    sharpest = SHARPNESS[int(np.argmin(losses))]
    for chunk in _chunks(count):
        found = softmax(_scores(rows(chunk), fold[chunk], models) * sharpest).astype(np.float32)
        found[unseen[chunk]] = 1 / classes
        yield found


def _centred(rows: Rows, count: int) -> Rows:
    """Return features less about their mean: a channel that is large and hardly varies would be lost in its sums."""
    centre = rows(next(_chunks(count))).mean(axis=0, dtype=np.float64).astype(np.float32)
    return lambda some: rows(some) - centre


def _scores(
    features: Floats, fold: NDArray[np.int64], models: list[tuple[NDArray[np.float64], NDArray[np.float64]]]
) -> NDArray[np.float64]:
    """Return what each image's model, that of its fold, says of it: (b, classes)."""
    scores = np.empty((len(features), len(models[0][1])))
    for number, (weights, offset) in enumerate(models):
        out = fold == number
        scores[out] = features[out] @ weights + offset
    return scores


def _all_left_out(labels: Labels, fold: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return for each image whether all of its class are in its fold, so that the fold's model knows none."""
    _, each, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    cells, own, counts = np.unique(each * FOLDS + fold, return_inverse=True, return_counts=True)
    lonely: NDArray[np.bool_] = (counts == sizes[cells // FOLDS])[own]
    return lonely


def _folds(labels: Labels, units: Sequence[str], seed: int) -> NDArray[np.int64]:
    """Return the part that each image is in, (n,): units whole, every class spread evenly, the largest units first."""
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
    """Return for each fold weights (channels, classes) and offset (classes,), fitted to all images but its own."""
    channels = rows(np.arange(1)).shape[1]
    # Of each fold: images, sum of the features, of their products with each other, of the labels, of both's products.
    sizes, sums = np.zeros(FOLDS), np.zeros((FOLDS, channels))
    squares, targets = np.zeros((FOLDS, channels, channels)), np.zeros((FOLDS, classes))
    products = np.zeros((FOLDS, channels, classes))
    for chunk in _chunks(len(labels)):
        features, wanted = rows(chunk), np.zeros((len(chunk), classes), np.float32)
        wanted[np.arange(len(chunk)), labels[chunk]] = 1
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


def trained(rows: Rows, count: int, head: Callable[[Floats], Any], size: int = 0) -> Iterator[NDArray[np.float32]]:
    """Yield what a trained head says of images that it was not trained on: chunks (b, classes), rows that sum to 1.

    Args:
        size: images at once; 0: ``CHUNK``, which suits a head alone.
    """
    for some in _chunks(count, size):
        yield softmax(np.asarray(head(rows(some)))).astype(np.float32)


def save(path: Path, chunks: Iterable[NDArray[np.float32]], count: int, classes: int, *, half: bool = False) -> None:
    """Write the table of all chunks, (count, classes), of which no more than one is in memory at a time.

    Args:
        half: in float16, 2 bytes an image and class instead of 4: for what is looked at and not computed with, since
            a probability is then off by up to 0.00025, and one below 3e-8 is 0.
    """
    kind = "<f2" if half else "<f4"
    header = {"descr": kind, "fortran_order": False, "shape": (count, classes)}
    with records.replaced(path) as part, part.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in chunks:
            file.write(np.ascontiguousarray(chunk, kind).tobytes())


def softmax(scores: Floats) -> NDArray[np.float64]:
    """Turn scores into probabilities, both (n, classes)."""
    powers: NDArray[np.float64] = np.exp(scores - scores.max(axis=1, keepdims=True), dtype=np.float64)
    powers /= powers.sum(axis=1, keepdims=True)
    return powers
