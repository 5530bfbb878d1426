"""How deep to thaw where ``phase2.unfreeze`` is ``auto``: by whether frozen features put images of a class together.

Yosinski et al. (2014), arXiv:1411.1792, find that the higher a layer, the more particular it is to what the network
was trained on, and the more is lost by keeping it, the further away the new task is. How far away it is can be seen in
the features: close to what the network was trained on, what is near each other there is of one class, so an image's
neighbours tell its class as well as a linear head does, which is how features are judged since Wu et al. (2018),
arXiv:1805.01978. Far from it, the features vary by other things, such as whose hand is seen, and only a head that is
fitted to it finds the class in them: then the layers that make these features have to learn. With some hundred images
it pays to let them learn near to it too, so the question is asked of fewer only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Shares of the forward pass that are unfrozen; benchmarks/depths.py measures what each gives.
LITTLE, MOST = "30%", "75%"
FEW_IMAGES = 200  # to train on; with more, unfreezing most was never worse, also where a task is near

NEIGHBOURS = 5
SAMPLE = 2000  # images that are compared with each other
OF_A_CLASS = 20  # and how many of them are of a class where there are many classes
SEED = 0  # of the sample; a seed of the trainings would make a depth of every trial
# The task counts as far away where the neighbours are wrong more often than the head by such a share of the images: by
# 2.5 % at most on TrashNet and on ants and bees at 160 pixels and more, from 120 to 1,800 images; by 7 % or more on
# hands, traffic signs, plankton and handwritten digits. How many times as often does not count: where the head is
# wrong on every second image too, it cannot be many.
GAP = 0.04
SURE = 2.0  # standard errors that the difference must be from zero


@dataclass(frozen=True)
class Choice:
    """The depth that ``auto`` stands for, and why."""

    unfreeze: str  # as ``phase2.unfreeze`` says it
    reason: str  # one line


def sample(labels: np.ndarray, units: Sequence[str]) -> NDArray[np.int64]:
    """Return the images that are looked at, always the same: of each unit one, and no more than are soon compared.

    Args:
        labels: (n,) int64.
        units: of each image; what is alike or of one group is of one. Such images would be neighbours and tell nothing
            of the class.
    """
    order = np.random.default_rng(SEED).permutation(len(labels))
    order = order[np.sort(np.unique(np.asarray(units)[order], return_index=True)[1])]
    # Rather all of a class than a few of each: with one image a class none has a neighbour of its own.
    classes = np.random.default_rng(SEED).permutation(np.unique(labels))[: SAMPLE // OF_A_CLASS]
    return np.sort(order[np.isin(labels[order], classes)][:SAMPLE])


def candidates(count: int) -> list[str]:
    """Return what ``choose`` may come to for so many training images."""
    return [LITTLE, MOST] if count < FEW_IMAGES else [MOST]


def choose(features: np.ndarray, said: np.ndarray, labels: np.ndarray, count: int) -> Choice:
    """Return how much of a network to unfreeze: little where the task is near and the images are few, else most.

    Args:
        features: (n, channels) float32, what the frozen network makes of images.
        said: (n, classes) float32, what a head that was fitted to the others of them says of each.
        labels: (n,) int64.
        count: of all training images, of which these are a sample.
    """
    linear, near = said.argmax(axis=1) != labels, neighbours(features, labels) != labels
    worse = int(near.sum()) - int(linear.sum())
    # McNemar: of the images that only one of both has right.
    sure = worse > SURE * int((near != linear).sum()) ** 0.5
    far = sure and worse > GAP * len(labels)
    unfreeze = LITTLE if not far and count < FEW_IMAGES else MOST
    size = (
        ""
        if far
        else f", with {count:,} training images, {'less' if count < FEW_IMAGES else 'no less'} than {FEW_IMAGES:,}"
    )
    reason = (
        f"auto: frozen features tell the class of {1 - linear.mean():.1%} by a head and of {1 - near.mean():.1%} by "
        f"the {NEIGHBOURS} nearest images, a task {'far from' if far else 'near'} what the network knows{size}: "
        f"unfreeze {unfreeze}"
    )
    return Choice(unfreeze, reason)


def neighbours(features: np.ndarray, labels: np.ndarray) -> NDArray[np.int64]:
    """Return the class of most of the nearest other images by cosine, (n,) int64; of the nearest if it is a draw."""
    if len(labels) == 1:
        return labels
    centred = features - features.mean(axis=0)
    scaled = centred / (features.std(axis=0) + 1e-6)
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True) + 1e-12
    alike = scaled @ scaled.T
    np.fill_diagonal(alike, -np.inf)
    order = np.argsort(-alike, axis=1, kind="stable")[:, : min(NEIGHBOURS, len(labels) - 1)]
    near = labels[order]  # (n, neighbours)
    same = near[:, :, None] == near[:, None, :]
    votes = same.sum(axis=2) + 0.5 * same[:, :, 0]  # of each neighbour's class
    most: NDArray[np.int64] = np.where(votes == votes.max(axis=1, keepdims=True), near, labels.max()).min(axis=1)
    return most
