"""Write what a phase leaves of its images: probabilities by a model that has not learned from them, and embeddings.

``evaluate`` reads them, so that it needs no further pass over training images; ``phase2.unfreeze=auto`` goes by them.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw import paths, records
from thaw.classifier import model
from thaw.features import auto_unfreeze, embeddings, out_of_fold
from thaw.features.inputs import Inputs, clean
from thaw.images import manifest
from thaw.runtime.framework import keras, tf

AT_ONCE = 64  # images that go through thawed layers when these don't train
# Training images at most that pass thawed layers once more, for their embeddings. Of more classes, one of each.
THAWED = 5000


def phase1(
    inputs: Inputs, classifier: model.Classifier, train: manifest.Images, val: manifest.Images, seed: int
) -> None:
    """Write what is said of each image by a head that has not learned from it, and what ``auto`` makes of that.

    Args:
        inputs: of ``pooled``.
        classifier: its head is trained.
        seed: of the division of the training images into parts that are left out in turn.
    """
    rows, count = clean(inputs.train), len(classifier.card.classes)
    unfitted = out_of_fold.probabilities(rows, train.labels, count, seed, train.units)
    out_of_fold.save(paths.out_of_sample("train"), unfitted, len(train), count, half=True)
    by_head = out_of_fold.trained(clean(inputs.val), len(val), classifier.head)
    out_of_fold.save(paths.out_of_sample("val"), by_head, len(val), count)
    chosen = {"train": embeddings.by_class(train.labels), "val": embeddings.chosen(len(val))}
    for split, source in (("train", inputs.train), ("val", inputs.val)):
        some = chosen[split]
        embeddings.save(paths.embeddings(paths.PHASE1, split), some, [clean(source)(some)])
    some = auto_unfreeze.sample(train.labels, manifest.independent(train))
    # The head learns from the same images that are neighbours, or it would win by their number.
    features, labels = rows(some), train.labels[some]
    said = np.concatenate(list(out_of_fold.probabilities(lambda at: features[at], labels, count, auto_unfreeze.SEED)))
    records.write_json(paths.AUTO_DEPTH, asdict(auto_unfreeze.choose(features, said, labels, len(train))))


def phase2(inputs: Inputs, train: NDArray[np.integer[Any]], val: int, trained: keras.Model, folder: Path) -> None:
    """Write what a trained model makes of validation and training images, for evaluation.

    That is for each validation image the probabilities, ``paths.validation``: (val, classes) float32, rows that sum to
    1; and of both splits ``paths.embeddings``.

    Args:
        train: labels, (images,).
        val: the number of images.
        trained: of ``model.attach``: activations → logits.
        folder: the phase's.
    """
    signature = [tf.TensorSpec((None, *trained.input_shape[1:]), tf.float32)]
    both = keras.Model(trained.input, [trained.layers[-2].output, trained.output])  # pooled features, logits
    run = tf.function(lambda rows: both(rows, training=False), input_signature=signature)
    kept: list[np.ndarray] = []

    def logits(rows: np.ndarray) -> Any:
        pooled, answer = run(rows)
        kept.append(pooled.numpy().astype(np.float32))
        return answer

    chunks = out_of_fold.trained(clean(inputs.val), val, logits, AT_ONCE)
    out_of_fold.save(paths.validation(folder), chunks, val, trained.output_shape[-1])
    some = embeddings.chosen(val)
    embeddings.save(paths.embeddings(folder, "val"), some, [np.concatenate(kept)[some]])
    kept.clear()
    some = embeddings.by_class(train, max(THAWED, min(trained.output_shape[-1], embeddings.LIMIT)))
    for first in range(0, len(some), AT_ONCE):
        logits(clean(inputs.train)(some[first : first + AT_ONCE]))
    embeddings.save(paths.embeddings(folder, "train"), some, kept)
