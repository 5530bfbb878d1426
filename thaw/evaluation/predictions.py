"""The predictions of trained classifiers: probabilities and embeddings of images, and answers to corrupted ones."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from thaw import console, paths, records
from thaw.classifier import model
from thaw.config import schema
from thaw.evaluation import robustness
from thaw.images import manifest
from thaw.networks import freeze_boundaries
from thaw.runtime import devices
from thaw.runtime.framework import keras, tf
from thaw.tracking import unfinished

# (batch, size, size, 3) float32 in [0, 255] → the parts of ``Answers``
Predictor = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
Begin = Callable[[np.ndarray], tf.Tensor]  # the same → activations
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
    """Return the predictor of each classifier, the same one for the same classifier.

    The blocks that both phases' networks begin with, as far as their weights are the same, are run once for both where
    a batch is given to one and then to the other.
    """
    different = {id(classifier): classifier for classifier in of.values()}
    begin, ends = _shared(list(different.values()))
    made = {
        key: predictor(classifier, begin, end) for (key, classifier), end in zip(different.items(), ends, strict=True)
    }
    return {phase: made[id(classifier)] for phase, classifier in of.items()}


def _shared(classifiers: Sequence[model.Classifier]) -> tuple[Begin | None, list[keras.Model]]:
    """Return what runs the blocks that all backbones begin with, and the rest of each; None: all of it is the rest."""
    whole = [each.backbone for each in classifiers]
    first, *others = (each.card for each in classifiers)
    if not others or any((each.backbone, each.image) != (first.backbone, first.image) for each in others):
        return None, whole
    cuts = [freeze_boundaries.every(backbone) for backbone in whole]
    blocks = [_blocks(*each) for each in zip(whole, cuts, strict=True)]
    count = len(list(takewhile(lambda same: same[0] == same[1], zip(*blocks, strict=False))))
    if not count:
        return None, whole
    halves = [freeze_boundaries.split(backbone, own[count]) for backbone, own in zip(whole, cuts, strict=True)]
    return _Once(_compiled(halves[0][0])), [rest for _, rest in halves]


def _blocks(backbone: keras.Model, cuts: Sequence[freeze_boundaries.Boundary]) -> Iterator[list[str]]:
    """Yield for each block of a backbone its name and the hashes of its weights."""
    for cut, following in pairwise(cuts):
        layers = backbone.layers[1 + cut.frozen_layers : 1 + following.frozen_layers]
        yield [cut.block, *(model.sha256(variable) for layer in layers for variable in layer.weights)]


class _Once:
    """Runs a network on a batch, and not again where the next one is the same array."""

    def __init__(self, run: Begin) -> None:
        self.run, self.asked, self.found = run, np.empty(0), None

    def __call__(self, pixels: np.ndarray) -> tf.Tensor:
        if pixels is not self.asked:
            self.found, self.asked = self.run(pixels), pixels
        return self.found


def _compiled(network: keras.Model, after: Callable[[tf.Tensor], Any] = lambda values: values) -> Callable[..., Any]:
    """Return a network in inference mode, and what comes after it, as one graph.

    It is one also for a smaller last batch: to trace a second one takes a second.
    """
    signature = [tf.TensorSpec((None, *network.input_shape[1:]), tf.float32)]
    compiled: Callable[..., Any] = tf.function(
        lambda values: after(network(values, training=False)), input_signature=signature, autograph=False
    )
    return of_one_size(compiled) if devices.on_gpu() else compiled


def of_one_size(run: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with smaller batches filled up to the largest so far, by images that they have.

    On a GPU each number of images takes seconds the first time, in which cuDNN chooses how to compute.
    """
    most = 0

    def filled(values: Any) -> Any:
        nonlocal most
        count = len(values)
        most = max(most, count)
        if count == most:
            return run(values)
        rows = np.arange(most) % count
        return tf.nest.map_structure(lambda found: found[:count], run(tf.gather(values, rows)))

    return filled


def predictor(classifier: model.Classifier, begin: Begin | None = None, rest: keras.Model | None = None) -> Predictor:
    """Return a compiled function from pixels to probabilities and embeddings.

    Args:
        classifier: whose head it is.
        begin: what runs the backbone's first blocks; None: there is nothing before the rest.
        rest: of the backbone; None: all of it.
    """
    pool, head = classifier.pool, classifier.head

    def both(features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pooled = pool(features)
        return tf.nn.softmax(head(pooled, training=False)), pooled

    run = _compiled(rest or classifier.backbone, both)

    def predict(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows, pooled = (each.numpy() for each in run(begin(pixels) if begin else pixels))
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
