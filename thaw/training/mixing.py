"""MixUp: batches of images that are each a little of another one, and of its label.

Zhang et al. (2018), arXiv:1710.09412. It is done to what the trained layers are fed with, so nothing passes the frozen
layers for it. Keras's layer of this name draws from a generator that moves on, and takes longer for a batch than
reading it does; here a batch depends on seed, epoch and step alone.
"""

from typing import Any

import numpy as np

from thaw.images.manifest import Batches


class Mixed(Batches):
    """``Batches`` of which images and labels are mixed within each batch.

    Targets are labels, (b,) int64, or where images are mixed (b, 3) float32: the image's label, that of the other one,
    and the share of the first, as ``thaw.training.targets`` reads them.

    An image keeps a share of itself, drawn for each from Beta(alpha, alpha), and takes the rest from another image of
    its batch, in inputs, weights and labels alike. Each label counts by the weight of the image that it came with: of
    shares a and b, weights v and w and labels y and z, the mixed image weighs av + bw, and its label is
    (avy + bwz) / (av + bw). So class weights keep their effect, and what weighs nothing teaches nothing.

    Args:
        classes: how many there are.
        alpha: near 0 most images stay as they are; at 1 every share is as likely. 0: none is mixed.
        begin: how many epochs of training go by before mixing begins. The head comes from images as they are, so
            mixed ones raise the validation loss at first; that and the rising learning rate need not come together.
        batches: as for ``Batches``.
    """

    def __init__(self, *batches: Any, classes: int, alpha: float, begin: int = 0, **more: Any):
        super().__init__(*batches, **more)
        self.classes, self.alpha, self.begin = classes, alpha, begin

    def __getitem__(self, number: int) -> tuple[np.ndarray, ...]:
        inputs, labels, *weights = super().__getitem__(number)
        if self.alpha and self.seed is not None:
            chance = np.random.default_rng([self.seed, self.epoch, number])
            others = chance.permutation(len(labels))
            share = chance.beta(self.alpha, self.alpha, len(labels)).astype(np.float32)
            # Keras turns to the next epoch before the first, which so has number 1.
            if self.begin and self.epoch <= self.begin:
                share[:] = 1
            inputs = self.blend(inputs, share, others)
            if weights:
                own, taken = share * weights[0], (1 - share) * weights[0][others]
                weights = [own + taken]
                # Where both weigh nothing any label will do.
                share = np.divide(own, own + taken, out=share.copy(), where=own + taken > 0)
            labels = np.stack([labels.astype(np.float32), labels[others].astype(np.float32), share], axis=1)
        return inputs, labels, *weights

    @property
    def mixes(self) -> bool:
        """Return whether images are mixed."""
        return bool(self.alpha) and self.seed is not None

    def blend(self, values: np.ndarray, share: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return inputs that are each a share of themselves and the rest of another; a GPU does this for itself.

        Args:
            values: (b, ...) float32.
            share: (b,) float32 in [0, 1].
            others: (b,) int64, places in the batch.
        """
        return blended(values, share, values[others])


def blended(values: np.ndarray, share: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return inputs that are each a share of one and the rest of another: (b, ...), (b,), (b, ...) → (b, ...)."""
    wide = share.reshape(-1, *[1] * (values.ndim - 1))
    mixed: np.ndarray = wide * values + (1 - wide) * others
    return mixed
