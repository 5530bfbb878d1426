import numpy as np
import pytest

from thaw.classifier import head
from thaw.config import schema
from thaw.runtime.framework import keras

ARTICLE = schema.Head(pooling="avg", units=[256, 128], dropout=[0.5, 0.3], l2=0)
LINEAR = schema.Head(pooling="avg", units=[], dropout=[], l2=0)
FEATURES = np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32)


def test_the_head_of_the_article_is_two_hidden_layers_with_dropout() -> None:
    model = head.build(ARTICLE, channels=40, classes=7)
    assert [layer.name for layer in model.layers[1:]] == ["hidden_1", "dropout_1", "hidden_2", "dropout_2", "logits"]
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [0.5, 0.3]
    assert model.count_params() == 40 * 256 + 256 + 256 * 128 + 128 + 128 * 7 + 7
    assert model.output_shape == (None, 7)


def test_the_output_is_logits_of_the_hidden_layers() -> None:
    model = head.build(schema.Head("avg", [6], [0.5], l2=0), channels=40, classes=3)
    kernel, bias, last, offset = model.get_weights()
    expected = np.maximum(FEATURES @ kernel + bias, 0) @ last + offset
    logits = model(FEATURES, training=False)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert np.asarray(logits).min() < 0


def test_without_hidden_layers_the_head_is_linear() -> None:
    model = head.build(LINEAR, channels=40, classes=3)
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(model(FEATURES), FEATURES @ kernel + bias, atol=1e-5)


def test_dropout_works_in_training_only() -> None:
    model = head.build(ARTICLE, channels=40, classes=3)
    first, second = (np.asarray(model(FEATURES, training=True)) for _ in range(2))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(model(FEATURES, training=False), model(FEATURES, training=False))


def test_the_penalty_is_on_every_kernel_and_on_no_bias() -> None:
    model = head.build(schema.Head("avg", [6], [0], l2=0.01), channels=40, classes=3)
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    model(FEATURES)
    assert float(sum(model.losses)) == pytest.approx(0.01 * (40 * 6 + 6 * 3))
    assert head.build(ARTICLE, channels=40, classes=3).losses == []


@pytest.mark.parametrize("pooling", schema.POOLINGS)
def test_pooling_is_over_height_and_width(pooling: str) -> None:
    maps = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    pooled = head.pool(schema.Head(pooling, [], [], l2=0))(maps)
    expected = maps.max(axis=(1, 2)) if pooling == "max" else maps.mean(axis=(1, 2))
    np.testing.assert_allclose(pooled, expected, atol=1e-6)


def test_logits_stay_float32_in_mixed_precision() -> None:
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        model = head.build(ARTICLE, channels=40, classes=3)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    assert model.get_layer("hidden_1").compute_dtype == "bfloat16"
    assert np.asarray(model(FEATURES)).dtype == np.float32
