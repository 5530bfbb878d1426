"""Count what a layer costs: multiplications of one image's forward pass, from shapes."""

import math
from typing import Any

from thaw.runtime.framework import keras


def multiplications(operation: Any, shape: tuple[int | None, ...]) -> int:
    """Count the multiplications of one image in a layer: its kernels, once for each place of its output.

    Normalisation, activation, pooling and additions multiply too, but a hundredth of that, and are counted as nothing.

    Args:
        operation: a layer of a functional model, or another operation, which costs nothing.
        shape: of its output, (batch, places …, channels). It is not asked for it: a layer may be in several models.
    """
    if isinstance(operation, keras.Sequential):
        return sum(multiplications(layer, layer.output.shape) for layer in operation.layers)
    if levels := getattr(operation, "_nodes_by_depth", {}):  # a functional model
        nodes = [node for level in levels.values() for node in level]
        return sum(multiplications(node.operation, node.outputs[0].shape) for node in nodes)
    if not isinstance(operation, keras.layers.Layer) or not operation.weights:
        return 0
    places = math.prod(side or 1 for side in shape[1:-1])
    if isinstance(operation, keras.layers.EinsumDense):
        places = math.prod(side or 1 for side in shape[1:]) // math.prod(operation.kernel.shape[1:])
    kernels = [math.prod(variable.shape) for variable in operation.weights if len(variable.shape) > 1]
    return int(places * sum(kernels))
