"""The networks of the catalog and those from outside it, built, and their weights found, checked and loaded."""

import hashlib
import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from thaw import console, records
from thaw.catalog import backbones
from thaw.config import backbone
from thaw.networks import applications, downloads, efficientnet_lite, external, hdf5, torch_checkpoint
from thaw.runtime.framework import keras

# Random weights are the same in every process, so that two stages that build them build one network. Any number does.
RANDOM_SEED = 0


def graph(name: str, size: int) -> keras.Model:
    """Return the network of a row with any weights, as ``build`` does with its own.

    Raises:
        ValueError: there is no such row, or it takes no images as small as that.
    """
    row = backbones.row(name)
    backbones.check_size(name, size)
    if isinstance(row, backbones.Lite):
        return efficientnet_lite.graph(name, size, row.width, row.depth, row.pixels)
    return applications.graph(row, name, size)


def _published(name: str, sha256: str) -> Path:
    """Return the file of a row's published weights, found or fetched, and checked.

    Args:
        sha256: that it must have; empty: as the row or Keras says.
    """
    row = backbones.row(name)
    if isinstance(row, backbones.Lite):
        path = efficientnet_lite.package_file(row)
        downloads.check(path, sha256)
        return path
    shape = (row.size, row.size, 3)
    download = downloads.wanted(lambda: applications.network(row, "imagenet", input_shape=shape))
    if not (download.pinned or sha256):  # a user's own hash counts more than the row's, which a new file outdates
        download = replace(download, pinned=row.md5, pinned_by="Thaw")
    return downloads.obtain(download, sha256)


def _load_published(model: keras.Model, path: Path) -> None:
    row = backbones.row(model.name)
    if isinstance(row, backbones.Lite):
        efficientnet_lite.load_torch(model, torch_checkpoint.read(path, row.sha256))
    else:
        applications.copy(applications.network(row, str(path), input_shape=(row.size, row.size, 3)), model)


def _own_file(name: str, weights: str) -> Path | None:
    """Return a user's weights file; None for published and for random weights."""
    words = backbone.words(name)
    if weights in words:
        return None
    if not weights.endswith(".h5"):
        known = ", ".join(words)
        raise ValueError(f"backbone.weights: {name} expects {known} or a .weights.h5 file, received {weights!r}")
    if not Path(weights).is_file():
        is_there = "is a folder" if Path(weights).is_dir() else "does not exist"
        raise ValueError(f"backbone.weights: expected a file, received {weights!r}, which {is_there}")
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
            hdf5.check_contained(path)
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
        name: a row of ``thaw.catalog.backbones``, or one of ``thaw.networks.backbones.FOREIGN``.
        weights: ``random`` (the same in every process), the row's ``published`` word, or a weights file's path.
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
    if name in backbones.FOREIGN:
        return _foreign(name, weights, size, builder, pixels, sha256)
    file = _own_file(name, weights)
    model, row = graph(name, size), backbones.row(name)
    if weights != "random" and size != row.size:
        console.say(f"{name} was pretrained at {row.size} pixels and gets {size}, which is image.size")
    if weights == "random":
        _draw(model)
    elif file is None:
        _load_published(model, _published(name, sha256))
    else:
        downloads.check(file, sha256)
        if isinstance(row, backbones.Application) and row.scaled_by:
            # A file of Keras's own network has the scaling's weights too.
            own = applications.network(row, None, input_shape=(row.size, row.size, 3))
            _load_file(own, file)
            applications.copy(own, model)
        else:
            _load_file(model, file)
    return model


def _foreign(name: str, weights: str, size: int, builder: str, pixels: str, sha256: str) -> keras.Model:
    if name in (backbones.KERAS_HUB, backbones.SAVED_MODEL):
        _folder_sha256(weights, sha256)  # before anything of it is loaded
    model = external.build(name, weights, size, builder, pixels, pretrained=True)
    if name == backbones.CUSTOM and weights == "random":
        _draw(model)
    elif name == backbones.CUSTOM and (file := _own_file(name, weights)):
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
    if network.name in (backbones.KERAS_HUB, backbones.SAVED_MODEL):
        return _folder_sha256(weights, sha256)
    if weights not in ("random", "builder"):
        file = _own_file(network.name, weights)
        if file is None:
            return records.sha256(_published(network.name, sha256))
        downloads.check(file, sha256)
        return records.sha256(file)
    digest = hashlib.sha256()
    for array in network.get_weights():
        digest.update(np.ascontiguousarray(array, "<f4").tobytes())
    if weights == "builder":
        _require(digest.hexdigest(), sha256, "the weights that the builder gives")
    return digest.hexdigest()
