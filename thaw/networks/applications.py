"""How a row of ``keras.applications`` becomes a graph on plain pixels, and the way of Keras's weights into it.

Some of Keras's networks bring pixels into range themselves, others leave that to a ``preprocess_input`` beside them,
and so a pixel is easily scaled twice, or never. Here none does: every network is built without its own scaling, and
the row's contract is put before it.
"""

from typing import Any

from thaw.catalog.backbones import Application
from thaw.networks import graph as network_graph
from thaw.networks import scaling
from thaw.runtime.framework import keras, numbered_from_the_start


def network(row: Application, weights: str | None, **given: Any) -> keras.Model:
    """Build Keras's own network without its classifier.

    Args:
        weights: as Keras takes them: imagenet, a file, or None for random ones.
        given: input_shape or input_tensor.
    """
    options: dict[str, Any] = {"include_preprocessing": False} if row.scales_itself else {}
    return getattr(keras.applications, row.builder)(include_top=False, weights=weights, **options, **given)


def graph(row: Application, name: str, size: int) -> keras.Model:
    """Build the network with random weights, behind its pixel contract.

    Returns:
        A flat functional model: pixels (batch, size, size, 3) float32 in [0, 255] → features. Its layers have the
        same names in every process.
    """
    with numbered_from_the_start():
        pixels = keras.Input((size, size, 3), name="pixels", dtype="float32")
        scaled = scaling.scaled(pixels, row.pixels)
        if not row.scaled_by:
            return keras.Model(pixels, network(row, None, input_tensor=scaled).output, name=name)
        whole = network(row, None, input_shape=(size, size, 3))
        return keras.Model(pixels, network_graph.again(whole, scaled, row.scaled_by), name=name)


def copy(own: keras.Model, model: keras.Model) -> None:
    """Copy the weights of Keras's own network into ``graph``'s model, less those of a scaling that was cut off."""
    arrays = own.get_weights()
    model.set_weights(arrays[len(arrays) - len(model.weights) :])
