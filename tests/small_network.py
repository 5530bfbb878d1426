"""A network from outside that is built and traced in a moment, for tests of what is done with a network, whichever.

It has what real ones have: blocks, depthwise convolutions, BatchNorm and a residual connection.
"""

from thaw.config import schema
from thaw.runtime.framework import keras

BLOCKS, CHANNELS = 4, 16
BUILDER = f"{__name__}:build"
BACKBONE = schema.Backbone("custom", "random", BUILDER, "-1..1", "")
OVERRIDES = (
    "backbone=custom",
    f"backbone.weights={BACKBONE.weights}",
    f"backbone.builder='{BUILDER}'",
    f"backbone.pixels='{BACKBONE.pixels}'",
)


def build(size: int) -> keras.Model:
    """A network of images of ``size`` pixels, in blocks of six layers: block_0, block_1, …"""
    pixels = keras.Input((size, size, 3))
    stem = keras.layers.Conv2D(CHANNELS, 3, strides=2, padding="same", use_bias=False, name="stem_conv")
    values = _normed(stem(pixels), "stem")
    for number in range(BLOCKS):
        name, before = f"block_{number}", values
        values = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"{name}_depthwise")(values)
        values = _normed(values, f"{name}_first")
        values = keras.layers.Conv2D(CHANNELS, 1, use_bias=False, name=f"{name}_project")(values)
        values = keras.layers.BatchNormalization(name=f"{name}_norm")(values)
        values = keras.layers.Add(name=f"{name}_add")([before, values])
    return keras.Model(pixels, values, name="small")


def _normed(values: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return keras.layers.ReLU(name=f"{name}_relu")(keras.layers.BatchNormalization(name=f"{name}_norm")(values))
