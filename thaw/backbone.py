"""The pretrained networks and their weights. Where they may be cut is ``thaw.boundaries``'s to know."""

import hashlib
import importlib
import math
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from thaw import efficientnet_lite, provenance, records, torch_checkpoint
from thaw.framework import keras

# Random weights are the same in every process, so that two stages that build them build one network. Any number does.
RANDOM_SEED = 0
# The smallest input that every network takes; the weights' shapes don't depend on it.
SMALLEST_SIZE = 32


@dataclass(frozen=True)
class Source:
    """Where published weights come from, and how they get into the network."""

    load: Callable[[keras.Model, Path], None]  # (network, the file)
    sha256: str  # of the file; empty: its publisher gives none
    file: Callable[[str], Path]  # finds or fetches it; sha256 that it must have, or empty → the file, checked


@dataclass(frozen=True)
class Family:
    """One row of the table: a network that ``backbone.name`` can choose."""

    graph: Callable[[str, int], keras.Model]  # (name, size) → flat model on pixels in [0, 255], any weights
    size: int  # pixels, the input it was pretrained at
    sources: Mapping[str, Source]  # words of backbone.weights, besides random and a file's path
    blocks: tuple[tuple[str, str], ...]  # the first pattern that a layer's name begins with gives its block's name


LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def _load_package(model: keras.Model, path: Path) -> None:
    efficientnet_lite.load_torch(model, torch_checkpoint.read(path, LITE0_SHA256))


def _package_file(sha256: str) -> Path:
    path = efficientnet_lite.package_file()
    provenance.check(path, sha256)
    return path


def _mobilenet_v2(name: str, size: int) -> keras.Model:
    pixels = keras.Input((size, size, 3), name="pixels", dtype="float32")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1, name="stem_range")(pixels)
    network = keras.applications.MobileNetV2(include_top=False, weights=None, input_tensor=scaled)
    return keras.Model(pixels, network.output, name=name)


def _keras_mobilenet_v2(weights: str) -> keras.Model:
    return keras.applications.MobileNetV2(include_top=False, weights=weights, input_shape=(224, 224, 3))


def _load_mobilenet_v2(model: keras.Model, path: Path) -> None:
    model.set_weights(_keras_mobilenet_v2(str(path)).get_weights())


def _mobilenet_v2_file(sha256: str) -> Path:
    return provenance.obtain(provenance.wanted(lambda: _keras_mobilenet_v2("imagenet")), sha256)


TABLE: dict[str, Family] = {
    "efficientnet_lite0": Family(
        graph=efficientnet_lite.graph,
        size=224,
        sources={"package": Source(load=_load_package, sha256=LITE0_SHA256, file=_package_file)},
        blocks=((r"block_\d+[a-z]|stem|top", r"\g<0>"),),
    ),
    "mobilenet_v2": Family(
        graph=_mobilenet_v2,
        size=224,
        sources={"imagenet": Source(load=_load_mobilenet_v2, sha256="", file=_mobilenet_v2_file)},
        blocks=((r"expanded_conv|block_\d+", r"\g<0>"), (r"Conv_1|out_relu", "top"), (r"", "stem")),
    ),
}


def family(name: str) -> Family:
    """The row of a name.

    Raises:
        ValueError: there is none.
    """
    if name not in TABLE:
        raise ValueError(f"backbone.name: expected one of {', '.join(TABLE)}, received {name!r}")
    return TABLE[name]


def _source(name: str, weights: str) -> Source | Path | None:
    """The published source, the local file, or None for random weights."""
    sources = family(name).sources
    if weights == "random":
        return None
    if weights in sources:
        return sources[weights]
    if not weights.endswith(".h5"):
        words = ", ".join((*sources, "random"))
        raise ValueError(f"backbone.weights: {name} expects {words} or a .weights.h5 file, received {weights!r}")
    if not Path(weights).is_file():
        raise ValueError(f"backbone.weights: expected a file, received {weights!r}, which does not exist")
    return Path(weights)


def _draw(model: keras.Model) -> None:
    """Random kernels with the variance of He et al. (2015, arXiv:1502.01852); norms stay the identity."""
    generator = np.random.default_rng(RANDOM_SEED)
    for layer in model.layers:
        for variable in layer.weights:
            if variable.name == "kernel":
                inputs = 2 if isinstance(layer, keras.layers.DepthwiseConv2D) else 3  # axes that are summed over
                deviation = math.sqrt(2 / math.prod(variable.shape[:inputs]))
                variable.assign(generator.normal(0, deviation, variable.shape).astype("float32"))


def _load_file(model: keras.Model, path: Path) -> None:
    # Keras only warns of weights it doesn't find in the file. Those stay NaN, and are found below.
    for variable in model.weights:
        variable.assign(np.full(variable.shape, np.nan, variable.dtype))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.load_weights(path)
        if any(np.isnan(array).any() for array in model.get_weights()):
            raise ValueError("a weight is missing from the file, or NaN")
    except Exception as error:  # h5py and Keras raise OSError, KeyError, ValueError, TypeError and more
        reason = " ".join(str(error).split())
        raise ValueError(
            f"backbone.weights: expected weights of {model.name}, received {path}, which does not load "
            f"({reason:.200}); give a file that {model.name} without its classifier was saved to with save_weights"
        ) from error


def build(name: str, weights: str, size: int, sha256: str = "") -> keras.Model:
    """The network of a row, with its weights, without a classifier.

    Args:
        name: a row of ``TABLE``.
        weights: ``random`` (the same in every process), a word of the row's ``sources``, or a weights file's path.
        size: height and width of the input in pixels.
        sha256: that the weights' file must have; empty: any. Random weights have no file.

    Returns:
        A flat functional model called ``name``: pixels (batch, size, size, 3) float32 in [0, 255] → features (batch,
        height, width, channels) float32. It scales the pixels itself.

    Raises:
        ValueError: unknown name or word, or weights that are missing, damaged or another network's.
    """
    source = _source(name, weights)
    if size < SMALLEST_SIZE:
        raise ValueError(f"image.size: expected {SMALLEST_SIZE} pixels or more, received {size}")
    model = family(name).graph(name, size)
    if source is None:
        _draw(model)
    elif isinstance(source, Source):
        source.load(model, source.file(sha256))
    else:
        provenance.check(source, sha256)
        _load_file(model, source)
    return model


def weights_sha256(name: str, weights: str, sha256: str = "") -> str:
    """Hex digest that tells pretrained weights from others.

    It is the file's. For ``random``, which has no file, it is that of the built network's weights: their float32
    bytes, in the model's order.

    Args:
        sha256: as for ``build``; the two then agree.
    """
    source = _source(name, weights)
    if source is not None:
        path = source if isinstance(source, Path) else source.file(sha256)
        provenance.check(path, sha256)
        return records.sha256(path)
    digest = hashlib.sha256()
    for array in build(name, weights, SMALLEST_SIZE).get_weights():
        digest.update(np.ascontiguousarray(array, "<f4").tobytes())
    return digest.hexdigest()


def main(arguments: Sequence[str]) -> None:
    """Print the table's rows or, given a row's name, its blocks: what ``phase2.unfreeze`` can be and what it costs."""
    if not arguments:
        for name, row in TABLE.items():
            words = ", ".join((*row.sources, "random"))
            print(f"{name:20} {row.size:4} px   weights: {words} or a .weights.h5 file")
        return
    model = build(arguments[0], "random", family(arguments[0]).size)
    # A command may look up to a module that itself imports this one; the library may not, so it is no import above.
    boundaries = importlib.import_module("thaw.boundaries")
    _, outputs = boundaries.producers(model)
    print(f"{'block':14} {'layers':>6} {'from here':>9} {'parameters':>10}   {'enters as':>14} {'KB fp16':>8}")
    for cut, following in pairwise(boundaries.every(model)):
        layers = model.layers[1 + cut.frozen_layers : 1 + following.frozen_layers]
        parameters = sum(layer.count_params() for layer in layers)
        shape = outputs[cut.tensor_layer].shape[1:]
        print(
            f"{cut.block:14} {len(layers):6} {cut.thawed_layers:9} {parameters:10,}   "
            f"{' x '.join(map(str, shape)):>14} {2 * math.prod(shape) / 1000:8.1f}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
