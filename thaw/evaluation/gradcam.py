"""Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): where in an image the network finds a class.

The classifier is a backbone and a head, so nothing needs to be cut: the backbone runs once, and gradients are taken of
pooling and head alone.
"""

import numpy as np

from thaw.classifier import model
from thaw.runtime.framework import tf

BATCH = 32  # all that the report explains: each batch takes a quarter of a second to be dispatched, layer by layer


def heat_maps(classifier: model.Classifier, pixels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return how much each place of an image speaks for a class, by the activations of the backbone's last layer.

    Args:
        classifier: in inference mode.
        pixels: (n, size, size, 3) float32 in [0, 255], as the classifier gets them.
        classes: (n,) int, the class that is asked for in each image.

    Returns:
        (n, height, width) float32, from 0 to 1, where 1 is the strongest place of the image. It is all 0 where no
        place speaks for the class.
    """
    maps = [_some(classifier, pixels[i : i + BATCH], classes[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]
    return np.concatenate(maps) if maps else np.zeros((0, 1, 1), np.float32)


def _some(classifier: model.Classifier, pixels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    activations = classifier.backbone(tf.constant(pixels), training=False)  # (n, height, width, channels)
    with tf.GradientTape() as tape:
        tape.watch(activations)
        logits = classifier.head(classifier.pool(activations), training=False)
        asked = tf.gather(logits, tf.constant(classes), batch_dims=1)
    weights = tf.reduce_mean(tape.gradient(asked, activations), axis=(1, 2), keepdims=True)
    maps = tf.nn.relu(tf.reduce_sum(weights * activations, axis=-1)).numpy().astype(np.float32)
    strongest = maps.max(axis=(1, 2), keepdims=True)
    found: np.ndarray = np.divide(maps, strongest, out=np.zeros_like(maps), where=strongest > 0)
    return found
