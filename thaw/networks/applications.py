"""The image networks of ``keras.applications``: one row each, and how a row becomes a graph on plain pixels.

Some of Keras's networks bring pixels into range themselves, others leave that to a ``preprocess_input`` beside them,
and so a pixel is easily scaled twice, or never. Here none does: every network is built without its own scaling, and
the row's contract is put before it.
"""

from dataclasses import dataclass
from typing import Any

from thaw.networks import graph as network_graph
from thaw.networks import scaling as contracts
from thaw.runtime.framework import keras, numbered_from_the_start

Blocks = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Application:
    """One network of ``keras.applications``."""

    builder: str  # the function's name there
    size: int  # pixels, the input it was pretrained at
    pixels: str  # the contract, a key of thaw.networks.scaling.CONTRACTS
    parameters: int  # without the classifier
    blocks: Blocks  # the first pattern that a layer's name begins with gives its block's name; others are of any block
    smallest: int = 32  # pixels, of the input
    scales_itself: bool = False  # leaves its scaling out if told so
    md5: str = ""  # of the file of its ImageNet weights, hex, where Keras pins no hash
    scaled_by: str = ""  # the last layer of a scaling that can't be left out, and is cut off


_MOBILENET: Blocks = ((r"conv_(?:dw|pw|pad)_(\d+)", r"block_\1"),)
_MOBILENET_V2: Blocks = ((r"expanded_conv|block_\d+", r"\g<0>"), (r"Conv_1|out_relu", "top"), (r"", "stem"))
_MOBILENET_V3: Blocks = ((r"expanded_conv(?:_\d+)?", r"\g<0>"), (r"conv_1", "top"))
_RESNET: Blocks = ((r"conv\d_block\d+", r"\g<0>"), (r"post", "top"))
_EFFICIENTNET: Blocks = ((r"block\d+[a-z]", r"\g<0>"), (r"top", "top"))
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

ROWS: dict[str, Application] = {
    "mobilenet": Application("MobileNet", 224, "-1..1", 3_228_864, _MOBILENET, md5="725ccbd03d61d7ced5b5c4cd17e7d527"),
    "mobilenet_v2": Application(
        "MobileNetV2", 224, "-1..1", 2_257_984, _MOBILENET_V2, md5="f1a68526548f7541cda07e19ba6c85f4"
    ),
    "mobilenet_v3_small": Application("MobileNetV3Small", 224, "-1..1", 939_120, _MOBILENET_V3, scales_itself=True),
    "mobilenet_v3_large": Application("MobileNetV3Large", 224, "-1..1", 2_996_352, _MOBILENET_V3, scales_itself=True),
    "resnet50": Application("ResNet50", 224, "caffe", 23_587_712, _RESNET),
    "resnet101": Application("ResNet101", 224, "caffe", 42_658_176, _RESNET),
    "resnet152": Application("ResNet152", 224, "caffe", 58_370_944, _RESNET),
    "resnet50_v2": Application("ResNet50V2", 224, "-1..1", 23_564_800, _RESNET),
    "resnet101_v2": Application("ResNet101V2", 224, "-1..1", 42_626_560, _RESNET),
    "resnet152_v2": Application("ResNet152V2", 224, "-1..1", 58_331_648, _RESNET),
    "efficientnet_b0": Application(
        "EfficientNetB0", 224, "imagenet", 4_049_564, _EFFICIENTNET, scaled_by="normalization"
    ),
    "efficientnet_b1": Application(
        "EfficientNetB1", 240, "imagenet", 6_575_232, _EFFICIENTNET, scaled_by="normalization"
    ),
    "efficientnet_b2": Application(
        "EfficientNetB2", 260, "imagenet", 7_768_562, _EFFICIENTNET, scaled_by="normalization"
    ),
    "efficientnet_b3": Application(
        "EfficientNetB3", 300, "imagenet", 10_783_528, _EFFICIENTNET, scaled_by="normalization"
    ),
    "efficientnet_b4": Application(
        "EfficientNetB4", 380, "imagenet", 17_673_816, _EFFICIENTNET, scaled_by="normalization"
    ),
    "efficientnet_b5": Application(
        "EfficientNetB5", 456, "imagenet", 28_513_520, _EFFICIENTNET, scaled_by="normalization"
    ),
    "efficientnet_b6": Application(
        "EfficientNetB6", 528, "imagenet", 40_960_136, _EFFICIENTNET, scaled_by="normalization"
    ),
    "efficientnet_b7": Application(
        "EfficientNetB7", 600, "imagenet", 64_097_680, _EFFICIENTNET, scaled_by="normalization"
    ),
    "efficientnet_v2_b0": Application(
        "EfficientNetV2B0", 224, "imagenet", 5_919_312, _EFFICIENTNET, scales_itself=True
    ),
    "efficientnet_v2_b1": Application(
        "EfficientNetV2B1", 240, "imagenet", 6_931_124, _EFFICIENTNET, scales_itself=True
    ),
    "efficientnet_v2_b2": Application(
        "EfficientNetV2B2", 260, "imagenet", 8_769_374, _EFFICIENTNET, scales_itself=True
    ),
    "efficientnet_v2_b3": Application(
        "EfficientNetV2B3", 300, "imagenet", 12_930_622, _EFFICIENTNET, scales_itself=True
    ),
    "efficientnet_v2_s": Application(
        "EfficientNetV2S", 384, "-1..0.99", 20_331_360, _EFFICIENTNET, scales_itself=True
    ),
    "efficientnet_v2_m": Application(
        "EfficientNetV2M", 480, "-1..0.99", 53_150_388, _EFFICIENTNET, scales_itself=True
    ),
    "efficientnet_v2_l": Application(
        "EfficientNetV2L", 480, "-1..0.99", 117_746_848, _EFFICIENTNET, scales_itself=True
    ),
    "inception_v3": Application("InceptionV3", 299, "-1..1", 21_802_784, _INCEPTION, smallest=75),
    "inception_resnet_v2": Application("InceptionResNetV2", 299, "-1..1", 54_336_736, _INCEPTION_RESNET, smallest=75),
    "xception": Application("Xception", 299, "-1..1", 20_861_480, _NUMBERED, smallest=71),
    "densenet121": Application("DenseNet121", 224, "imagenet", 7_037_504, _DENSENET),
    "densenet169": Application("DenseNet169", 224, "imagenet", 12_642_880, _DENSENET),
    "densenet201": Application("DenseNet201", 224, "imagenet", 18_321_984, _DENSENET),
    "nasnet_mobile": Application("NASNetMobile", 224, "-1..1", 4_269_716, _NASNET),
    "nasnet_large": Application("NASNetLarge", 331, "-1..1", 84_916_818, _NASNET),
    "convnext_tiny": Application("ConvNeXtTiny", 224, "imagenet", 27_820_128, _CONVNEXT, scales_itself=True),
    "convnext_small": Application("ConvNeXtSmall", 224, "imagenet", 49_454_688, _CONVNEXT, scales_itself=True),
    "convnext_base": Application("ConvNeXtBase", 224, "imagenet", 87_566_464, _CONVNEXT, scales_itself=True),
    "convnext_large": Application("ConvNeXtLarge", 224, "imagenet", 196_230_336, _CONVNEXT, scales_itself=True),
    "convnext_xlarge": Application("ConvNeXtXLarge", 224, "imagenet", 348_147_968, _CONVNEXT, scales_itself=True),
    "vgg16": Application("VGG16", 224, "caffe", 14_714_688, _NUMBERED),
    "vgg19": Application("VGG19", 224, "caffe", 20_024_384, _NUMBERED),
}


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
        scaled = contracts.scaled(pixels, row.pixels)
        if not row.scaled_by:
            return keras.Model(pixels, network(row, None, input_tensor=scaled).output, name=name)
        whole = network(row, None, input_shape=(size, size, 3))
        return keras.Model(pixels, network_graph.again(whole, scaled, row.scaled_by), name=name)


def copy(own: keras.Model, model: keras.Model) -> None:
    """Copy the weights of Keras's own network into ``graph``'s model, less those of a scaling that was cut off."""
    arrays = own.get_weights()
    model.set_weights(arrays[len(arrays) - len(model.weights) :])
