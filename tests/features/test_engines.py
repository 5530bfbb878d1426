import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from thaw.catalog import backbones
from thaw.features import engines
from thaw.networks import pretrained
from thaw.runtime import precision, threads
from thaw.runtime.framework import keras, tf

# On a GPU too: what is special there has tests of its own.
pytestmark = pytest.mark.usefixtures("processor")

PIXELS = np.random.default_rng(1).uniform(0, 255, (5, 64, 64, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def small() -> keras.Model:
    """Pixels to two outputs."""
    pixels = keras.Input((64, 64, 3))
    middle = keras.layers.Conv2D(4, 3, strides=4, activation="relu")(keras.layers.Rescaling(1 / 255)(pixels))
    return keras.Model(pixels, [middle, keras.layers.GlobalMaxPooling2D()(middle)])


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v2"])
@pytest.mark.parametrize("extractor", ["onnxruntime", "tensorflow"])
def test_each_engine_says_what_keras_says(name: str, extractor: str, near: float) -> None:
    model = pretrained.build(name, "random", 64)
    run, used = engines.engine(model, extractor)
    assert used == extractor
    expected = np.asarray(model(PIXELS, training=False))
    (found,) = run(PIXELS)
    assert found.dtype == np.float32
    # The engines add in other orders; measured 1.2e-5 of the largest activation at most.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    # An image's activations do not depend on the others of its batch, but for the order in which an engine adds.
    for size in (1, 2):
        parts = [run(PIXELS[first : first + size])[0] for first in range(0, 5, size)]
        np.testing.assert_allclose(np.concatenate(parts), found, rtol=0, atol=near * np.abs(expected).max())


@pytest.mark.parametrize("extractor", ["onnxruntime", "tensorflow"])
def test_a_model_of_several_outputs_gives_them_in_order(small: keras.Model, extractor: str, near: float) -> None:
    run, _ = engines.engine(small, extractor)
    for found, expected in zip(run(PIXELS), small(PIXELS), strict=True):
        np.testing.assert_allclose(found, expected, atol=near)


@pytest.mark.parametrize(("share", "sizes"), [("1", [5]), ("4", [1, 1, 1, 2])])
def test_onnxruntime_takes_no_more_threads_than_a_trial_has(
    small: keras.Model, monkeypatch: pytest.MonkeyPatch, share: str, sizes: list[int]
) -> None:
    monkeypatch.setenv(threads.VARIABLE, share)
    run, _ = engines.engine(small, "onnxruntime")
    seen: list[int] = []
    session = onnxruntime.InferenceSession.run

    def watched(self: Any, outputs: Any, inputs: dict[str, np.ndarray]) -> Any:
        seen.extend(map(len, inputs.values()))
        return session(self, outputs, inputs)

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", watched)
    run(PIXELS)
    assert sorted(seen) == sizes


@pytest.mark.parametrize("extractor", ["onnxruntime", "tensorflow"])
def test_where_all_is_thawed_the_frozen_part_hands_the_pixels_on(extractor: str) -> None:
    pixels = keras.Input((64, 64, 3))
    run, used = engines.engine(keras.Model(pixels, pixels), extractor)
    assert used == extractor
    np.testing.assert_array_equal(run(PIXELS)[0], PIXELS)


def test_the_engine_keeps_the_weights_it_was_made_with(small: keras.Model) -> None:
    copy = keras.models.clone_model(small)
    for extractor in ("onnxruntime", "tensorflow"):
        run, _ = engines.engine(copy, extractor)
        before = run(PIXELS)[0]
        copy.layers[2].bias.assign_add(np.ones(4))
        np.testing.assert_array_equal(run(PIXELS)[0], before)


class Wrong(onnxruntime.InferenceSession):  # type: ignore[misc]  # ships no stubs
    """ONNX Runtime with a fault of one in a hundred, in the last output only."""

    factor = 1.01

    def run(self, *arguments: Any) -> list[np.ndarray]:
        *right, last = super().run(*arguments)
        return [*right, last * self.factor]


class NotANumber(Wrong):
    factor = float("nan")


@pytest.mark.parametrize("wrong", [Wrong, NotANumber])
def test_an_engine_that_says_something_else_is_not_trusted(
    small: keras.Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: type
) -> None:
    monkeypatch.setattr(onnxruntime, "InferenceSession", wrong)
    run, used = engines.engine(small, "auto")
    assert used == "tensorflow"
    assert "warning: ONNX Runtime can't run this backbone (ValueError: its output is off by" in capsys.readouterr().err
    np.testing.assert_allclose(run(PIXELS)[1], small(PIXELS)[1], atol=1e-5)
    with pytest.raises(ValueError, match=r"compute\.extractor: onnxruntime can't run this backbone .*; use auto"):
        engines.engine(small, "onnxruntime")


def test_a_missing_converter_is_said_and_done_without(
    small: keras.Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    _, used = engines.engine(small, "auto")
    assert used == "tensorflow"
    assert "ModuleNotFoundError" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"compute\.extractor: onnxruntime"):
        engines.engine(small, "onnxruntime")


def test_tensorflow_by_name_asks_nothing_of_onnx(small: keras.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert engines.engine(small, "tensorflow")[1] == "tensorflow"


def test_in_mixed_precision_the_layers_round_and_the_answer_stays_near() -> None:
    model = pretrained.build("efficientnet_lite0", "package", 64)
    mixed = engines.mixed(model, "mixed_float16")
    assert {layer.compute_dtype for layer in mixed.layers if layer.weights} == {"float16"}
    assert {str(weight.dtype) for weight in mixed.weights} == {"float32"}
    for ours, theirs in zip(mixed.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    found, expected = np.asarray(mixed(PIXELS), np.float32), np.asarray(model(PIXELS))
    off = np.abs(found - expected).max() / np.abs(expected).max()
    assert 0 < off < engines.MIXED_TOLERANCE


def test_on_a_gpu_tensorflow_runs_in_float16_if_that_is_near_enough(
    small: keras.Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engines, "on_gpu", lambda: True)
    run, used = engines.engine(small, "auto")
    assert used == "tensorflow, float16"
    for found, expected in zip(run(PIXELS), small(PIXELS), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=engines.MIXED_TOLERANCE * np.abs(expected).max())
    large = keras.models.clone_model(small)
    large.set_weights([1e6 * weight for weight in small.get_weights()])  # more than float16 can hold
    run, used = engines.engine(large, "auto")
    assert used == "tensorflow, bfloat16"
    assert capsys.readouterr().err.count("float16 does not do for this backbone") == 1
    exact = np.asarray(large(PIXELS)[0])
    np.testing.assert_allclose(run(PIXELS)[0], exact, atol=engines.BFLOAT_TOLERANCE * np.abs(exact).max())


def test_where_float16_is_not_near_enough_bfloat16_is_not_tried(
    small: keras.Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engines, "on_gpu", lambda: True)
    monkeypatch.setattr(engines, "MIXED_TOLERANCE", 1e-9)
    tried, mixed = list[str](), engines.mixed

    def noted(model: keras.Model, policy: str) -> keras.Model:
        tried.append(policy)
        return mixed(model, policy)

    monkeypatch.setattr(engines, "mixed", noted)
    run, used = engines.engine(small, "auto")
    assert (used, tried) == ("tensorflow", ["mixed_float16"])
    assert "it runs in float32" in capsys.readouterr().err
    for found, expected in zip(run(PIXELS), small(PIXELS), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_operations_that_are_no_layers_are_cloned_with_the_layers() -> None:
    pixels = keras.Input((8, 8, 3))
    values = keras.layers.Conv2D(4, 1)(keras.ops.flip(pixels, axis=-1) * 0.5)
    model = keras.Model(pixels, keras.ops.relu(values + 3.0) / 6.0)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    expected = np.asarray(model(images))
    for policy, most in (("mixed_float16", 2e-3), ("mixed_bfloat16", 2e-2)):
        copy = engines.mixed(model, policy)
        assert not {id(each) for each in copy.operations} & {id(each) for each in model.operations}
        off = np.abs(np.asarray(copy(images), np.float32) - expected).max() / np.abs(expected).max()
        assert 0 < off < most


# One of each family, and of each that has operations or activations of its own; the whole table is slow.
FAST = ("efficientnet_lite0", "mobilenet", "mobilenet_v2", "mobilenet_v3_small", "resnet50", "vgg16", "xception")


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in backbones.ROWS]
)
def test_every_network_of_the_table_runs_and_is_trained_in_mixed_precision(name: str) -> None:
    size = backbones.ROWS[name].smallest
    model = pretrained.build(name, "random", size)
    images = np.random.default_rng(1).uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    expected = np.asarray(model(images, training=False))
    for policy in ("mixed_float16", "mixed_bfloat16"):
        found = np.asarray(engines.mixed(model, policy)(images, training=False), np.float32)
        assert found.shape == expected.shape
        # Random weights may bring more than float16 holds, which ``Widening`` sees; bfloat16 holds what float32 does.
        assert policy == "mixed_float16" or np.isfinite(found).all()
    with precision.computing(model, "mixed_bfloat16"), tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.cast(model(images, training=False), tf.float32) / float(np.abs(expected).max()))
    slopes = tape.gradient(loss, model.trainable_variables)
    assert all(slope is not None and slope.dtype == tf.float32 for slope in slopes)
    assert all(bool(tf.reduce_all(tf.math.is_finite(slope))) for slope in slopes)


def test_an_image_that_float16_cannot_hold_makes_it_bfloat16_from_there_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engines, "on_gpu", lambda: True)
    pixels = keras.Input((8, 8, 3))
    total = keras.layers.Dense(1, use_bias=False, kernel_initializer=keras.initializers.Constant(5))
    scaled = keras.layers.Rescaling(0.4)(pixels)
    run, used = engines.engine(keras.Model(pixels, total(keras.layers.Flatten()(scaled))), "auto")
    assert used == "tensorflow, float16"
    usual, bright = np.full((2, 8, 8, 3), 120, np.float32), np.full((1, 8, 8, 3), 255, np.float32)
    np.testing.assert_allclose(run(usual)[0], 120 * 0.4 * 5 * 192, rtol=1e-2)
    assert capsys.readouterr().err == ""
    for images, value in ((bright, 255), (usual, 120)):
        np.testing.assert_allclose(run(images)[0], value * 0.4 * 5 * 192, rtol=1e-2)
    assert capsys.readouterr().err.count("too large for float16") == 1


def test_the_guide_names_the_networks_that_are_too_large_to_convert() -> None:
    guide = (Path(__file__).resolve().parents[2] / "docs" / "backbones.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## Which run in ONNX Runtime\n(.*?)^## ", guide, re.MULTILINE | re.DOTALL)
    told = [name for name in re.findall(r"`(\w+)`", section) if name in backbones.ROWS]
    assert told == [name for name, row in backbones.ROWS.items() if row.parameters > engines.LARGEST_CONVERTED]
    assert f"more than {engines.LARGEST_CONVERTED // 10**6} million" in section


def test_a_network_too_large_to_convert_is_run_by_tensorflow_unless_one_insists(
    small: keras.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    most = engines.LARGEST_CONVERTED
    assert [engines.settled("auto", most + 1) for _ in range(2)] == ["tensorflow"] * 2
    assert " ".join(capsys.readouterr().err.split()).count("compute.extractor=onnxruntime insists") == 1
    assert engines.settled("onnxruntime", most + 1) == "onnxruntime"
    assert engines.settled("auto", most) == "auto"
    assert engines.engine(small, "auto")[1] == "onnxruntime"
    assert capsys.readouterr().err == ""
