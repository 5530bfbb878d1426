"""Split-conformal prediction sets: sets of classes that hold the right one as often as is asked for.

A set holds each class that is at least as likely as a threshold, which comes from held-out images: of an image like
them the right class is in its set with the wanted probability at least, whatever the model is (Vovk et al. 2005;
Sadinle et al. 2019, JASA 114, whose sets are the smallest). Near-duplicates and images of one group are not
exchangeable one by one, but units are: each weighs the same, whatever its number of images (Lee, Barber & Willett
2023, arXiv:2306.06342).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw.evaluation import intervals
from thaw.evaluation.probabilities import Table, blocks, of_labels

Integers = NDArray[np.integer[Any]]


def threshold(probabilities: Table, labels: Integers, level: float, units: intervals.Units | None = None) -> float:
    """Return the probability from which a class belongs to an image's set.

    Args:
        probabilities: (images, classes) of held-out images.
        labels: (images,) integer.
        level: the share of sets that shall hold the right class, above 0 and below 1.
        units: (images,) integer, which images are not independent; None: each image is one.

    Returns:
        0 to 1; 0, so that every class is in every set, where there are too few images for the level.
    """
    if not 0 < level < 1:
        raise ValueError(f"evaluate.conformal: expected levels above 0 and below 1, received {level}")
    own = of_labels(probabilities, labels)
    of = np.arange(len(own)) if units is None else units
    _, place, members = np.unique(of, return_inverse=True, return_counts=True)
    sizes, count = members[place], len(members)
    order = np.argsort(-own, kind="stable")
    # The new image's unit is one more, which may be as unlike as can be.
    weight = np.cumsum(1 / sizes[order]) / (count + 1)
    enough = np.flatnonzero(weight >= level - 1e-12)
    return float(own[order[enough[0]]]) if len(enough) else 0.0


def measured(
    probabilities: Table,
    labels: Integers,
    least: float,
    confidence: float,
    units: intervals.Units | None = None,
) -> dict[str, float]:
    """Return what the sets of a threshold are like on images that it does not come from.

    Returns:
        ``threshold``; ``coverage``, the share of sets with the right class, ``low`` and ``high``; ``mean_size``,
        classes in a set; ``single`` and ``empty``, the shares of sets with one class and with none.
    """
    sizes = np.concatenate([(rows >= least).sum(axis=1) for _, rows in blocks(probabilities)])
    covered: NDArray[np.bool_] = of_labels(probabilities, labels) >= least
    low, high = intervals.accuracy(covered, confidence, units)
    return {
        "threshold": least,
        "coverage": float(covered.mean()),
        "low": low,
        "high": high,
        "mean_size": float(sizes.mean()),
        "single": float((sizes == 1).mean()),
        "empty": float((sizes == 0).mean()),
    }
