from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests import small_network
from thaw.catalog import backbones
from thaw.classifier import batch_norm, frozen_weights, model
from thaw.config import load, phases, schema
from thaw.config.unfreeze import UnfreezeSpec
from thaw.exports import write
from thaw.networks import freeze_boundaries
from thaw.runtime.framework import keras
from thaw.training import fit, fit_settings, mixing

ROOT = Path(__file__).resolve().parents[2]
IMAGE = schema.Image(32, "squash", "bilinear", antialias=True)
HEAD = schema.Head(pooling="avg", units=[], dropout=[], l2=0)
PIXELS = np.random.default_rng(0).uniform(0, 255, (6, 32, 32, 3)).astype(np.float32)
LABELS = np.arange(6) % 3
AFFINE, STATISTICS = {"gamma", "beta"}, {"moving_mean", "moving_variance"}


def built(backbone: schema.Backbone) -> model.Classifier:
    card = model.Card(backbone, "0" * 64, IMAGE, HEAD, ["ant", "bee", "cow"])
    return model.build(card, weights="random")


def thawed(
    policy: str, unfreeze: str = "10", backbone: schema.Backbone = small_network.BACKBONE
) -> tuple[model.Classifier, np.ndarray, keras.Model, dict[str, str]]:
    classifier = built(backbone)
    frozen, rest = model.thaw(
        classifier, freeze_boundaries.find(classifier.backbone, UnfreezeSpec.parse(unfreeze)), policy
    )
    return classifier, np.asarray(frozen(PIXELS)), rest, frozen_weights.witness(classifier, rest, policy)


def train(rest: keras.Model, inputs: np.ndarray) -> None:
    """Some real training, at a rate that moves whatever can move."""
    rest.compile(keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rest.fit(inputs, LABELS, batch_size=3, epochs=3, verbose=0)


def arrays(classifier: model.Classifier) -> dict[str, np.ndarray]:
    return {variable.path: variable.numpy() for variable in classifier.backbone.variables}


@pytest.mark.parametrize(
    ("policy", "unfreeze", "moving"),
    [
        ("inference", "10", set()),
        ("trainable_affine", "10", AFFINE),
        ("train", "10", AFFINE | STATISTICS),
        ("train", "all", AFFINE | STATISTICS),
    ],
)
def test_each_policy_moves_its_part_of_the_thawed_layers_and_nothing_of_the_frozen(
    policy: str, unfreeze: str, moving: set[str]
) -> None:
    classifier, inputs, rest, witness = thawed(policy, unfreeze)
    before = arrays(classifier)
    train(rest, inputs)
    frozen_weights.check(classifier, witness)
    after = arrays(classifier)
    moved = {path for path in before if not np.array_equal(before[path], after[path])}
    behind = {
        variable.path
        for layer in classifier.backbone.layers[
            1 + freeze_boundaries.find(classifier.backbone, UnfreezeSpec.parse(unfreeze)).frozen_layers :
        ]
        for variable in layer.variables
    }
    names = moving | {"kernel", "bias"}
    assert moved == {path for path in behind if path.rsplit("/", 1)[1] in names}
    assert set(witness) == set(before) - moved


def test_the_policies_tested_are_those_of_the_schema() -> None:
    assert phases.BATCH_NORMS == ("inference", "trainable_affine", "train")


@pytest.mark.parametrize("policy", phases.BATCH_NORMS)
def test_the_witness_holds_each_policy_to_its_word(policy: str) -> None:
    classifier, _, _, witness = thawed(policy)
    norms = batch_norm.norms(classifier.backbone)
    places = ((norms[0], False), (norms[-1], True))
    for (layer, is_thawed), name in product(places, ("moving_mean", "moving_variance", "gamma", "beta")):
        variable = getattr(layer, name)
        free = is_thawed and (policy == "train" or (policy == "trainable_affine" and name in AFFINE))
        assert (variable.path not in witness) == free
        if not free:
            before = variable.numpy()
            variable.assign(np.nextafter(before, np.float32(9)))
            with pytest.raises(RuntimeError, match=rf"1 frozen weights changed in training, {variable.path} first"):
                frozen_weights.check(classifier, witness)
            variable.assign(before)
    frozen_weights.check(classifier, witness)


def test_what_is_set_trainable_against_the_policy_is_found() -> None:
    classifier, inputs, rest, _ = thawed("inference")
    batch_norm.norms(classifier.backbone)[-1].trainable = True
    witness = frozen_weights.witness(classifier, rest, "inference")
    train(rest, inputs)
    with pytest.raises(RuntimeError, match="2 frozen weights changed"):
        frozen_weights.check(classifier, witness)


@pytest.mark.parametrize("policy", ["inference", "trainable_affine"])
def test_by_pretrained_statistics_training_computes_what_a_test_does(policy: str) -> None:
    _, inputs, rest, _ = thawed(policy)
    np.testing.assert_array_equal(rest(inputs, training=True), rest(inputs, training=False))


@pytest.mark.parametrize("policy", phases.BATCH_NORMS)
def test_nothing_is_dropped_at_random(policy: str) -> None:
    pixels = keras.Input((8, 8, 3))
    values = keras.layers.Conv2D(4, 3, name="conv")(pixels)
    values = keras.layers.Dropout(0.9, name="drop")(values)
    part = keras.Model(pixels, keras.layers.BatchNormalization(name="bn", momentum=0.0)(values))
    trained = batch_norm.trained_by(part, policy)
    inputs = PIXELS[:, :8, :8]
    np.testing.assert_array_equal(trained(inputs, training=True), trained(inputs, training=True))
    assert [variable.path for variable in trained.weights] == [
        variable.path for variable in part.weights if "seed" not in variable.path
    ]
    means, values = np.asarray(part.get_layer("conv")(inputs)).mean(axis=(0, 1, 2)), trained(inputs, training=True)
    np.testing.assert_allclose(part.get_layer("bn").moving_mean, means * (policy == "train"), rtol=1e-4, atol=1e-4)
    is_normalised = np.allclose(np.asarray(values).mean(axis=(0, 1, 2)), 0, atol=1e-4)
    assert is_normalised == (policy == "train")


@pytest.mark.parametrize("policy", ["trainable_affine", "train"])
def test_what_moved_is_saved_loaded_and_exported_and_used_in_inference_mode(tmp_path: Path, policy: str) -> None:
    classifier, inputs, rest, _ = thawed(policy)
    train(rest, inputs)
    expected = np.asarray(rest(inputs, training=False))
    model.save(tmp_path / "model", classifier)
    loaded = model.load(tmp_path / "model")
    moved = arrays(loaded)
    for path, array in arrays(classifier).items():
        np.testing.assert_array_equal(moved[path], array)
    np.testing.assert_allclose(model.whole(loaded)(PIXELS, training=False), expected, rtol=1e-4, atol=1e-4)

    write.write(tmp_path / "exported", loaded, ["keras"])
    deployed = keras.models.load_model(next((tmp_path / "exported").glob("*.keras")))
    pixels = PIXELS.astype(np.uint8)
    together = np.asarray(deployed(pixels, training=False))
    # One image alone would be another if its own statistics counted.
    np.testing.assert_allclose(deployed(pixels[:1], training=False), together[:1], atol=1e-5)
    likelihood = keras.ops.softmax(model.whole(classifier)(pixels.astype(np.float32), training=False))
    np.testing.assert_allclose(together, likelihood, atol=1e-4)


def test_statistics_go_back_with_the_weights_where_no_epoch_was_better() -> None:
    lite = schema.Backbone("efficientnet_lite0", "random", "", "", "")  # a small network would learn from six images
    classifier, inputs, rest, _ = thawed("train", "40", lite)
    before = arrays(classifier)
    project = load.check(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))
    settings = replace(project.phase2, epochs=1, learning_rate=1.0, allow_high_rate=True, schedule="constant")
    train, val = (
        mixing.Mixed(lambda indices, _: inputs[indices], LABELS, 3, classes=3, alpha=0, seed=seed)
        for seed in (0, None)
    )
    history = fit.fit(rest, train, val, fit_settings.phase2(settings, 12), lambda *_: None, "test")
    assert history.best == 0
    for path, array in arrays(classifier).items():
        np.testing.assert_array_equal(array, before[path])


QUICK = ("mobilenet_v3_small", "resnet50", "efficientnet_b0", "convnext_tiny")


@pytest.mark.parametrize(
    ("name", "everywhere"),
    [
        *((name, False) for name in QUICK),  # at the first cut, in the middle and at the last
        *(pytest.param(name, name in QUICK, marks=pytest.mark.slow) for name in backbones.ROWS),
    ],
)
def test_wherever_a_network_is_cut_training_its_batch_norm_leaves_it_the_same_network(
    name: str, everywhere: bool
) -> None:
    image = replace(IMAGE, size=backbones.ROWS[name].smallest)
    card = model.Card(schema.Backbone(name, "random", "", "", ""), "", image, HEAD, ["ant", "bee"])
    classifier = model.build(card, weights="random")
    cuts = freeze_boundaries.every(classifier.backbone)[:-1]
    some = range(len(cuts)) if everywhere else {0, len(cuts) // 2, len(cuts) - 1}
    for cut in (cuts[number] for number in some):
        frozen, rest = model.thaw(classifier, cut, "train")
        inputs = np.random.default_rng(0).normal(size=(1, *frozen.output_shape[1:])).astype("float32")
        expected = np.asarray(model.thaw(classifier, cut)[1](inputs, training=False))
        np.testing.assert_allclose(
            rest(inputs, training=False), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
        )


@keras.saving.register_keras_serializable()
class Dropping(keras.layers.Layer):  # type: ignore[misc]
    """Computes something, has no weights, and draws at random in training."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = keras.layers.Dropout(0.5)

    def call(self, tensor: Any, scale: Any = 1.0, shift: Any = None, training: Any = None) -> Any:
        return self.drop(keras.ops.relu(tensor * scale - (0 if shift is None else shift)), training=training)


class Counting(keras.layers.Layer):  # type: ignore[misc]
    """Counts its trainings."""

    def build(self, _shape: Any) -> None:
        self.times = self.add_weight(shape=(), initializer="zeros", trainable=False, name="times")

    def call(self, tensor: Any, training: Any = None) -> Any:
        if training:
            self.times.assign_add(1.0)
        return tensor + self.times


def test_where_batch_norm_trains_all_else_is_computed_as_in_inference() -> None:
    given = keras.Input((8, 8, 3))
    tensor = keras.layers.BatchNormalization(name="norm")(given)
    tensor = Counting()(Dropping()(tensor, scale=2.0, shift=keras.ops.mean(tensor, axis=-1, keepdims=True)))
    part = keras.Model(given, keras.layers.Conv2D(2, 3)(tensor))
    trained = batch_norm.trained_by(part, "train")
    inputs = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(trained(inputs, training=False), part(inputs, training=False), rtol=1e-5, atol=1e-6)
    # In a batch of the norm's own mean and variance training says what inference says.
    mean, variance = inputs.mean((0, 1, 2)), inputs.var((0, 1, 2))
    part.get_layer("norm").set_weights([np.ones(3), np.zeros(3), mean, variance])
    expected = np.asarray(part(inputs, training=False))
    np.testing.assert_allclose(trained(inputs, training=True), expected, rtol=1e-3, atol=1e-4)
    assert part.layers[-2].times == 0
