"""Classes of unequal size: what an image of each weighs in the loss, and how often it is drawn.

Both make up for the sizes of the classes. They are two ways to the same expectation, so use one of them.
"""

import numpy as np


def weights(labels: np.ndarray, class_weight: str, given: np.ndarray | None = None) -> np.ndarray | None:
    """Return the weight of each image in the loss.

    Args:
        labels: (n,) int64.
        class_weight: ``none``, or ``balanced``: n / (classes × images of the class): 1 in the mean.
        given: (n,) float32, what the images weigh already.

    Returns:
        (n,) float32, the product; None where all weigh the same.
    """
    if class_weight == "none":
        return given
    balanced = _inverse_size(labels).astype(np.float32)
    return balanced if given is None else balanced * given


def chances(labels: np.ndarray, sampler: str) -> np.ndarray | None:
    """Return how likely each image is at each draw of an epoch, before they are made to add up to 1.

    Args:
        labels: (n,) int64.
        sampler: ``shuffle``, each image once in an epoch, or ``balanced``, each class as often as the others.

    Returns:
        (n,) float64; None for ``shuffle``.
    """
    return None if sampler == "shuffle" else _inverse_size(labels)


def _inverse_size(labels: np.ndarray) -> np.ndarray:
    _, positions, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    inverse: np.ndarray = len(labels) / (len(sizes) * sizes[positions])
    return inverse
