"""The classification head, trained from scratch: dense layers with dropout on pooled features, then logits."""

from thaw.config import schema
from thaw.runtime.framework import keras


def pool(head: schema.Head) -> keras.layers.Layer:
    """Return the pooling layer: (batch, height, width, channels) → (batch, channels)."""
    if head.pooling == "max":
        return keras.layers.GlobalMaxPooling2D(name="pool")
    return keras.layers.GlobalAveragePooling2D(name="pool")


def build(head: schema.Head, channels: int, classes: int) -> keras.Model:
    """Build the head: pooled features to logits.

    Returns:
        (batch, channels) float32 → (batch, classes) float32, not normalised.
    """
    penalty = keras.regularizers.L2(head.l2) if head.l2 else None
    features = keras.Input((channels,), name="features")
    values = features
    for number, (units, rate) in enumerate(zip(head.units, head.dropout, strict=True), start=1):
        values = keras.layers.Dense(units, "relu", kernel_regularizer=penalty, name=f"hidden_{number}")(values)
        values = keras.layers.Dropout(rate, name=f"dropout_{number}")(values)
    # Logits stay float32 whatever the precision of the layers before them.
    logits = keras.layers.Dense(classes, kernel_regularizer=penalty, dtype="float32", name="logits")(values)
    return keras.Model(features, logits, name="head")
