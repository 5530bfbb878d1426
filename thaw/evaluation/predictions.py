"""The predictions of trained classifiers: probabilities and embeddings of images, and answers to corrupted ones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from thaw import console
from thaw.classifier import model
from thaw.config import schema
from thaw.evaluation import robustness
from thaw.images import manifest
from thaw.runtime import devices
from thaw.runtime.framework import tf

# (batch, size, size, 3) float32 in [0, 255] → the parts of ``Answers``
Predictor = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
LARGEST = float(np.finfo(np.float16).max)


@dataclass
class Answers:
    """The output of a classifier for some images, in their order."""

    probabilities: np.ndarray  # (images, classes) float32, rows that sum to 1
    embeddings: np.ndarray  # (images, channels) float16, the pooled features that the head saw


def predictor(classifier: model.Classifier) -> Predictor:
    """Return a compiled function from pixels to probabilities and embeddings."""
    backbone, pool, head = classifier.backbone, classifier.pool, classifier.head

    def both(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pooled = pool(backbone(pixels, training=False))
        return tf.nn.softmax(head(pooled, training=False)), pooled

    run = tf.function(both, reduce_retracing=True)

    def predict(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows, pooled = (each.numpy() for each in run(pixels))
        return rows, np.clip(pooled, -LARGEST, LARGEST).astype(np.float16)

    return predict


def answers(
    runs: Mapping[str, Predictor], image: schema.Image, split: manifest.Images, batch_size: int
) -> dict[str, Answers]:
    """Return what each classifier says of each image; an image is decoded once for all of them.

    Args:
        runs: of ``predictor``, by phase.
        image: how the images are fitted to the input.
        split: the images.
        batch_size: images at once.
    """
    # Filled as they come: parts that are joined in the end would be there twice for a moment.
    found: dict[str, Answers] = {}
    done = 0
    batches = manifest.pixels(image, split.paths, split.hashes, batch_size)
    for pixels in console.track(batches, "test images", -(-len(split) // batch_size), "batches"):
        for phase, run in runs.items():
            with devices.enough_memory("evaluate.batch_size", batch_size):
                rows, pooled = run(pixels)
            if phase not in found:
                found[phase] = Answers(*(np.empty((len(split), each.shape[1]), each.dtype) for each in (rows, pooled)))
            found[phase].probabilities[done : done + len(rows)] = rows
            found[phase].embeddings[done : done + len(rows)] = pooled
        done += len(pixels)
    return found


def corrupted(
    runs: Mapping[str, Predictor], image: schema.Image, split: manifest.Images, options: schema.Evaluate
) -> robustness.Corrupted | None:
    """Return what each classifier takes corrupted images for; None where ``evaluate.robustness`` wants none."""
    wanted, size = robustness.draws(split.hashes, options.robustness), options.batch_size
    if not wanted:
        return None
    places = robustness.places(wanted)
    batches = manifest.pixels(image, [split.paths[n] for n in places], [split.hashes[n] for n in places], size)
    shown = console.track(batches, "corrupted images", -(-len(places) // size), "batches")
    classes = {phase: _classes(run) for phase, run in runs.items()}
    with devices.enough_memory("evaluate.batch_size", size):
        return robustness.answers(wanted, shown, split.hashes, classes, size)


def _classes(predict: Predictor) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: predict(pixels)[0].argmax(axis=1)
