"""How deep to thaw where ``phase2.unfreeze`` is ``auto``: by how far the frozen network gets, with how many images.

Yosinski et al. (2014), arXiv:1411.1792, find that the higher a layer, the more particular it is to what the network
was trained on, and the more is lost by keeping it, the further away the new task is. But the more layers are trained,
the more images they need, or they learn them by heart. So the rule has two sides. How far away the task is, is
measured: by the share of images on which frozen features and a head that was not trained on these images are wrong.
"""

from collections.abc import Mapping

import numpy as np

from thaw import layout

AUTO = "auto"

# Shares of the forward pass that are thawed. A row for each range of images per class, of which the median class has
# fewer than the first number; a column for each range of the frozen network's error, below the numbers of ERRORS.
# benchmarks/depths.py measures what each depth gives on given images.
ERRORS = (0.05, 0.15, 1.0)
SHARES = (
    (50, ("10%", "20%", "20%")),
    (200, ("20%", "30%", "50%")),
    (float("inf"), ("30%", "50%", "75%")),
)


def rule(frozen_accuracy: float, images_per_class: float) -> str:
    """The share of the computation to thaw, as ``phase2.unfreeze`` says it.

    Args:
        frozen_accuracy: of frozen features on images that the head was not trained on, 0 to 1.
        images_per_class: training images of the median class.
    """
    row = next(shares for limit, shares in SHARES if images_per_class < limit)
    return next(share for limit, share in zip(ERRORS, row, strict=True) if 1 - frozen_accuracy < limit or limit == 1)


def settled(unfreeze: str, labels: Mapping[str, np.ndarray]) -> str:
    """``unfreeze`` as it is, or, for ``auto``, what the rule makes of phase 1.

    Phase 1 leaves what it says of every image that its head, or one fitted like it, has not seen: of the training
    images in turns, of the validation images at the end. Phase 2 depends on these files, so the answer is the same in
    every run.

    Args:
        labels: of the splits train and val, (n,) int64 each.
    """
    if unfreeze != AUTO:
        return unfreeze
    return rule(*_measured(labels))


def reason(unfreeze: str, labels: Mapping[str, np.ndarray]) -> str:
    """Why ``auto`` has become what ``settled`` says, for people and for the records; empty for any other word.

    Args:
        labels: as of ``settled``.
    """
    if unfreeze != AUTO:
        return ""
    accuracy, images = _measured(labels)
    share = rule(accuracy, images)
    return f"auto: frozen features are right on {accuracy:.1%}, {images:g} images a class: thaw {share}"


def _measured(labels: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """The accuracy of frozen features, and the training images of the median class."""
    right = [
        np.load(layout.out_of_sample(split), allow_pickle=False).argmax(axis=1) == truth
        for split, truth in labels.items()
    ]
    return float(np.concatenate(right).mean()), float(np.median(np.unique(labels["train"], return_counts=True)[1]))
