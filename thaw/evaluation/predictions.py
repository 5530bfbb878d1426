"""The predictions of trained classifiers: probabilities and embeddings of images, and answers to corrupted ones."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thaw import console, paths, records
from thaw.classifier import model
from thaw.config import schema
from thaw.evaluation import robustness
from thaw.images import manifest
from thaw.runtime import devices
from thaw.runtime.framework import tf
from thaw.tracking import unfinished

# (batch, size, size, 3) float32 in [0, 255] → the parts of ``Answers``
Predictor = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
LARGEST = float(np.finfo(np.float16).max)


@dataclass
class Answers:
    """The output of a classifier for some images, in their order."""

    probabilities: np.ndarray  # (images, classes) float32, rows that sum to 1
    embeddings: np.ndarray  # (images, channels) float16, the pooled features that the head saw


def classifiers() -> dict[str, model.Classifier]:
    """Return the classifier of each phase; one for both where phase 2 kept its start, so that they have one file."""
    first = model.load(paths.PHASE1)
    files = [folder / model.WEIGHTS for folder in paths.PHASES.values()]
    if all(file.is_file() for file in files) and len(set(map(records.sha256, files))) == 1:
        return dict.fromkeys(paths.PHASES, first)
    return {"phase1": first, "phase2": model.load(paths.PHASE2)}


def predictors(of: Mapping[str, model.Classifier]) -> dict[str, Predictor]:
    """Return the predictor of each classifier, the same one for the same classifier."""
    different = {id(classifier): classifier for classifier in of.values()}
    made = {key: predictor(classifier) for key, classifier in different.items()}
    return {phase: made[id(classifier)] for phase, classifier in of.items()}


def predictor(classifier: model.Classifier) -> Predictor:
    """Return a compiled function from pixels to probabilities and embeddings."""
    backbone, pool, head = classifier.backbone, classifier.pool, classifier.head

    def both(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pooled = pool(backbone(pixels, training=False))
        return tf.nn.softmax(head(pooled, training=False)), pooled

    # One graph, also for a smaller last batch: to trace a second one takes a second.
    signature = [tf.TensorSpec((None, *backbone.input_shape[1:]), tf.float32)]
    run = tf.function(both, input_signature=signature, autograph=False)

    def predict(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows, pooled = (each.numpy() for each in run(pixels))
        return rows, np.clip(pooled, -LARGEST, LARGEST).astype(np.float16)

    return predict


def answers(
    runs: Mapping[str, Predictor],
    image: schema.Image,
    split: manifest.Images,
    batch_size: int,
    kept: Path | None = None,
) -> dict[str, Answers]:
    """Return what each classifier says of each image; an image is decoded once for all of them.

    Args:
        runs: of ``predictors``, by phase. The same one is asked once, and its phases have one answer.
        image: how the images are fitted to the input.
        split: the images.
        batch_size: images at once.
        kept: the folder of ``unfinished.results``, from which it goes on; None: nothing is kept.
    """
    first = _first(runs)

    def batches(start: int) -> Iterator[dict[str, np.ndarray]]:
        left = len(split) - start
        if not left:
            return
        pixels = manifest.pixels(image, split.paths[start:], split.hashes[start:], batch_size)
        for batch in console.track(pixels, "test images", -(-left // batch_size), "batches"):
            row = {}
            for phase in dict.fromkeys(first.values()):
                with devices.enough_memory("evaluate.batch_size", batch_size):
                    row[f"{phase}/probabilities"], row[f"{phase}/embeddings"] = runs[phase](batch)
            yield row

    found = unfinished.rows(kept, "answers", batches)
    asked = dict.fromkeys(first.values())
    joined = {phase: Answers(found[f"{phase}/probabilities"], found[f"{phase}/embeddings"]) for phase in asked}
    return {phase: joined[other] for phase, other in first.items()}


def _first(runs: Mapping[str, Predictor]) -> dict[str, str]:
    """Return for each phase the first one that has the same predictor, itself as a rule."""
    return {phase: next(other for other, same in runs.items() if same is run) for phase, run in runs.items()}


def corrupted(
    runs: Mapping[str, Predictor],
    image: schema.Image,
    split: manifest.Images,
    options: schema.Evaluate,
    kept: Path | None = None,
) -> robustness.Corrupted | None:
    """Return what each classifier takes corrupted images for; None where ``evaluate.robustness`` wants none.

    Args:
        runs, image, split, kept: as of ``answers``.
        options: the group ``evaluate``.
    """
    wanted, size = robustness.draws(split.hashes, options.robustness), options.batch_size
    if not wanted:
        return None
    first = _first(runs)
    classes = {phase: _classes(runs[phase]) for phase in first.values()}

    def batches(start: int) -> Iterator[dict[str, np.ndarray]]:
        places = robustness.places(wanted[start:])
        if not places:
            return
        pixels = manifest.pixels(image, [split.paths[n] for n in places], [split.hashes[n] for n in places], size)
        shown = console.track(pixels, "corrupted images", -(-len(places) // size), "batches")
        with devices.enough_memory("evaluate.batch_size", size):
            yield from robustness.answers(wanted[start:], shown, split.hashes, classes, size)

    found = unfinished.rows(kept, "corrupted", batches)
    return robustness.Corrupted(wanted, {phase: found[other] for phase, other in first.items()})


def _classes(predict: Predictor) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: predict(pixels)[0].argmax(axis=1)
