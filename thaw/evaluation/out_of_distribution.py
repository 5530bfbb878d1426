"""Out-of-distribution detection: a score for images unlike the training images, from the embeddings of a model.

The score is the Mahalanobis distance of an image's embedding to the nearest class mean, with one covariance for all
classes (Lee et al. 2018, arXiv:1807.03888), which is shrunk (Ledoit & Wolf 2004, J. Multivariate Analysis 88), since
there may be fewer images than channels. The embeddings are brought to length 1 before, which makes the classes rounder
and the score better (Mueller & Hein 2025, arXiv:2505.18032). It needs NumPy alone, so whoever serves a model can
compute it.

It tells other kinds of images (other subjects, another camera, noise). What looks like a class and is none, such as a
breed of dogs that was not among those trained on, it tells badly.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw import records

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]
Parameters = dict[str, NDArray[np.float32]]  # of ``fit``

AXES = 256  # directions in which the covariance is kept; in all others it is one number
AT_ONCE = 4096  # images, fewer where there are many classes:
DISTANCES = 4_000_000  # of images to class means in memory, 8 bytes each, some four times
TEST = "test"  # the name of the scores of test images among a phase's arrays
SMALLEST = float(np.finfo(np.float32).tiny)
# Variance of a unit vector that was rounded to float16, as embeddings are: 11 bits, evenly spread over a step. With a
# single training image a class nothing else differs, and no direction is known better than that.
ROUNDED = 2.0**-22 / 12


def fit(embeddings: Floats, labels: Integers) -> Parameters:
    """Return what ``score`` needs: the means of the classes, and the shrunk covariance about them.

    Args:
        embeddings: (images, channels) of training images.
        labels: (images,) integer; a class without images has no mean.

    Returns:
        All float32: ``means`` (classes, channels); ``axes`` (kept, channels), the directions in which the embeddings
        differ most within a class; ``precision`` (kept,), the inverse variance along each; ``rest`` (), that in all
        other directions, which is exact where there are no more than ``AXES`` images or channels.
    """
    rows = _unit(embeddings)
    present, place = np.unique(labels, return_inverse=True)
    means = np.stack([rows[place == number].mean(axis=0) for number in range(len(present))])
    within = rows - means[place]
    covariance = within.T @ within / len(within)
    by, average = shrinkage(within, covariance), float(np.trace(covariance)) / len(covariance)
    values, vectors = np.linalg.eigh(covariance)
    spread = np.maximum((1 - by) * np.maximum(values[::-1], 0) + by * average, ROUNDED / len(values))  # largest first
    kept = min(AXES, len(spread))
    found = {
        "means": means,
        "axes": vectors[:, ::-1][:, :kept].T,
        "precision": 1 / spread[:kept],
        "rest": np.array(1 / spread[kept:].mean() if kept < len(spread) else 0.0),
    }
    return {name: np.array(each, np.float32, order="C") for name, each in found.items()}


def shrinkage(centred: Floats, covariance: Floats) -> float:
    """Return how far the covariance is drawn to a multiple of the identity, 0 to 1 (Ledoit & Wolf 2004).

    Args:
        centred: (images, channels), of mean 0.
        covariance: (channels, channels), of the same with the divisor ``images``.
    """
    count, channels = centred.shape
    average = float(np.trace(covariance)) / channels
    squared = float((covariance**2).sum())
    apart = squared - channels * average**2  # of the covariance from the multiple of the identity
    noise = (float(((centred**2).sum(axis=1) ** 2).sum()) / count - squared) / count
    return min(max(noise, 0.0) / apart, 1.0) if apart > 0 else 1.0


def score(embeddings: Floats, parameters: Parameters) -> NDArray[np.float32]:
    """Return how unlike the training images some are: the distance to the nearest class mean, 0 and more.

    Args:
        embeddings: (images, channels), by the model whose training images' ``parameters`` come from.
        parameters: of ``fit``.

    Returns:
        (images,) float32; about the square root of the number of channels for images like those of training.
    """
    means, axes = (parameters[name].astype(np.float64) for name in ("means", "axes"))
    rest = float(parameters["rest"])
    weight = parameters["precision"].astype(np.float64) - rest  # along an axis, beyond what all directions count
    places = means @ axes.T
    found, size = [], max(1, min(AT_ONCE, DISTANCES // len(means)))
    for first in range(0, len(embeddings), size):
        rows = _unit(embeddings[first : first + size])
        along = rows @ axes.T
        distance = rest * _squared(rows, means, np.ones(means.shape[1])) + _squared(along, places, weight)
        found.append(np.sqrt(np.maximum(distance.min(axis=1), 0)).astype(np.float32))
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def _squared(rows: Floats, means: Floats, weight: Floats) -> NDArray[np.float64]:
    """Return the weighted squared distances of rows to means: (n, d), (k, d), (d,) → (n, k)."""
    weighted = means * weight
    distance: NDArray[np.float64] = (
        (rows**2 @ weight)[:, None] + (means * weighted).sum(axis=1) - 2 * rows @ weighted.T
    )
    return distance


def threshold(scores: Floats, share: float) -> float:
    """Return the score above which images are called unlike: a share of the validation images has more."""
    return float(np.quantile(scores, 1 - share, method="higher"))


def save(
    path: Path, parameters: Mapping[str, Parameters], scores: Mapping[str, NDArray[np.float32]] | None = None
) -> None:
    """Write what was fitted and found.

    Args:
        path: of the .npz.
        parameters: of each phase's model, under names as ``phase2.means``.
        scores: of the test images by each phase's model, (images,), under names as ``phase2.test``.
    """
    named = {f"{phase}.{name}": each for phase, found in parameters.items() for name, each in found.items()}
    records.write_arrays(path, **named, **{f"{phase}.{TEST}": each for phase, each in (scores or {}).items()})


def load(path: Path, phase: str) -> Parameters:
    """Return the parameters of a phase's model that ``save`` has written."""
    with np.load(path, allow_pickle=False) as kept:
        names = {name: name.removeprefix(f"{phase}.") for name in kept.files if name.startswith(f"{phase}.")}
        return {own: kept[name] for name, own in names.items() if own != TEST}


def load_scores(path: Path, phase: str) -> NDArray[np.float32]:
    """Return the scores of the test images by a phase's model that ``save`` has written: (images,)."""
    with np.load(path, allow_pickle=False) as kept:
        found: NDArray[np.float32] = kept[f"{phase}.{TEST}"]
        return found


def _unit(rows: Floats) -> NDArray[np.float64]:
    values = np.asarray(rows, np.float64)
    unit: NDArray[np.float64] = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), SMALLEST)
    return unit
