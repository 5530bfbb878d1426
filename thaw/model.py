"""The classifier: backbone and head in one, written to and read from disk, and what of it is trained."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thaw import backbone as backbones
from thaw import batch_norm, boundaries, records, schema
from thaw import head as heads
from thaw.framework import keras

WEIGHTS = "model.weights.h5"
CARD = "model.json"


@dataclass
class Card:
    """All that is needed, besides the weights, to build the classifier again and to feed it."""

    backbone: schema.Backbone
    weights_sha256: str  # of the pretrained weights the backbone started from
    image: schema.Image
    head: schema.Head
    classes: list[str]


@dataclass
class Classifier:
    """The parts of a classifier; they share their variables with whatever is composed of them."""

    backbone: keras.Model  # (batch, size, size, 3) float32 in [0, 255] → (batch, height, width, channels)
    head: keras.Model  # (batch, channels) → (batch, classes) logits
    card: Card

    @property
    def pool(self) -> keras.layers.Layer:
        """The layer between the two; it has no weights."""
        return heads.pool(self.card.head)


def build(card: Card, *, weights: str) -> Classifier:
    """A classifier with a new head.

    Args:
        weights: where the backbone's come from, as ``backbone.weights`` in the configuration.
    """
    size = card.image.size
    backbone = backbones.build(card.backbone.name, weights, size, card.backbone.sha256)
    return Classifier(backbone, heads.build(card.head, backbone.output_shape[-1], len(card.classes)), card)


def whole(classifier: Classifier) -> keras.Model:
    """(batch, size, size, 3) float32 in [0, 255] → (batch, classes) logits."""
    return attach(classifier.backbone, classifier)


def attach(part: keras.Model, classifier: Classifier) -> keras.Model:
    """Pooling and head on the backbone or on its thawed end. How it behaves in training is ``thaw.batch_norm``'s."""
    inputs = keras.Input(part.input_shape[1:], name="input")
    features = classifier.pool(part(inputs, training=False))
    return keras.Model(inputs, classifier.head(features), name="classifier")


def thaw(
    classifier: Classifier, boundary: boundaries.Boundary, policy: str = "inference"
) -> tuple[keras.Model, keras.Model]:
    """Cut the classifier at a boundary and set what may be trained.

    Args:
        policy: ``phase2.batch_norm``, of the BatchNorm layers behind the cut.

    Returns:
        The frozen part, images → activations at the boundary, and the trainable rest, activations → logits.
    """
    frozen, thawed = boundaries.split(classifier.backbone, boundary)
    frozen.trainable = False
    return frozen, attach(batch_norm.trained_by(thawed, policy), classifier)


def witness(classifier: Classifier, trained: keras.Model, policy: str = "inference") -> dict[str, str]:
    """The hash of every weight that training ``trained`` must not touch, by path.

    These are all of the backbone that ``trained`` has no gradient for, and what the BatchNorm policy promises to keep,
    even if something has set it trainable. Under ``train`` the statistics in ``trained`` are free to move.
    """
    free = {id(variable) for variable in trained.trainable_variables}
    if policy == "train":
        free |= {id(variable) for variable in batch_norm.statistics(trained)}
    free -= {id(variable) for variable in batch_norm.held(classifier.backbone, policy)}
    kept = (variable for variable in classifier.backbone.variables if id(variable) not in free)
    return {variable.path: _sha256(variable) for variable in kept}


def check(classifier: Classifier, before: dict[str, str]) -> None:
    """Prove that what was frozen is bit-identical.

    Raises:
        RuntimeError: a frozen weight has changed. This is a fault of the program, not of its user.
    """
    now = {variable.path: _sha256(variable) for variable in classifier.backbone.variables if variable.path in before}
    changed = [path for path, sha256 in before.items() if now[path] != sha256]
    if changed:
        raise RuntimeError(
            f"{len(changed)} frozen weights changed in training, {changed[0]} first; please report this"
        )


def _sha256(variable: keras.Variable) -> str:
    return hashlib.sha256(np.ascontiguousarray(variable.numpy()).tobytes()).hexdigest()


def save(folder: Path, classifier: Classifier) -> None:
    """Write weights and card; the same weights always give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    whole(classifier).save_weights(folder / WEIGHTS)
    records.write_json(folder / CARD, asdict(classifier.card))


def load(folder: Path) -> Classifier:
    """Read what ``save`` wrote.

    Raises:
        ValueError: the folder holds no classifier.
    """
    if not (folder / CARD).is_file():
        raise ValueError(f"{folder}: expected {CARD} and {WEIGHTS}, found no {CARD}; run `dvc repro` first")
    classifier = build(_card(records.read_json(folder / CARD)), weights="random")
    whole(classifier).load_weights(folder / WEIGHTS)
    return classifier


def _card(record: dict[str, Any]) -> Card:
    return Card(
        backbone=schema.Backbone(**record["backbone"]),
        weights_sha256=record["weights_sha256"],
        image=schema.Image(**record["image"]),
        head=schema.Head(**record["head"]),
        classes=record["classes"],
    )
