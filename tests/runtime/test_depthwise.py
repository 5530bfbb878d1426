"""That the gradients of depthwise convolutions are TensorFlow's own, and their answers the same to the bit."""

from typing import Any

import numpy as np
import pytest

from thaw.runtime import depthwise
from thaw.runtime.framework import keras, tf

IMAGES = np.random.default_rng(0).normal(size=(5, 9, 8, 4)).astype(np.float32)


def network(padding: str, **options: object) -> keras.Model:
    """One depthwise convolution in a model in a model, as in a classifier."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((9, 8, 4))
    deep = keras.layers.DepthwiseConv2D((5, 4), padding=padding, activation="relu6", name="deep", **options)
    inner = keras.Model(inputs, deep(inputs), name="inner")
    outer = keras.Input((9, 8, 4))
    return keras.Model(outer, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(inner(outer))))


def slopes(model: keras.Model) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the answers and the gradients by images and weights, of a graph, as Keras trains."""

    @tf.function  # type: ignore[untyped-decorator]
    def run(images: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            tape.watch(images)
            answers = model(images, training=True)
            loss = tf.reduce_mean(tf.square(answers))
        return answers, tape.gradient(loss, [images, *(weight.value for weight in model.trainable_variables)])

    answers, found = run(tf.constant(IMAGES))
    return answers.numpy(), [each.numpy() for each in found]


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("use_bias", [False, True])
def test_gradients_are_those_of_tensorflow(padding: str, use_bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(padding, use_bias=use_bias)
    before, expected = slopes(model)
    taken: list[str] = []
    ours = depthwise.by_weights

    def watched(inputs: Any, above: Any, shape: Any, padding: str) -> Any:
        taken.append(padding)
        return ours(inputs, above, shape, padding)

    monkeypatch.setattr(depthwise, "by_weights", watched)
    with depthwise.gradients(model):
        inside, found = slopes(model)
    assert taken == [padding.upper()]
    np.testing.assert_array_equal(inside, before)
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
    assert "call" not in vars(model.get_layer("inner").get_layer("deep"))
    np.testing.assert_array_equal(slopes(model)[1][1], expected[1])


def test_what_tensorflow_is_fast_at_or_does_otherwise_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depthwise, "LARGEST_MAP", 8)  # the maps are nine high
    monkeypatch.setattr(depthwise, "by_weights", None)
    model = network("same")
    _, expected = slopes(model)
    with depthwise.gradients(model):
        np.testing.assert_array_equal(slopes(model)[1][1], expected[1])
    for options in ({"strides": 2}, {"dilation_rate": 2}, {"depth_multiplier": 2}, {"trainable": False}):
        model = network("same", **options)
        with depthwise.gradients(model):
            assert "call" not in vars(model.get_layer("inner").get_layer("deep"))
