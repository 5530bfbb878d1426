"""MixUp: batches of images that are each a little of another one, and of its label.

Zhang et al. (2018), arXiv:1710.09412. It is done to what the trained layers are fed with, so nothing passes the frozen
layers for it. Keras's layer of this name draws from a generator that moves on, and takes longer for a batch than
reading it does; here a batch depends on seed, epoch and step alone.
"""

from typing import Any

import numpy as np

from thaw.images import Batches


class Mixed(Batches):
    """``Batches`` with one-hot labels, mixed within each batch.

    An image keeps a share of itself, drawn for each from Beta(alpha, alpha), and takes the rest from another image of
    its batch, in inputs and labels alike. Weights stay with the image.

    Args:
        classes: how many there are.
        alpha: near 0 most images stay as they are; at 1 every share is as likely. 0: none is mixed.
        batches: as for ``Batches``.
    """

    def __init__(self, *batches: Any, classes: int, alpha: float, **more: Any):
        super().__init__(*batches, **more)
        self.classes, self.alpha = classes, alpha

    def __getitem__(self, number: int) -> tuple[np.ndarray, ...]:
        inputs, labels, *weights = super().__getitem__(number)
        targets = np.eye(self.classes, dtype=np.float32)[labels]  # (b, classes)
        if self.alpha and self.seed is not None:
            chance = np.random.default_rng([self.seed, self.epoch, number])
            others = chance.permutation(len(labels))
            share = chance.beta(self.alpha, self.alpha, len(labels)).astype(np.float32)[:, None]
            wide = share.reshape(-1, *[1] * (inputs.ndim - 1))
            inputs = wide * inputs + (1 - wide) * inputs[others]
            targets = share * targets + (1 - share) * targets[others]
        return inputs, targets, *weights
