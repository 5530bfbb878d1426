"""Targets of a batch, the loss and the metrics on them: whole numbers of classes, or of mixed images two and a share.

A table of images × classes is no part of a batch: at 10,000 classes it is larger than most activations. It is made
where the logits are, which are as large, in a hundredth of the time that the loss takes. TensorFlow's loss of sparse
labels takes a fifth more than that of the table on a CPU, and has other last bits.
"""

from typing import Any

import numpy as np

from thaw.runtime.framework import keras, tf

MIXED = 3  # numbers of a mixed image: its label, the other one, and the share of the first


def table(targets: np.ndarray, classes: int) -> np.ndarray:
    """Return the targets as a table: (b,) labels or (b, 3) mixed → (b, classes) float32, rows that sum to 1."""
    places = np.arange(len(targets))
    found = np.zeros((len(targets), classes), np.float32)
    if targets.ndim == 1:
        found[places, targets] = 1
        return found
    share = targets[:, 2]
    found[places, targets[:, 0].astype(np.int64)] = share
    np.add.at(found, (places, targets[:, 1].astype(np.int64)), 1 - share)
    return found


def labels(targets: np.ndarray) -> np.ndarray:
    """Return the label that has the larger share of each image: (b,) int64."""
    if targets.ndim == 1:
        return targets
    return np.where(targets[:, 2] >= 0.5, targets[:, 0], targets[:, 1]).astype(np.int64)


def cross_entropy(targets: Any, logits: Any) -> Any:
    """Return the cross-entropy of each image in nats: (b,) or (b, 3) targets, (b, classes) logits → (b,) float32."""
    return keras.losses.categorical_crossentropy(_table(targets, logits), logits, from_logits=True)


def accuracy(targets: Any, logits: Any) -> Any:
    """Return 1 for each image that comes out right, else 0: targets and logits as above → (b,) float32."""
    if _plain(targets):
        return keras.metrics.sparse_categorical_accuracy(_labels(targets), logits)
    return keras.metrics.categorical_accuracy(_table(targets, logits), logits)


def _plain(targets: Any) -> bool:
    return len(targets.shape) == 1 or targets.shape[-1] != MIXED


def _labels(targets: Any) -> Any:
    return tf.cast(tf.reshape(targets, [-1]), tf.int64)


def _table(targets: Any, logits: Any) -> Any:
    """Return the targets as a table, (b, classes) float32, to the last bit what NumPy makes of them."""
    classes = logits.shape[-1]
    if _plain(targets):
        return tf.one_hot(_labels(targets), classes)
    share = targets[:, 2:]
    one, other = (tf.one_hot(tf.cast(targets[:, place], tf.int64), classes) for place in (0, 1))
    return share * one + (1 - share) * other
