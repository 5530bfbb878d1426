"""The ranges in which networks were given their pixels when they were pretrained: the one table. No TensorFlow.

Pixels are RGB in [0, 255] everywhere in this program. A backbone's first layers bring them into its range
(``thaw.networks.scaling``); the same as arithmetic on arrays is in ``thaw.catalog.pixel_ranges``.
"""

from dataclasses import dataclass, field

# Of ImageNet's training images, red green blue, on a scale of 0 to 1.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The same mean in the first release of VGG's weights, on a scale of 0 to 255, blue green red.
CAFFE_MEAN = (103.939, 116.779, 123.68)


@dataclass(frozen=True)
class Contract:
    """pixels × scale + offset, for all channels or for each; with ``bgr`` the channels change places before that."""

    scale: float | tuple[float, ...]
    offset: float | tuple[float, ...]
    bgr: bool = False
    description: str = field(default="", repr=False, kw_only=True)


# By the words of backbone.pixels. Those of a network of the catalog are its row's own.
CONTRACTS: dict[str, Contract] = {
    "0..255": Contract(1.0, 0.0, description="as they are"),
    "0..1": Contract(1 / 255, 0.0, description="divided by 255"),
    "-1..1": Contract(1 / 127.5, -1, description="divided by 127.5, less 1"),
    "-1..0.99": Contract(1 / 128, -1, description="divided by 128, less 1"),
    "lite": Contract(1 / 128, -127 / 128, description="less 127, divided by 128"),
    "imagenet": Contract(
        tuple(1 / (255 * deviation) for deviation in DEVIATION),
        tuple(-mean / deviation for mean, deviation in zip(MEAN, DEVIATION, strict=True)),
        description="divided by 255, less ImageNet's mean, divided by its deviation",
    ),
    "caffe": Contract(1.0, tuple(-mean for mean in CAFFE_MEAN), bgr=True, description="BGR, less ImageNet's mean"),
}


def documented() -> list[tuple[str, str]]:
    """Return the rows of the docs' table of contracts, as Markdown: the word, and what becomes of a pixel."""
    return [(f"`{name}`", contract.description) for name, contract in CONTRACTS.items()]
