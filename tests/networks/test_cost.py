import pytest

from thaw.networks import cost
from thaw.runtime.framework import keras

LAYERS = keras.layers


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (LAYERS.Conv2D(5, 3, padding="same"), 8 * 6 * 9 * 4 * 5),
        (LAYERS.Conv2D(4, 3, strides=2, padding="same", groups=2), 4 * 3 * 9 * 2 * 4),
        (LAYERS.DepthwiseConv2D(3, padding="same"), 8 * 6 * 9 * 4),
        (LAYERS.SeparableConv2D(5, 3, padding="same"), 8 * 6 * (9 * 4 + 4 * 5)),
        (LAYERS.Dense(7), 8 * 6 * 4 * 7),
        (LAYERS.EinsumDense("bhwc,cnd->bhwnd", (8, 6, 2, 3)), 8 * 6 * 4 * 2 * 3),
        (keras.Sequential([LAYERS.Conv2D(5, 1), LAYERS.Dense(2)]), 8 * 6 * (4 * 5 + 5 * 2)),
        (LAYERS.BatchNormalization(), 0),
        (LAYERS.ReLU(), 0),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else "",
)
def test_a_layers_multiplications(layer: keras.layers.Layer, expected: int) -> None:
    output = layer(keras.Input((8, 6, 4)))
    assert cost.multiplications(layer, output.shape) == expected


def test_an_operation_that_is_no_layer_costs_nothing() -> None:
    given = keras.Input((8, 6, 4))
    added = keras.ops.add(given, 1.0)
    assert cost.multiplications(added._keras_history.operation, added.shape) == 0


def test_mobilenet_costs_what_its_authors_say() -> None:
    network = keras.applications.MobileNet(weights=None)  # Howard et al. (2017), table 4: 569 million
    assert sum(cost.multiplications(layer, layer.output.shape) for layer in network.layers) == pytest.approx(
        569e6, rel=0.01
    )


def test_a_model_inside_of_a_model_costs_what_its_layers_do() -> None:
    given = keras.Input((8, 8, 3))
    inner = keras.Model(given, keras.layers.Conv2D(4, 1, strides=2)(keras.layers.Conv2D(5, 1)(given)))
    assert cost.multiplications(inner, inner.output_shape) == 64 * 3 * 5 + 16 * 5 * 4
