"""Baselines: the commonest class, and two classifiers of the frozen embeddings, a matter of seconds.

Fine-tuning must beat them to be worth its time. Logistic regression and k nearest neighbours see what phase 1's head
saw, the frozen backbone's embeddings, so they also tell whether that head was trained well. Their one setting, the
strength of the penalty and the number of neighbours, is chosen on the validation images.

A step of the regression multiplies images × channels × classes numbers. Beyond ``MOST`` it is fitted to a part of the
images, and where that is too few images a class it is left out.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from thaw.evaluation.probabilities import AT_ONCE

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

PENALTIES = (0.001, 0.01, 0.1, 1.0)  # C, the inverse of the penalty, of standardised embeddings
STEPS = 100  # of L-BFGS at most
# It ends where no component of the gradient of the mean loss is larger. scikit-learn's 1e-4 takes two to four times
# the steps, and answers no better.
TOLERANCE = 1e-3
# Multiplications in a step from which on it takes a second: then there is one penalty and half the steps.
LARGE, ONE_PENALTY = 5e9, PENALTIES[1:2]
MOST = 2e10  # multiplications in a step: a minute for all steps of 1,200 classes, and half a gigabyte
FEWEST = 10  # images a class on average, below which a part of them tells nothing
NEIGHBOURS = (1, 5, 20)
UNFINISHED = ConvergenceWarning  # of the regression whose steps end it; what it has then is taken


@dataclass
class Embedded:
    """Embeddings of some images and their labels."""

    rows: Floats  # (images, channels)
    labels: Integers  # (images,)


def majority(train: Integers, test: Integers) -> NDArray[np.bool_]:
    """Return for each test image whether its class is the commonest in training; of several, the first."""
    right: NDArray[np.bool_] = test == np.bincount(train).argmax()
    return right


def are_large(images: int, channels: int, classes: int) -> bool:
    """Return whether a step of the regression multiplies so much that several threads make it faster."""
    return images * channels * classes > LARGE


class LeftOutError(ValueError):
    """A baseline is not fitted, and why."""


def logistic_regression(train: Embedded, val: Embedded, test: Embedded) -> tuple[NDArray[np.bool_], dict[str, float]]:
    """Return whether multinomial logistic regression is right for each test image, and what it was fitted with.

    Args:
        train: the images that it is fitted to, as many of them, evenly spread, as ``MOST`` allows.
        val: those that its penalty is chosen by: it is weakened as long as that helps.
        test: those that are answered.

    Returns:
        (images,) bool; ``C`` and the number of training ``images``.

    Raises:
        LeftOutError: these would be too few images of each class.
    """
    classes, channels = len(np.unique(train.labels)), train.rows.shape[1]
    count = min(len(train.labels), int(MOST // (channels * classes)))
    if count < min(len(train.labels), FEWEST * classes):
        raise LeftOutError(
            f"{classes:,} classes of {channels:,} channels leave {count:,} of {len(train.labels):,} images for "
            f"{MOST / 1e9:,.3g} billion multiplications a step, fewer than {FEWEST} a class"
        )
    some = np.unique(np.linspace(0, len(train.labels) - 1, count).round().astype(np.int64))
    train = Embedded(train.rows[some], train.labels[some])
    work = train.rows.size * classes
    penalties, steps = (ONE_PENALTY, STEPS // 2) if work > LARGE else (PENALTIES, STEPS)
    scaler = StandardScaler().fit(train.rows.astype(np.float32))
    features, held, asked = (scaler.transform(each.rows.astype(np.float32)) for each in (train, val, test))
    model = LogisticRegression(max_iter=steps, tol=TOLERANCE, warm_start=True)
    answers, chosen, best = np.full(len(test.labels), train.labels[0]), penalties[0], -1.0
    with _threads(work):
        for strength in penalties if len(np.unique(train.labels)) > 1 else ():
            model.set_params(C=strength).fit(features, train.labels)
            score = float((_predicted(model, held) == val.labels).mean())
            if score <= best:
                break
            answers, chosen, best = _predicted(model, asked), strength, score
    right: NDArray[np.bool_] = answers == test.labels
    return right, {"C": chosen, "images": len(train.labels)}


def _predicted(model: LogisticRegression, features: Floats) -> Integers:
    """Return the answers, (images,), with the scores of some images in memory at a time."""
    size = max(1, AT_ONCE // len(model.classes_))
    return np.concatenate([model.predict(features[first : first + size]) for first in range(0, len(features), size)])


def knn(train: Embedded, val: Embedded, test: Embedded) -> tuple[NDArray[np.bool_], dict[str, float]]:
    """Return whether the k nearest neighbours by cosine similarity are right for each test image.

    Args:
        train: the neighbours.
        val: the images that k is chosen by, the smallest of equally good ones.
        test: the images that are answered.

    Returns:
        (images,) bool; ``k`` and the number of training ``images``.
    """
    features, held, asked = (_unit(some.rows) for some in (train, val, test))
    fitting = [k for k in NEIGHBOURS if k <= len(features)]
    with _threads(train.rows.size * len(asked)):
        # Between rows of length 1 the Euclidean distance orders as the cosine does, and takes less time there.
        index = NearestNeighbors(n_neighbors=fitting[-1], algorithm="brute").fit(features)
        near = train.labels[index.kneighbors(held, return_distance=False)]
        shares = [float((_votes(near[:, :k]) == val.labels).mean()) for k in fitting]
        chosen = fitting[int(np.argmax(shares))]
        answers = _votes(train.labels[index.kneighbors(asked, chosen, return_distance=False)])
    right: NDArray[np.bool_] = answers == test.labels
    return right, {"k": chosen, "images": len(train.labels)}


def _votes(labels: Integers) -> Integers:
    """Return the commonest label of each row, the smallest of equally common ones: (n, k) → (n,)."""
    ordered = np.sort(labels, axis=1)  # so that the first of the commonest is the smallest
    counts = (ordered[:, :, None] == ordered[:, None, :]).sum(axis=2)
    commonest: Integers = ordered[np.arange(len(ordered)), counts.argmax(axis=1)]
    return commonest


def _threads(multiplications: int) -> threadpool_limits:
    """Return a context with one thread for matrices that are not large.

    There one thread makes more than several, whose waiting for each other costs seconds on a busy machine.
    """
    return threadpool_limits(None if multiplications > LARGE else 1)


def _unit(rows: Floats) -> NDArray[np.float32]:
    values = rows.astype(np.float32)
    length = np.maximum(np.linalg.norm(values, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    unit: NDArray[np.float32] = (values / length).astype(np.float32)
    return unit


FITS = {"logistic_regression": logistic_regression, "knn": knn}
