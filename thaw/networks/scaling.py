"""The first layers of a backbone: RGB in [0, 255] brought into the range that the network was pretrained in."""

from typing import Any

from thaw.catalog.pixel_contracts import CONTRACTS
from thaw.runtime.framework import keras


def scaled(pixels: Any, contract: str, name: str = "stem_range") -> Any:
    """Return what the network wants of pixels in [0, 255], by layers that Keras itself has.

    Args:
        pixels: Keras tensor (batch, height, width, 3) float32 RGB in [0, 255].
        contract: a key of ``thaw.catalog.pixel_contracts.CONTRACTS``.
        name: of the layer.

    Raises:
        ValueError: there is no such contract.
    """
    if contract not in CONTRACTS:
        raise ValueError(f"backbone.pixels: expected one of {', '.join(CONTRACTS)}, received {contract!r}")
    found = CONTRACTS[contract]
    if contract == "0..255":
        return pixels
    if found.bgr:
        pixels = keras.ops.flip(pixels, axis=-1)
    scale, offset = ([*value] if isinstance(value, tuple) else value for value in (found.scale, found.offset))
    return keras.layers.Rescaling(scale, offset=offset, name=name)(pixels)
