"""Networks from outside the table: a builder of the user's own, a KerasHub preset, a SavedModel.

Each becomes what a row is: a functional model from pixels in [0, 255] to feature maps, behind the contract that
``backbone.pixels`` names. What a network that is not ours was pretrained on can't be found out, so it must be said.
"""

import importlib
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from thaw import console, records
from thaw.catalog.backbones import CUSTOM, KERAS_HUB, SAVED_MODEL
from thaw.config.backbone import HANDLE, KAGGLE, PIN
from thaw.networks import graph, saved_model, scaling
from thaw.runtime import extras
from thaw.runtime.framework import keras, numbered_from_the_start, tf

EXTRA = "hub"
_PRESET = "config.json"  # all of a preset that tells its architecture
_SAVED = "saved_model.pb"


def build(name: str, weights: str, size: int, builder: str, pixels: str, *, pretrained: bool) -> keras.Model:
    """Build a network from outside the table.

    Args:
        name: one of ``thaw.catalog.backbones.FOREIGN``.
        weights: ``builder``, ``random`` or a file's path for a custom one; a folder or a handle for the others.
        size: height and width of the input in pixels.
        builder: ``package.module:function`` of a custom one: ``function(size)`` gives a functional Keras model on what
            the contract makes of the pixels, without a classifier.
        pixels: the contract, a key of ``thaw.catalog.pixel_contracts.CONTRACTS``.
        pretrained: with its weights; else with any.

    Returns:
        A functional model called ``name``: pixels (batch, size, size, 3) float32 in [0, 255] → features (batch,
        height, width, channels) float32; of a network that gives tokens or a vector, the height is 1.
    """
    with numbered_from_the_start():
        given = keras.Input((size, size, 3), name="pixels", dtype="float32")
        scaled = scaling.scaled(given, pixels)
        if name == CUSTOM:
            features = _flat(_custom(builder, size), scaled, "backbone.builder")
        elif name == KERAS_HUB:
            features = _flat(_preset(folder(weights, _PRESET), pretrained), scaled, "backbone.weights")
        else:
            features = _saved(folder(weights, _SAVED), scaled)
        if len(features.shape) not in (2, 3, 4):
            raise ValueError(f"backbone.name={name}: expected features of 2 to 4 axes, received {features.shape}")
        key = "backbone.builder" if name == CUSTOM else "backbone.weights"
        _check_axes(features.shape, key)
        if len(features.shape) < 4:
            features = keras.layers.Reshape((1, -1, features.shape[-1]), name="as_map")(features)
        network = keras.Model(given, features, name=name)
        if pretrained:
            _try(network, key)
        return network


def _check_axes(shape: tuple[int | None, ...], key: str) -> None:
    """Warn of features whose channels come first, as far as that is seen: pooling would take these for rows.

    A map of square images is square, and such a one has its two equal axes at the end. With as many channels as rows
    nothing can be told.
    """
    if len(shape) == 4 and None not in shape[1:] and 1 != shape[1] != shape[2] == shape[3]:
        console.warn(
            f"{key}: expected features (batch, height, width, channels), received {shape}, whose channels seem to "
            "come first and would be pooled like rows; let the network end with keras.layers.Permute((2, 3, 1))"
        )


def _try(network: keras.Model, key: str) -> None:
    """Run the network on two images: a size of images or of batches that fails only then would end phase 1 or 2."""
    try:
        # As a graph, as it will be run: in a graph not every name of a layer will do.
        tf.function(lambda images: network(images, training=False))(
            np.zeros((2, *network.input_shape[1:]), np.float32)
        )
    except Exception as error:  # whatever a layer raises
        shape = (2, *network.input_shape[1:])
        raise ValueError(
            f"{key}: expected a network that takes images {shape} float32, received one that fails on them "
            f"({_reason(error)}); set image.size to what it was made for"
        ) from error


def _saved(path: Path, tensor: Any) -> Any:
    network = saved_model.Saved(str(path), name="network")
    try:
        return network(tensor)
    except (TypeError, ValueError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"backbone.weights: expected a SavedModel of images {tuple(tensor.shape)} float32, received {path}, which "
            f"does not take them ({reason:.200}); set image.size to what it was made for"
        ) from error


def _flat(network: Any, tensor: Any, key: str) -> Any:
    """Call the network's layers one by one on another input, so that it can be cut between them.

    Args:
        key: of the configuration, which names the network.
    """
    if not isinstance(network, keras.Model):
        raise ValueError(f"{key}: expected a Keras model, received {type(network).__name__}")
    try:
        features, outputs = _called(network, tensor)
    except Exception as error:  # whatever a layer raises
        raise ValueError(
            f"{key}: expected a network of one input, images {tuple(tensor.shape)} float32, received {network.name}, "
            f"which does not take them ({_reason(error)})"
        ) from error
    if outputs != 1:
        raise ValueError(f"{key}: expected a network of one output, received {network.name} with {outputs}")
    return features


def _called(network: keras.Model, tensor: Any) -> tuple[Any, int]:
    """Call the network on the tensor, and return the result and how many outputs it has."""
    if graph.is_network(network):
        return graph.inlined(network, tensor), 1
    if len(inputs := getattr(network, "inputs", None) or [tensor]) != 1:
        raise ValueError(f"it has {len(inputs)} inputs")
    made = keras.tree.flatten(network(tensor))  # as one layer: it can be unfrozen as a whole
    return made[0], len(made)


def _custom(builder: str, size: int) -> keras.Model:
    module, _, function = builder.partition(":")
    try:
        build_network = getattr(importlib.import_module(module), function)
    except Exception as error:  # an import runs code of the user's too
        raise ValueError(
            f"backbone.builder: expected package.module:function that can be imported, received {builder!r} "
            f"({_reason(error)})"
        ) from error
    try:
        return build_network(size)
    except Exception as error:  # whatever code of the user's raises
        raise ValueError(
            f"backbone.builder: expected {builder} to build a network of {size} pixels (image.size), received "
            f"{_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # Keras writes in colours
    return f"{type(error).__name__}: {' '.join(plain.split()):.200}".removesuffix(": ")


def _preset(path: Path, pretrained: bool) -> keras.Model:
    try:
        import keras_hub  # noqa: PLC0415 -- an extra, and slow to import
    except ImportError as error:
        raise ValueError(
            f"backbone.name=keras_hub: expected the package keras-hub, found none; run `{extras.install(EXTRA)}`"
        ) from error
    try:
        return keras_hub.models.Backbone.from_preset(str(path), load_weights=pretrained)
    except Exception as error:  # whatever KerasHub raises
        raise ValueError(
            f"backbone.weights: expected a preset of an image backbone, received {path}, which does not load "
            f"({_reason(error)})"
        ) from error


def folder(source: str, marker: str = "") -> Path:
    """Return the folder that ``backbone.weights`` names: it is there, or Kaggle's client has it or fetches it.

    Args:
        source: a path, or ``kaggle://owner/model/framework/variation/version@sha256:HEX``.
        marker: a file that such a folder has; empty: any.

    Raises:
        ValueError: there is none, its hash is another, or an extra is missing.
    """
    if source.startswith(KAGGLE):
        return _fetched(*source.removeprefix(KAGGLE).partition(PIN)[::2])
    if not ((Path(source) / marker).exists() and Path(source).is_dir()):
        raise ValueError(
            f"backbone.weights: expected a folder{marker and ' with '}{marker}, or {HANDLE}, received {source!r}"
        )
    return Path(source)


def _fetched(handle: str, pin: str) -> Path:
    if not pin:
        raise ValueError(f"backbone.weights: expected {KAGGLE}{handle}{PIN}HEX, received a handle without its hash")
    try:
        import kagglehub  # noqa: PLC0415 -- an extra
    except ImportError as error:
        raise ValueError(
            f"backbone.weights: expected the package kagglehub for {handle}; run `{extras.install(EXTRA)}`"
        ) from error
    try:
        path = Path(kagglehub.model_download(handle))
    except Exception as error:  # whatever its HTTP client raises
        reason = " ".join(str(error).split())
        raise ValueError(
            f"backbone.weights: expected to download {handle}, received: {reason:.200}; on a machine without internet "
            "copy the folder there and give its path"
        ) from error
    if (found := digest(path)) != pin:
        raise ValueError(f"backbone.weights: expected {handle} with sha256 {pin}, received {found}")
    return path


def digest(path: Path) -> str:
    """Return the hex sha256 of a folder, as ``backbone.sha256`` and a handle have it."""
    return records.folder_sha256(path)


def carry(name: str, weights: str, to: Path) -> None:
    """Copy what the network is built from, besides its weights, so that it can be built again where it is not."""
    if name == KERAS_HUB:
        to.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder(weights, _PRESET) / _PRESET, to / _PRESET)
    elif name == SAVED_MODEL and folder(weights, _SAVED).resolve() != to.resolve():
        shutil.copytree(folder(weights, _SAVED), to, dirs_exist_ok=True)


def main() -> None:
    """Print the hash of the folder that the command line names."""
    try:
        (given,) = sys.argv[1:]
        print(digest(folder(given)))
    except ValueError as error:
        usage = "expected python -m thaw.networks.external FOLDER" if len(sys.argv) != 2 else error
        sys.exit(f"thaw.networks.external: {usage}")


if __name__ == "__main__":
    main()
