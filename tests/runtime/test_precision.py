from pathlib import Path

import numpy as np
import pytest

from thaw.runtime import precision
from thaw.runtime.framework import keras, tf


def network() -> keras.Model:
    """A convolution, a depthwise one and a head, one model in another as in a classifier."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 4))
    values = keras.layers.Conv2D(16, 1, use_bias=False, name="wide")(inputs)
    values = keras.layers.BatchNormalization(name="norm")(values)
    values = keras.layers.DepthwiseConv2D(3, name="deep")(values)
    inner = keras.Model(inputs, values, name="inner")
    outer = keras.Input((8, 8, 4))
    pooled = keras.layers.GlobalAveragePooling2D()(inner(outer))
    return keras.Model(outer, keras.layers.Dense(3, name="logits")(pooled))


IMAGES = np.random.default_rng(0).normal(size=(6, 8, 8, 4)).astype(np.float32)


def gradients(model: keras.Model) -> list[np.ndarray]:
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(IMAGES, training=False)))
    return [np.asarray(gradient) for gradient in tape.gradient(loss, model.trainable_variables)]


def test_only_convolutions_are_mixed_and_only_inside() -> None:
    model = network()
    exact, slopes = np.asarray(model(IMAGES)), gradients(model)
    with precision.computing(model, "mixed_bfloat16"):
        inner = model.get_layer("inner")
        assert inner.get_layer("wide").compute_dtype == "bfloat16"
        assert {inner.get_layer(name).compute_dtype for name in ("norm", "deep")} == {"float32"}
        assert {weight.dtype for weight in model.weights} == {"float32"}
        rounded = np.asarray(model(IMAGES))
        assert rounded.dtype == np.float32
        # bfloat16 keeps 8 bits.
        assert 0 < np.abs(rounded - exact).max() < 2**-6 * np.abs(exact).max()
        for found, expected in zip(gradients(model), slopes, strict=True):
            assert found.dtype == np.float32
            assert np.linalg.norm(found - expected) < 2**-5 * np.linalg.norm(expected)
    np.testing.assert_array_equal(model(IMAGES), exact)


def test_after_an_error_the_layers_compute_as_before() -> None:
    model = network()
    with pytest.raises(RuntimeError), precision.computing(model, "mixed_bfloat16"):
        raise RuntimeError
    assert model.get_layer("inner").get_layer("wide").compute_dtype == "float32"


@pytest.mark.parametrize("units", [True, False])
def test_auto_is_mixed_where_the_processor_is_made_for_it(monkeypatch: pytest.MonkeyPatch, units: bool) -> None:
    monkeypatch.setattr(precision, "_has_units", lambda: units)
    assert precision.choose("auto") == ("mixed_bfloat16" if units else "float32")
    assert precision.choose("float32") == "float32"
    assert precision.choose("mixed") == "mixed_bfloat16"


def test_the_processor_says_what_it_can(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    assert precision._flags(cpuinfo) == set()
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert precision._flags(cpuinfo) == {"fpu", "avx512f", "avx512_bf16"}
    cpuinfo.write_text("Processor: one that has no flags\n")
    assert precision._flags(cpuinfo) == set()


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_is_asked_for_its_generation(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: bool
) -> None:
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda _kind: ["gpu"])
    details = {"compute_capability": capability}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda _gpu: details)
    assert precision._has_units() is expected
