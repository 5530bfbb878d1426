"""The pixel contracts: how a pretrained network's own first layers scale RGB in [0, 255] to its range."""

from dataclasses import dataclass
from typing import Any

from thaw.runtime.framework import keras

# Of ImageNet's pixels: mean and deviation in [0, 1], RGB, and the mean in [0, 255], BGR.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CAFFE_MEAN = (103.939, 116.779, 123.68)


@dataclass(frozen=True)
class Contract:
    """A pixel contract: pixels × scale + offset, for all channels or for each; ``bgr`` reverses the channels before
    that.
    """

    scale: float | tuple[float, ...]
    offset: float | tuple[float, ...]
    bgr: bool
    description: str


# The words of backbone.pixels. Those of a row of the table are the row's own.
CONTRACTS: dict[str, Contract] = {
    "0..255": Contract(1.0, 0.0, False, "as they are"),
    "0..1": Contract(1 / 255, 0.0, False, "divided by 255"),
    "-1..1": Contract(1 / 127.5, -1, False, "divided by 127.5, less 1"),
    "-1..0.99": Contract(1 / 128, -1, False, "divided by 128, less 1"),
    "lite": Contract(1 / 128, -127 / 128, False, "less 127, divided by 128"),
    "imagenet": Contract(
        tuple(1 / (255 * deviation) for deviation in _DEVIATION),
        tuple(-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)),
        False,
        "divided by 255, less ImageNet's mean, divided by its deviation",
    ),
    "caffe": Contract(1.0, tuple(-mean for mean in _CAFFE_MEAN), True, "BGR, less ImageNet's mean"),
}


def scaled(pixels: Any, contract: str, name: str = "stem_range") -> Any:
    """Scale pixels in [0, 255] to a contract's range, by layers that Keras itself has.

    Args:
        pixels: Keras tensor (batch, height, width, 3) float32 RGB in [0, 255].
        contract: a key of ``CONTRACTS``.
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
