"""How deep to thaw where ``phase2.unfreeze`` is ``auto``: by whether frozen features put images of a class together.

Yosinski et al. (2014), arXiv:1411.1792, find that the higher a layer, the more particular it is to what the network
was trained on, and the more is lost by keeping it, the further away the new task is. How far away it is can be seen in
the features: close to what the network was trained on, what is near each other there is of one class, so an image's
neighbours tell its class as well as a linear head does, which is how features are judged since Wu et al. (2018),
arXiv:1805.01978. Far from it, the features vary by other things, such as whose hand is seen, and only a head that is
fitted to it finds the class in them: then the layers that make these features have to learn.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

AUTO = "auto"
NEAR, FAR = "10%", "75%"  # shares of the forward pass that are thawed; benchmarks/depths.py measures what each gives

NEIGHBOURS = 5
SAMPLE = 2000  # images that are compared with each other, which takes a second
SEED = 0  # of the sample; a seed of the trainings would make a depth of every trial
# How many times the head's errors the neighbours' are where the task counts as far away: between 1.0 and 1.25 on
# TrashNet and on ants and bees, from 120 to 1,800 images, between 1.45 and 2.3 on hands and on handwritten digits.
TIMES = 1.35
SURE = 2.0  # standard errors that the difference must be from zero


@dataclass(frozen=True)
class Choice:
    """What ``auto`` stands for, and why."""

    share: str  # of the computation, as ``phase2.unfreeze`` says it
    reason: str  # one line


def sample(count: int) -> NDArray[np.int64]:
    """The images that are looked at, of so many: all, or ``SAMPLE`` of them, always the same."""
    return np.sort(np.random.default_rng(SEED).permutation(count)[:SAMPLE])


def choose(features: np.ndarray, said: np.ndarray, labels: np.ndarray) -> Choice:
    """What is thawed of a network.

    Args:
        features: (n, channels) float32, what the frozen network makes of images.
        said: (n, classes) float32, what a head that was not trained on them says of each.
        labels: (n,) int64.
    """
    linear, near = said.argmax(axis=1) != labels, neighbours(features, labels) != labels
    worse = int(near.sum()) - int(linear.sum())
    # McNemar: of the images that only one of both has right.
    differ = int((near != linear).sum())
    far = near.sum() > TIMES * linear.sum() and worse > SURE * differ**0.5
    share = FAR if far else NEAR
    reason = (
        f"auto: frozen features tell the class of {1 - linear.mean():.1%} by a head and of {1 - near.mean():.1%} by "
        f"the {NEIGHBOURS} nearest images, a task {'far from' if far else 'near'} what the network knows: thaw {share}"
    )
    return Choice(share, reason)


def neighbours(features: np.ndarray, labels: np.ndarray) -> NDArray[np.int64]:
    """The class of most of the nearest other images by cosine, of the nearest one if it is a draw, (n,) int64."""
    centred = features - features.mean(axis=0)
    scaled = centred / (features.std(axis=0) + 1e-6)
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True) + 1e-12
    alike = scaled @ scaled.T
    np.fill_diagonal(alike, -np.inf)
    order = np.argsort(-alike, axis=1, kind="stable")[:, :NEIGHBOURS]
    order = order[:, : len(labels) - 1]
    each = np.eye(int(labels.max()) + 1)[labels[order]]  # (n, neighbours, classes)
    most: NDArray[np.int64] = (each.sum(axis=1) + 0.5 * each[:, 0]).argmax(axis=1)
    return most
