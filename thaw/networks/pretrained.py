"""The pretrained networks and their weights. ``thaw.networks.freeze_boundaries`` finds where they may be cut."""

import hashlib
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from thaw import console, records
from thaw.config import backbone
from thaw.networks import applications, downloads, efficientnet_lite, external, torch_checkpoint
from thaw.runtime.framework import keras

# Random weights are the same in every process, so that two stages that build them build one network. Any number does.
RANDOM_SEED = 0


@dataclass(frozen=True)
class Source:
    """A source of published weights, and how they get into the network."""

    load: Callable[[keras.Model, Path], None]  # (network, the file)
    sha256: str  # of the file; empty: its publisher gives none
    file: Callable[[str], Path]  # finds or fetches it; sha256 that it must have, or empty → the file, checked


@dataclass(frozen=True)
class Family:
    """One row of the table: a network that ``backbone.name`` can choose."""

    graph: Callable[[str, int], keras.Model]  # (name, size) → flat model on pixels in [0, 255], any weights
    size: int  # pixels, the input it was pretrained at
    smallest: int  # pixels, the smallest input that it takes
    parameters: int  # of it
    pixels: str  # what it was pretrained on, a key of thaw.networks.scaling.CONTRACTS
    sources: Mapping[str, Source]  # words of backbone.weights, besides random and a file's path
    blocks: tuple[tuple[str, str], ...]  # the first pattern that a layer's name begins with gives its block's name


def _load_package(model: keras.Model, path: Path) -> None:
    pinned = efficientnet_lite.VARIANTS[model.name].sha256
    efficientnet_lite.load_torch(model, torch_checkpoint.read(path, pinned))


def _package_file(name: str, sha256: str) -> Path:
    path = efficientnet_lite.package_file(name)
    downloads.check(path, sha256)
    return path


def _lite(name: str) -> Family:
    variant = efficientnet_lite.VARIANTS[name]
    return Family(
        graph=lambda model, size: efficientnet_lite.graph(model, size, variant.width, variant.depth),
        size=variant.size,
        smallest=32,
        parameters=variant.parameters,
        pixels=efficientnet_lite.CONTRACT,
        sources={"package": Source(_load_package, variant.sha256, partial(_package_file, name))},
        blocks=((r"block_\d+[a-z]|stem|top", r"\g<0>"),),
    )


def _load_download(model: keras.Model, path: Path) -> None:
    row = applications.ROWS[model.name]
    applications.copy(applications.network(row, str(path), input_shape=(row.size, row.size, 3)), model)


def _download(row: applications.Application, sha256: str) -> Path:
    shape = (row.size, row.size, 3)
    download = downloads.wanted(lambda: applications.network(row, "imagenet", input_shape=shape))
    if not (download.pinned or sha256):  # a user's own hash counts more than the row's, which a new file outdates
        download = replace(download, pinned=row.md5, pinned_by="Thaw")
    return downloads.obtain(download, sha256)


def _application(row: applications.Application) -> Family:
    return Family(
        graph=partial(applications.graph, row),
        size=row.size,
        smallest=row.smallest,
        parameters=row.parameters,
        pixels=row.pixels,
        sources={"imagenet": Source(_load_download, "", partial(_download, row))},
        blocks=row.blocks,
    )


TABLE: dict[str, Family] = {
    **{name: _lite(name) for name in efficientnet_lite.VARIANTS},
    **{name: _application(row) for name, row in applications.ROWS.items()},
}


def family(name: str) -> Family:
    """Return the row of a name.

    Raises:
        ValueError: there is none.
    """
    if name not in TABLE:
        raise ValueError(backbone.unknown(name))
    return TABLE[name]


def check_size(name: str, size: int) -> None:
    """Require a size that the network of a row takes.

    Raises:
        ValueError: it is smaller.
    """
    smallest = family(name).smallest
    if size < smallest:
        raise ValueError(f"image.size: expected {smallest} pixels or more, as {name} needs, received {size}")


def _source(name: str, weights: str) -> Source | Path | None:
    """Return the published source, the local file, or None for random weights."""
    sources = {} if name == external.CUSTOM else family(name).sources
    if weights == "random" or (name == external.CUSTOM and weights == "builder"):
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
    """Draw random kernels with the variance of He et al. (2015, arXiv:1502.01852); norms stay the identity."""
    generator = np.random.default_rng(RANDOM_SEED)
    for layer in model.layers:
        for variable in layer.weights:
            if len(variable.shape) > 1:
                depthwise = isinstance(layer, keras.layers.DepthwiseConv2D) or variable.name == "depthwise_kernel"
                inputs = 2 if depthwise else len(variable.shape) - 1  # axes that are summed over
                deviation = math.sqrt(2 / math.prod(variable.shape[:inputs]))
                variable.assign(generator.normal(0, deviation, variable.shape).astype("float32"))


def _load_file(model: keras.Model, path: Path) -> None:
    # Keras only warns of weights it doesn't find in the file. Those stay NaN, and are found below.
    for variable in model.weights:
        if variable.dtype.startswith("float"):  # else a count
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


def build(name: str, weights: str, size: int, *, builder: str = "", pixels: str = "", sha256: str = "") -> keras.Model:
    """Build a network with its weights, without a classifier: of a row, or from outside the table.

    Args:
        name: a row of ``TABLE``, or one of ``thaw.networks.external.NAMES``.
        weights: ``random`` (the same in every process), a word of the row's ``sources``, or a weights file's path.
        size: height and width of the input in pixels.
        builder: of a custom network.
        pixels: the contract of a network from outside the table.
        sha256: that the weights' file must have; empty: any. Random weights have no file.

    Returns:
        A flat functional model called ``name``: pixels (batch, size, size, 3) float32 in [0, 255] → features (batch,
        height, width, channels) float32. It scales the pixels itself.

    Raises:
        ValueError: unknown name or word, or weights that are missing, damaged or another network's.
    """
    if name in external.NAMES:
        return _foreign(name, weights, size, builder, pixels, sha256)
    source = _source(name, weights)
    check_size(name, size)
    model = family(name).graph(name, size)
    if source is not None and size != family(name).size:
        console.say(f"{name} was pretrained at {family(name).size} pixels and gets {size}, which is image.size")
    if source is None:
        _draw(model)
    elif isinstance(source, Source):
        source.load(model, source.file(sha256))
    else:
        downloads.check(source, sha256)
        row = applications.ROWS.get(name)
        if row and row.scaled_by:  # a file of Keras's own network has the scaling's weights too
            own = applications.network(row, None, input_shape=(row.size, row.size, 3))
            _load_file(own, source)
            applications.copy(own, model)
        else:
            _load_file(model, source)
    return model


def _foreign(name: str, weights: str, size: int, builder: str, pixels: str, sha256: str) -> keras.Model:
    if name in (external.KERAS_HUB, external.SAVED_MODEL):
        _folder_sha256(weights, sha256)  # before anything of it is loaded
    model = external.build(name, weights, size, builder, pixels, pretrained=True)
    if name == external.CUSTOM and weights == "random":
        _draw(model)
    elif name == external.CUSTOM and isinstance(file := _source(name, weights), Path):
        downloads.check(file, sha256)
        _load_file(model, file)
    return model


def _folder_sha256(weights: str, sha256: str) -> str:
    found = external.digest(external.folder(weights))
    _require(found, sha256, weights)
    return found


def _require(found: str, sha256: str, what: str) -> None:
    if sha256 not in ("", found):
        raise ValueError(f"backbone.sha256: expected {what} to have the sha256 {sha256}, received {found}")


def weights_sha256(network: keras.Model, weights: str, *, sha256: str = "") -> str:
    """Return the hex digest that tells pretrained weights from others.

    It is the file's, or the folder's. For ``random`` and ``builder``, which have no file, it is that of the network's
    weights: their float32 bytes, in the model's order.

    Args:
        network: from ``build``, with these weights, before it is trained.
        sha256: that it must be; empty: any. Random weights are the program's own, so theirs is not asked.
    """
    if network.name in (external.KERAS_HUB, external.SAVED_MODEL):
        return _folder_sha256(weights, sha256)
    source = _source(network.name, weights)
    if isinstance(source, Path):
        downloads.check(source, sha256)
        return records.sha256(source)
    if source is not None:
        return records.sha256(source.file(sha256))
    digest = hashlib.sha256()
    for array in network.get_weights():
        digest.update(np.ascontiguousarray(array, "<f4").tobytes())
    if weights == "builder":
        _require(digest.hexdigest(), sha256, "the weights that the builder gives")
    return digest.hexdigest()
