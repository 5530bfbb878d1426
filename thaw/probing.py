"""How much of the task each depth of the frozen network knows: linear probes of what comes out of its blocks.

The method is that of Alain & Bengio (2016), arXiv:1610.01644: a linear classifier on the pooled output of a block,
here a ridge regression, judged by images that it was not fitted to (``thaw.out_of_sample``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from thaw import boundaries, head, model, out_of_sample

PLACES = 12  # at most so many probes: the finest step of the rule that reads them is a tenth of the computation
SEED = 0  # of the division into folds; a seed of the trainings would make a depth of every trial

Rows = Callable[[np.ndarray], np.ndarray]  # (b,) int64 → (b, channels)


@dataclass(frozen=True)
class Probe:
    """What is known at one place of the network."""

    block: str  # the first block behind the place; empty: none, it is the output
    share: float  # of the computation that lies behind the place, 0 to 1
    accuracy: float  # of images that the probe was not fitted to, 0 to 1
    loss: float  # cross-entropy in nats, of the same


def places(classifier: model.Classifier) -> list[boundaries.Boundary]:
    """The cuts that are probed, the output first: evenly spread over the computation, all if they are few."""
    _, tensors = boundaries.producers(classifier.backbone)
    cuts = [cut for cut in reversed(boundaries.every(classifier.backbone)) if cut.frozen_layers]
    cuts = [cut for cut in cuts if len(tensors[cut.tensor_layer].shape) == 4]  # what can be pooled as the output is
    nearest = [min(cuts, key=lambda cut: abs(cut.share - at)) for at in np.linspace(0, cuts[-1].share, PLACES)]
    return cuts if len(cuts) <= PLACES else list(dict.fromkeys(nearest))


def outputs(classifier: model.Classifier) -> dict[str, Any]:
    """The pooled tensors at these places, by the names that the activation cache has for them."""
    _, tensors = boundaries.producers(classifier.backbone)
    described = classifier.card.head
    found = {}
    for cut in places(classifier):
        name = f"pool:{described.pooling}:{cut.tensor_layer}" if cut.block else f"pool:{described.pooling}"
        found[name] = head.pool(described, f"pool_{cut.tensor_layer}")(tensors[cut.tensor_layer])
    return found


def probes(cuts: list[boundaries.Boundary], readers: list[Rows], labels: np.ndarray, classes: int) -> list[Probe]:
    """Fit and judge a probe at each place.

    Args:
        cuts: as of ``places``.
        readers: for each, the pooled features of some of the training images.
        labels: (n,) int64, of all of these images.
    """
    found = []
    for cut, rows in zip(cuts, readers, strict=True):
        said = out_of_sample.probabilities(rows, labels, classes, SEED)
        accuracy = float((said.argmax(axis=1) == labels).mean())
        loss = float(-np.log(said[np.arange(len(labels)), labels] + 1e-12).mean())
        found.append(Probe(cut.block, cut.share, accuracy, loss))
    return found
