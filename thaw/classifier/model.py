"""The classifier, backbone and head in one: built, saved and loaded, and frozen and unfrozen."""

import hashlib
import math
import re
from collections import Counter
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from thaw import records
from thaw.catalog import backbones
from thaw.classifier import batch_norm
from thaw.classifier import head as heads
from thaw.config import schema
from thaw.networks import external, freeze_boundaries, pretrained
from thaw.runtime.framework import keras

WEIGHTS = "model.weights.h5"
CARD = "model.json"
PRETRAINED = "pretrained.json"
CARRIED = "backbone"  # folder: what a network from outside the table is built from
HDF5_BYTES = 4096  # an array's names and addresses at most; 2,000 were measured
BLOCKS = ("block", "layers", "parameters", "trained", "computation")  # columns of ``blocks``


@dataclass
class Card:
    """The description of a classifier: all that is needed, besides the weights, to build and to feed it again."""

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
    pretrained: dict[str, str]  # the hash of each of the backbone's weights as it came from its file, by path
    source: str = ""  # of a network from outside the table: the folder that it was built from

    @property
    def pool(self) -> keras.layers.Layer:
        """Return the pooling layer between backbone and head; it has no weights."""
        return heads.pool(self.card.head)


def build(card: Card, *, weights: str) -> Classifier:
    """Build a classifier with a new head.

    Args:
        card: its ``weights_sha256`` is not known before the backbone is built; the classifier's card has it.
        weights: where the backbone's come from, as ``backbone.weights`` in the configuration.
    """
    described = asdict(card.backbone) | {"weights": weights}
    backbone = pretrained.build(**described, size=card.image.size)
    sha256 = pretrained.weights_sha256(backbone, weights, sha256=card.backbone.sha256)
    return _with_head(backbone, replace(card, weights_sha256=sha256), fingerprint(backbone), weights)


def _with_head(backbone: keras.Model, card: Card, hashes: dict[str, str], source: str) -> Classifier:
    head = heads.build(card.head, backbone.output_shape[-1], len(card.classes))
    return Classifier(backbone, head, card, hashes, source)


def whole(classifier: Classifier) -> keras.Model:
    """Return the classifier as one model: (batch, size, size, 3) float32 in [0, 255] → (batch, classes) logits."""
    return attach(classifier.backbone, classifier)


def attach(part: keras.Model, classifier: Classifier) -> keras.Model:
    """Put pooling and head on the backbone or on its unfrozen end. How it behaves in training is
    ``thaw.classifier.batch_norm``'s.
    """
    inputs = keras.Input(part.input_shape[1:], name="input")
    features = classifier.pool(part(inputs, training=False))
    return keras.Model(inputs, classifier.head(features), name="classifier")


def thaw(
    classifier: Classifier, boundary: freeze_boundaries.Boundary, policy: str = "inference"
) -> tuple[keras.Model, keras.Model]:
    """Cut the classifier at a boundary and set what may be trained.

    Args:
        policy: ``phase2.batch_norm``, of the BatchNorm layers behind the cut.

    Returns:
        The frozen part, images → activations at the boundary, and the trainable rest, activations → logits.

    Raises:
        ValueError: nothing behind the boundary can be trained.
    """
    frozen, thawed = freeze_boundaries.split(classifier.backbone, boundary)
    frozen.trainable = False
    trained = batch_norm.trained_by(thawed, policy)
    if boundary.thawed_layers and not trained.trainable_variables:
        raise ValueError(
            f"phase2.unfreeze: expected weights that can be trained ({boundary.describe()}), received none: of "
            f"{classifier.backbone.name}, what is unfrozen was saved as not trainable; set phase2.unfreeze=none"
        )
    if boundary.variables:
        _only(thawed, boundary.variables)
    return frozen, attach(trained, classifier)


def _only(thawed: keras.Model, pattern: str) -> None:
    """Freeze all trainable variables but those whose path contains the pattern."""
    found = [variable for variable in thawed.trainable_variables if re.search(pattern, variable.path)]
    if not found:
        paths = ", ".join(variable.path for variable in thawed.trainable_variables[:5])
        raise ValueError(f"phase2.unfreeze: expected a pattern of variables like {paths}, received {pattern!r}")
    for variable in thawed.trainable_variables:
        variable.trainable = any(variable is one for one in found)


def depths(classifier: Classifier) -> dict[str, int]:
    """Return for each of the backbone's variables, by path, how many blocks from the top it lies."""
    return freeze_boundaries.depths(classifier.backbone)


def fingerprint(backbone: keras.Model) -> dict[str, str]:
    """Return the hash of every weight of the backbone, by path.

    Raises:
        ValueError: two weights have one path, so that none could stand for the other.
    """
    times = Counter(variable.path for variable in backbone.weights)
    if twice := [path for path, count in times.items() if count > 1]:
        raise ValueError(
            f"{backbone.name}: expected weights with a path each, received {twice[0]} {times[twice[0]]} times; give "
            "the layers inside of other layers names of their own"
        )
    return {variable.path: sha256(variable) for variable in backbone.weights}


def blocks(classifier: Classifier, trained: keras.Model, *, moved: bool = True) -> list[dict[str, Any]]:
    """Return a row for each block of the backbone: its layers and parameters, and how many of them were trained.

    Args:
        trained: its trainable variables were.
        moved: whether training is kept; else all is as it was pretrained.
    """
    free = {id(variable) for variable in trained.trainable_variables} if moved else set()
    rows = []
    for cut, following in pairwise(freeze_boundaries.every(classifier.backbone)):
        layers = classifier.backbone.layers[1 + cut.frozen_layers : 1 + following.frozen_layers]
        variables = [variable for layer in layers for variable in layer.weights]
        sizes = {id(variable): math.prod(variable.shape) for variable in variables}
        rows.append(
            {
                "block": cut.block,
                "layers": len(layers),
                "parameters": sum(sizes.values()),
                "trained": sum(size for key, size in sizes.items() if key in free),
                "computation": round(cut.share - following.share, 4),
            }
        )
    return rows


def write_blocks(path: Path, classifier: Classifier, trained: keras.Model, *, moved: bool) -> None:
    """Write what ``blocks`` gives."""
    records.write_csv(path, BLOCKS, blocks(classifier, trained, moved=moved))


def sha256(variable: keras.Variable) -> str:
    """Return the hash of a weight's numbers."""
    return hashlib.sha256(np.ascontiguousarray(variable.numpy()).tobytes()).hexdigest()


def save(folder: Path, classifier: Classifier) -> None:
    """Write weights, card and pretrained hashes into a new folder; the same weights always give the same bytes.

    Raises:
        OSError: the disk is full.
    """
    records.make_new(folder)
    network = whole(classifier)
    with records.replaced(folder / WEIGHTS) as part:
        size = sum(variable.value.dtype.size * math.prod(variable.shape) for variable in network.variables)
        # HDF5 ends the process where the disk is full. Besides the numbers it keeps some names for each array.
        records.check_room(part, size + len(network.variables) * HDF5_BYTES)
        network.save_weights(part)
    records.write_json(folder / CARD, asdict(classifier.card))
    records.write_json(folder / PRETRAINED, classifier.pretrained)
    external.carry(classifier.card.backbone.name, classifier.source, folder / CARRIED)


def load(folder: Path) -> Classifier:
    """Load a classifier that ``save`` wrote.

    Raises:
        ValueError: the folder holds no classifier.
    """
    if not (folder / CARD).is_file():
        raise ValueError(f"{folder}: expected {CARD} and {WEIGHTS}, found no {CARD}; run `dvc repro` first")
    card = _card(records.read_json(folder / CARD))
    described, size, carried = card.backbone, card.image.size, str(folder / CARRIED)
    if described.name in backbones.FOREIGN:
        backbone = external.build(described.name, carried, size, described.builder, described.pixels, pretrained=False)
    else:
        backbone = pretrained.graph(described.name, size)
    classifier = _with_head(backbone, card, records.read_json(folder / PRETRAINED), carried)
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
