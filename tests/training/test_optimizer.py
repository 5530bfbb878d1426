from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from thaw.catalog import backbones
from thaw.config import load
from thaw.networks import freeze_boundaries, pretrained
from thaw.runtime.framework import keras
from thaw.training import fit, fit_settings, mixing, optimizer

ROOT = Path(__file__).resolve().parents[2]
PROJECT = load.check(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))
PHASE2 = fit_settings.phase2(PROJECT.phase2, 4096)
LABELS = np.arange(24) % 3
POINTS = (np.eye(3)[LABELS] * 3 + np.random.default_rng(0).normal(size=(24, 3))).astype(np.float32)
NAMES = ("low", "middle", "high", "logits")  # three blocks and the head
DEPTHS = {f"{name}/{part}": 3 - number for number, name in enumerate(NAMES[:3]) for part in ("kernel", "bias")}


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    values = inputs = keras.Input((3,))
    for name in NAMES:
        values = keras.layers.Dense(3, name=name)(values)
    return keras.Model(inputs, values)


def arrays(model: keras.Model) -> dict[str, np.ndarray]:
    return {variable.path: variable.numpy() for variable in model.variables}


def step(optimizer: keras.Optimizer, model: keras.Model | None = None) -> dict[str, np.ndarray]:
    """By how much each variable moves in one step on all points."""
    model = model or network()
    before = arrays(model)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    model.fit(POINTS, LABELS, batch_size=24, epochs=1, verbose=0)
    return {path: array - before[path] for path, array in arrays(model).items()}


def fitted(model: keras.Model, **changes: Any) -> fit.History:
    settings = replace(
        PHASE2,
        learning_rate=0.01,
        schedule="constant",
        warmup=0,
        average_epochs=0,
        patience=1000,
        precision="float32",
        **changes,
    )
    train, val = (
        mixing.Mixed(lambda indices, _: POINTS[indices], LABELS, 8, classes=3, alpha=0, seed=seed)
        for seed in (0, None)
    )
    return fit.fit(model, train, val, settings, lambda *_: None, "test", DEPTHS)


def test_a_block_moves_as_far_as_its_depth_says() -> None:
    plain = step(keras.optimizers.Adam(0.01))
    by_depth = step(optimizer.ByDepth(0.01, DEPTHS, 0.5, 0))
    assert len(plain) == 8
    for path, moved in plain.items():
        # Adam's first step is the rate, in the direction of the gradient; what is left is the rounding of the weights.
        np.testing.assert_allclose(by_depth[path], moved * 0.5 ** DEPTHS.get(path, 0), rtol=1e-3, atol=1e-7)
        assert np.abs(moved).max() == pytest.approx(0.01, rel=1e-2)


def test_where_nothing_is_asked_for_the_optimiser_is_keras_own() -> None:
    asked = (replace(PHASE2, weight_decay=0.1), replace(PHASE2, layer_decay=0.9))
    assert [type(optimizer.optimiser(settings, 0.1, DEPTHS, [], 3)) for settings in (PHASE2, *asked)] == [
        *[keras.optimizers.Adam] * 2,
        optimizer.ByDepth,
    ]


def test_with_all_options_at_nothing_the_steps_are_adams() -> None:
    nothing = step(optimizer.ByDepth(0.01, DEPTHS, 1, 0))
    for path, moved in step(keras.optimizers.Adam(0.01)).items():
        np.testing.assert_array_equal(nothing[path], moved)


@pytest.mark.parametrize("own", [False, True])
def test_the_decay_of_kernels_is_adamw(own: bool) -> None:
    reference = keras.optimizers.AdamW(0.01, weight_decay=0.5)
    reference.exclude_from_weight_decay(var_names=["bias"])
    expected, plain = step(reference), step(keras.optimizers.Adam(0.01))
    settings = replace(PHASE2, weight_decay=0.5, layer_decay=1, average_epochs=0)
    model = network()
    asked = optimizer.optimiser(settings, 0.01, DEPTHS, model.trainable_variables, 1)
    ours = step(optimizer.ByDepth(0.01, DEPTHS, 1, 0.5)) if own else step(asked, model)
    for path, moved in expected.items():
        np.testing.assert_allclose(ours[path], moved, atol=1e-7 if own else 0)
        assert np.array_equal(ours[path], plain[path]) == path.endswith("bias")


def test_the_decay_of_a_block_follows_its_rate() -> None:
    with_decay, without = (step(optimizer.ByDepth(0.01, DEPTHS, 0.5, decay)) for decay in (0.5, 0))
    for path, weights in arrays(network()).items():
        expected = -0.5 * 0.01 * 0.5 ** DEPTHS.get(path, 0) * weights * (weights.ndim > 1)
        np.testing.assert_allclose(with_decay[path] - without[path], expected, atol=1e-7)


def test_phase_2_trains_with_the_rates_that_it_is_given() -> None:
    moved = {}
    for decay in (1, 0.1):
        model = network()
        before = arrays(model)
        fitted(model, epochs=1, layer_decay=decay)
        moved[decay] = {path: np.abs(array - before[path]).mean() for path, array in arrays(model).items()}
    for path, distance in moved[0.1].items():
        # Three steps; the gradients differ a little after the first.
        assert distance == pytest.approx(moved[1][path] * 0.1 ** DEPTHS.get(path, 0), rel=0.2)


# One of each kind that is small enough; the rest takes minutes.
QUICK = ("efficientnet_lite0", "mobilenet", "mobilenet_v2", "mobilenet_v3_small", "vgg16")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in backbones.ROWS]
)
def test_every_variable_of_a_backbone_has_the_depth_of_its_block(name: str) -> None:
    network = pretrained.build(name, "random", backbones.ROWS[name].smallest)
    depths, cuts = freeze_boundaries.depths(network), freeze_boundaries.every(network)
    assert set(depths) == {variable.path for variable in network.variables}
    blocks = [cut.block for cut in cuts[:-1]]
    for cut in cuts[:-1]:
        inside = network.layers[1 + cut.frozen_layers].variables
        assert {depths[variable.path] for variable in inside} <= {len(blocks) - blocks.index(cut.block)}
    assert {depths[variable.path] for variable in network.variables[-4:]} <= {1, 2}
    assert depths[network.variables[0].path] == max(depths.values())


def test_the_line_for_people_says_what_the_options_come_to() -> None:
    trained = network().trainable_variables

    def said(**changes: Any) -> str:
        return optimizer.describe(replace(PHASE2, learning_rate=1e-3, **changes), DEPTHS, trained)

    assert said() == ""
    assert said(layer_decay=0.5) == "rate 1.0e-03 in the head, 1.3e-04 in the lowest of 3 blocks"


def test_phase_1_trains_by_adam() -> None:
    phase1 = fit_settings.phase1(PROJECT.phase1)
    assert type(optimizer.optimiser(phase1, 0.1, {}, [], 3)) is keras.optimizers.Adam
