from pathlib import Path

import numpy as np
import pytest

from thaw.classifier import frozen_weights, model
from thaw.config import schema
from thaw.config.unfreeze import UnfreezeSpec
from thaw.networks import freeze_boundaries
from thaw.runtime.framework import keras

IMAGE = schema.Image(32, "squash", "bilinear", antialias=True)
HEAD = schema.Head(pooling="avg", units=[8], dropout=[0.5], l2=0)
PIXELS = np.random.default_rng(0).uniform(0, 255, (6, 32, 32, 3)).astype(np.float32)
LABELS = np.arange(6) % 3


def built(name: str = "efficientnet_lite0") -> model.Classifier:
    card = model.Card(schema.Backbone(name, "random", "", "", ""), "0" * 64, IMAGE, HEAD, ["ant", "bee", "cow"])
    return model.build(card, weights="random")


def logits(classifier: model.Classifier) -> np.ndarray:
    return np.asarray(model.whole(classifier)(PIXELS, training=False))


def trained(thawed: keras.Model, inputs: np.ndarray, steps: int = 3) -> None:
    """Some real training, at a rate that moves whatever can move."""
    thawed.compile(keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    thawed.fit(inputs, LABELS, batch_size=3, epochs=steps, verbose=0)


def arrays(classifier: model.Classifier) -> dict[str, np.ndarray]:
    return {variable.path: variable.numpy() for variable in classifier.backbone.variables}


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v2"])
def test_what_is_saved_is_what_is_loaded(tmp_path: Path, name: str) -> None:
    classifier = built(name)
    for variable in classifier.backbone.variables:  # so that random weights built anew would not do
        variable.assign(variable + 0.01)
    model.save(tmp_path / "one", classifier)
    loaded = model.load(tmp_path / "one")
    assert loaded.card == classifier.card
    np.testing.assert_array_equal(logits(loaded), logits(classifier))
    model.save(tmp_path / "two", loaded)
    model.save(tmp_path / "three", classifier)
    for file in (model.WEIGHTS, model.CARD, model.PRETRAINED):
        first = (tmp_path / "one" / file).read_bytes()
        assert (tmp_path / "two" / file).read_bytes() == first
        assert (tmp_path / "three" / file).read_bytes() == first


def test_a_folder_without_a_classifier_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected model\.json and model\.weights\.h5, found no model\.json"):
        model.load(tmp_path)


def test_the_whole_is_backbone_pooling_and_head() -> None:
    classifier = built()
    maps = np.asarray(classifier.backbone(PIXELS, training=False))
    expected = classifier.head(maps.mean(axis=(1, 2)), training=False)
    np.testing.assert_allclose(logits(classifier), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v2"])
@pytest.mark.parametrize("unfreeze", ["1", "40", "all"])
def test_trainable_is_what_lies_behind_the_cut_but_for_batch_norm(name: str, unfreeze: str) -> None:
    classifier = built(name)
    cut = freeze_boundaries.find(classifier.backbone, UnfreezeSpec.parse(unfreeze))
    frozen, thawed = model.thaw(classifier, cut)
    behind = classifier.backbone.layers[1 + cut.frozen_layers :]
    expected = [
        variable.path
        for layer in behind
        if not isinstance(layer, keras.layers.BatchNormalization)
        for variable in layer.weights
    ]
    expected += [variable.path for variable in classifier.head.trainable_variables]
    assert len(expected) > 4
    assert sorted(variable.path for variable in thawed.trainable_variables) == sorted(expected)
    assert frozen.trainable_variables == []
    np.testing.assert_allclose(thawed(frozen(PIXELS), training=False), logits(classifier), atol=1e-5)


@pytest.mark.parametrize("unfreeze", ["40", "all"])
def test_training_moves_all_that_is_thawed_and_nothing_else(unfreeze: str) -> None:
    classifier = built()
    frozen, thawed = model.thaw(classifier, freeze_boundaries.find(classifier.backbone, UnfreezeSpec.parse(unfreeze)))
    witness = frozen_weights.witness(classifier, thawed)
    before, head = arrays(classifier), classifier.head.get_weights()
    trained(thawed, np.asarray(frozen(PIXELS)))
    frozen_weights.check(classifier, witness)
    after = arrays(classifier)
    moved = {path for path in before if not np.array_equal(before[path], after[path])}
    free = {variable.path for variable in thawed.trainable_variables}
    assert moved == free & set(before)
    assert not any("_bn/" in path for path in moved)
    assert {path for path in before if "moving_" in path} <= set(witness)
    assert set(witness) == set(before) - moved
    assert any(not np.array_equal(one, two) for one, two in zip(head, classifier.head.get_weights(), strict=True))


def test_phase_one_trains_the_head_and_leaves_the_backbone() -> None:
    classifier = built()
    witness = frozen_weights.witness(classifier, classifier.head)
    assert len(witness) == len(classifier.backbone.weights)
    trained(classifier.head, np.asarray(classifier.pool(classifier.backbone(PIXELS, training=False))))
    frozen_weights.check(classifier, witness)


@pytest.mark.parametrize("name", ["stem_conv/kernel", "moving_mean", "moving_variance", "gamma"])
def test_a_frozen_weight_that_changed_is_found(name: str) -> None:
    classifier = built()
    _, thawed = model.thaw(classifier, freeze_boundaries.find(classifier.backbone, UnfreezeSpec.parse("40")))
    witness = frozen_weights.witness(classifier, thawed)
    # The last one of that name: BatchNorm behind the cut must stay as it is too.
    changed = next(variable for variable in reversed(classifier.backbone.variables) if variable.path.endswith(name))
    value = changed.numpy()
    value.flat[0] = np.nextafter(value.flat[0], np.float32(9))
    changed.assign(value)
    with pytest.raises(RuntimeError, match=rf"1 frozen weights changed in training, .*{changed.path} first"):
        frozen_weights.check(classifier, witness)


def test_the_witness_is_the_pretrained_network_as_it_came_from_its_file(tmp_path: Path) -> None:
    classifier = built()
    moved = classifier.backbone.variables[0]  # before phase 2 has begun
    moved.assign(moved + 1)
    model.save(tmp_path, classifier)
    loaded = model.load(tmp_path)
    _, thawed = model.thaw(loaded, freeze_boundaries.find(loaded.backbone, UnfreezeSpec.parse("40")))
    with pytest.raises(RuntimeError, match=rf"1 frozen weights changed in training, {moved.path} first"):
        frozen_weights.check(loaded, frozen_weights.witness(loaded, thawed))


def test_a_backbone_that_is_not_as_it_was_pretrained_is_not_loaded_for_training(tmp_path: Path) -> None:
    classifier = built()
    model.save(tmp_path, classifier)
    assert frozen_weights.load_untrained(tmp_path).card == classifier.card
    moved = classifier.backbone.variables[0]
    moved.assign(moved + 1)
    model.save(tmp_path, classifier)
    with pytest.raises(
        ValueError, match=rf"received 1 others, {moved.path} first; run `dvc repro --force phase1_head`"
    ):
        frozen_weights.load_untrained(tmp_path)


def test_where_training_is_not_kept_every_block_is_a_frozen_one() -> None:
    classifier = built()
    _, thawed = model.thaw(classifier, freeze_boundaries.find(classifier.backbone, UnfreezeSpec.parse("all")))
    assert all(row["trained"] > 0 for row in model.blocks(classifier, thawed))
    assert not any(row["trained"] for row in model.blocks(classifier, thawed, moved=False))


def test_frozen_and_trained_weights_are_all_weights() -> None:
    classifier = built()
    _, thawed = model.thaw(classifier, freeze_boundaries.find(classifier.backbone, UnfreezeSpec.parse("40")))
    _, other = model.thaw(built(), freeze_boundaries.find(classifier.backbone, UnfreezeSpec.parse("40")))
    with pytest.raises(RuntimeError, match=r"to be the 245 pretrained ones, received 245 frozen and \d+ trained"):
        frozen_weights.witness(classifier, other)
    classifier.pretrained.pop(classifier.backbone.variables[0].path)
    with pytest.raises(RuntimeError, match="expected frozen and trained weights to be the 244 pretrained ones"):
        frozen_weights.witness(classifier, thawed)


def test_the_blocks_add_up_to_the_backbone() -> None:
    classifier = built()
    frozen, thawed = model.thaw(
        classifier, freeze_boundaries.find(classifier.backbone, UnfreezeSpec.parse("block_7a"))
    )
    rows = model.blocks(classifier, thawed)
    assert tuple(rows[0]) == model.BLOCKS
    assert sum(row["parameters"] for row in rows) == classifier.backbone.count_params()
    assert sum(row["layers"] for row in rows) == len(classifier.backbone.layers) - 1
    assert [row["block"] for row in rows if row["trained"]] == ["block_7a", "top"]
    kernels = {"block_7a": 192 * 1152 + 3 * 3 * 1152 + 1152 * 320, "top": 320 * 1280}
    assert {row["block"]: row["trained"] for row in rows if row["trained"]} == kernels
    assert [row["trained"] for row in model.blocks(classifier, classifier.head)] == [0] * len(rows)
    assert frozen.count_params() == sum(row["parameters"] for row in rows[:-2])
