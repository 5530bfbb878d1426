"""Classes of unequal size: what an image of each weighs in the loss, and how often it is drawn.

Both make up for the sizes of the classes. They are two ways to the same expectation, so use one of them.
"""

import numpy as np


def weights(labels: np.ndarray, class_weight: str, given: np.ndarray | None = None) -> np.ndarray | None:
    """Return the weight of each image in the loss.

    Args:
        labels: (n,) int64.
        class_weight: ``none``, or ``balanced``: n / (classes × images of the class): 1 in the mean.
        given: (n,) float32, what the images weigh already; of each class one at least more than 0. Only how they stand
            to each other counts: of weights that are all small, gradients would be too small for Adam to tell them
            from nought.

    Returns:
        (n,) float32, 1 in the mean; None where all weigh the same.
    """
    if class_weight == "none":
        return None if given is None else given / np.float32(given.mean(dtype=np.float64))
    inverse = _inverse_size(labels, given)
    return (inverse if given is None else inverse * given).astype(np.float32)


def chances(labels: np.ndarray, sampler: str, given: np.ndarray | None = None) -> np.ndarray | None:
    """Return how likely each image is at each draw of an epoch, before they are made to add up to 1.

    Args:
        labels: (n,) int64.
        sampler: ``shuffle``, each image once in an epoch, or ``balanced``, each class as often as the others.
        given: (n,) float32, what the images weigh in the loss. With these, each class weighs as much as the others,
            and what weighs nothing is not drawn.

    Returns:
        (n,) float64; None for ``shuffle``.
    """
    if sampler == "shuffle":
        return None
    inverse = _inverse_size(labels, given)
    return inverse if given is None else inverse * (given > 0)


def _inverse_size(labels: np.ndarray, given: np.ndarray | None) -> np.ndarray:
    """Return for each image what makes its class weigh as much as each other one, (n,) float64."""
    _, positions = np.unique(labels, return_inverse=True)
    sizes = np.bincount(positions, given)
    inverse = np.divide(len(labels), len(sizes) * sizes, out=np.zeros(len(sizes)), where=sizes > 0)
    found: np.ndarray = inverse[positions]
    return found
