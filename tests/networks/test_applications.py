import gc
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thaw.catalog import backbones, pixel_ranges
from thaw.classifier import frozen_weights, model
from thaw.config import schema
from thaw.exports import write
from thaw.features import engines
from thaw.networks import applications, downloads, freeze_boundaries, graph, pretrained
from thaw.runtime.framework import keras

ROOT = Path(__file__).parents[2]
# One of each kind; the others take minutes.
QUICK = {"mobilenet", "mobilenet_v3_small", "resnet50", "efficientnet_b0", "inception_v3", "convnext_tiny", "vgg16"}
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in backbones.APPLICATIONS]
# Each has something else between its layers: operations without a layer, flipped channels, layers of its own.
EXPORTED = [
    "mobilenet_v3_small",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("resnet50", "efficientnet_b0", "convnext_tiny", "nasnet_mobile")
    ),
]


@pytest.fixture(autouse=True)
def freed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Networks are circles of references, and the largest have gigabytes: not two of them at once."""
    yield
    if request.node.get_closest_marker("slow"):  # to look for circles takes a moment, and not for small ones
        keras.backend.clear_session()
        gc.collect()


def keras_own(name: str, size: int) -> tuple[keras.Model, Any]:
    """Keras's network as Keras gives it, with the scaling that it brings, and its ``preprocess_input``."""
    builder = getattr(keras.applications, backbones.APPLICATIONS[name].builder)
    own = builder(include_top=False, weights=None, input_shape=(size, size, 3))
    return own, sys.modules[builder.__module__].preprocess_input


class ConvolutionError(Exception):
    """Keras's code has come to a network's first convolution."""


def scaling_of(monkeypatch: pytest.MonkeyPatch, build: Callable[[], object]) -> list[keras.layers.Layer]:
    """The layers with which a network scales its pixels: of those that are called before its first convolution."""
    called = []

    def note(layer: keras.layers.Layer, *_arguments: object, **_options: object) -> object:
        if isinstance(layer, keras.layers.Conv2D):
            raise ConvolutionError
        called.append(layer)
        return call(layer, *_arguments, **_options)

    call = keras.layers.Layer.__call__
    with monkeypatch.context() as patched:
        patched.setattr(keras.layers.Layer, "__call__", note)
        with pytest.raises(ConvolutionError):
            build()
    return [layer for layer in called if isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization)]


@pytest.mark.parametrize("name", backbones.APPLICATIONS)
def test_a_contract_is_what_keras_does_to_pixels_before_the_first_convolution(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = backbones.APPLICATIONS[name]
    builder, shape = getattr(keras.applications, row.builder), (row.size, row.size, 3)
    values = sys.modules[builder.__module__].preprocess_input(pixel_ranges.CORNERS.astype("float64"))
    for layer in scaling_of(monkeypatch, lambda: builder(include_top=False, weights="imagenet", input_shape=shape)):
        if isinstance(layer, keras.layers.Rescaling):
            values = values * np.array(layer.scale) + np.array(layer.offset)
        elif layer.input_mean is not None:
            values = (values - np.array(layer.input_mean)) / np.sqrt(layer.input_variance)
        else:  # EfficientNet's comes with the weights, and what is called the variance there is the deviation
            values = (values - pixel_ranges.MEAN) / np.sqrt(pixel_ranges.DEVIATION)
    np.testing.assert_allclose(pixel_ranges.RANGES[row.pixels](pixel_ranges.CORNERS), values, rtol=0, atol=1e-6)
    left = scaling_of(monkeypatch, lambda: applications.network(row, None, input_shape=shape))
    assert bool(left) == bool(row.scaled_by)


@pytest.fixture(scope="module", params=NAMES)
def network(request: pytest.FixtureRequest) -> keras.Model:
    built = pretrained.build(request.param, "random", backbones.APPLICATIONS[request.param].smallest)
    # Random weights make squeeze and excitation a switch, and dozens of switches in a row go either way by how a pixel
    # is rounded: then three quarters of EfficientNetV2M's features are noise, and no two computations agree.
    for layer in built.layers:
        if "_se_" in layer.name or "squeeze_excite" in layer.name:
            layer.set_weights([array / 10 for array in layer.get_weights()])
    return built


def pixels_for(network: keras.Model) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 255, (2, *network.input_shape[1:])).astype("float32")


def features(network: keras.Model, pixels: np.ndarray) -> np.ndarray:
    return np.asarray(network(pixels, training=False))


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * float(np.abs(expected).max()))


def test_a_row_is_kerass_network_on_what_keras_preprocesses(network: keras.Model) -> None:
    own, preprocess = keras_own(network.name, network.input_shape[1])
    pixels, arrays = pixels_for(network), network.get_weights()
    if own.weights[0].name == "mean":  # EfficientNet's normalisation, which its weights file would set
        mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        scaling = own.layers[2]
        own.set_weights([mean, deviation**2, np.array(0), *arrays])
        scaling.finalize_state()
    else:
        own.set_weights(arrays)
    expected = features(own, preprocess(pixels.copy()))
    assert expected.std() > 0
    assert_close(features(network, pixels), expected)


def test_the_rows_figures_are_those_of_the_network(network: keras.Model) -> None:
    row = backbones.APPLICATIONS[network.name]
    assert network.count_params() == row.parameters
    assert sum(isinstance(layer, keras.layers.Rescaling) for layer in network.layers) == 1
    with pytest.raises(ValueError, match=f"expected {row.smallest} pixels or more, as {network.name} needs"):
        pretrained.build(network.name, "random", row.smallest - 1)


def test_layers_have_the_same_names_whatever_was_built_before(network: keras.Model) -> None:
    keras.layers.Conv2D(1, 1), keras.layers.Add()
    again = applications.graph(backbones.APPLICATIONS[network.name], network.name, network.input_shape[1])
    assert [one.name for one in again.operations] == [one.name for one in network.operations]
    assert [one.path for one in again.variables] == [one.path for one in network.variables]


def test_every_boundary_is_the_only_way_from_the_input_to_the_output(network: keras.Model) -> None:
    feeds, _ = graph.producers(network)
    cuts = freeze_boundaries.every(network)
    assert len({cut.block for cut in cuts}) == len(cuts) >= 3
    assert [cut.share for cut in cuts] == sorted({cut.share for cut in cuts}, reverse=True)
    assert (cuts[0].share, cuts[-1].share) == (1, 0)
    for cut in cuts:
        seen, waiting = set(), [network.operations[-1].name]
        while waiting:  # from the output backwards, but not through the cut
            name = waiting.pop()
            if name not in seen and name != cut.tensor_layer:
                seen.add(name)
                waiting.extend(feeds[name])
        assert "pixels" not in seen
        behind = {layer.name for layer in network.layers[1 + cut.frozen_layers :]}
        assert behind == seen & {layer.name for layer in network.layers}


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("mobilenet", "stem block_1 block_13"),
        ("mobilenet_v3_small", "stem expanded_conv expanded_conv_10 top"),
        ("resnet50", "stem conv2_block1 conv4_block6 conv5_block3"),
        ("efficientnet_b0", "stem block1a block6d top"),
        ("inception_v3", "stem mixed0 mixed7 mixed10"),
        ("convnext_tiny", "stem stage_0_block_0 downsampling_0 stage_3_block_2"),
        ("vgg16", "block1 block5"),
        pytest.param("densenet121", "stem conv2_block1 pool2 conv5_block16", marks=pytest.mark.slow),
        pytest.param("xception", "block1 block14", marks=pytest.mark.slow),
        pytest.param("inception_resnet_v2", "stem mixed_5b block35_1 block17_20 mixed_7a top", marks=pytest.mark.slow),
        pytest.param("nasnet_mobile", "stem cells", marks=pytest.mark.slow),
    ],
)
def test_blocks_have_the_names_that_people_know(name: str, blocks: str) -> None:
    row = backbones.APPLICATIONS[name]
    found = [cut.block for cut in freeze_boundaries.every(applications.graph(row, name, row.smallest))]
    assert found[0] == blocks.split(maxsplit=1)[0] and found[-2] == blocks.rsplit(maxsplit=1)[-1]
    assert set(blocks.split()) <= set(found)


def test_the_two_parts_are_the_network(network: keras.Model) -> None:
    cuts = freeze_boundaries.every(network)
    count = 3 if network.name in QUICK else 12  # a hundred, as DenseNet201 has, would take a quarter of an hour
    cuts = [*cuts[:: -(-len(cuts) // count)], *cuts[-2:]]
    pixels = pixels_for(network)
    whole = features(network, pixels)
    for cut in cuts:
        frozen, thawed = freeze_boundaries.split(network, cut)
        assert_close(features(thawed, features(frozen, pixels)), whole)


@pytest.mark.parametrize("name", ["efficientnet_b0", "convnext_tiny"])
def test_weights_that_kerass_own_network_saved_load(name: str, tmp_path: Path) -> None:
    own, _ = keras_own(name, 32)
    own.save_weights(tmp_path / "own.weights.h5")
    ours = pretrained.build(name, str(tmp_path / "own.weights.h5"), 32)
    kernels = [[array for array in one.get_weights() if array.ndim > 1] for one in (own, ours)]
    for mine, theirs in zip(*kernels, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("name", EXPORTED)
def test_the_exported_file_and_the_engines_say_the_same(name: str, tmp_path: Path) -> None:
    size = backbones.APPLICATIONS[name].smallest
    image = schema.Image(size, "squash", "bilinear", antialias=True)
    head = schema.Head(pooling="avg", units=[], dropout=[], l2=0)
    card = model.Card(schema.Backbone(name, "random", "", "", ""), "0" * 64, image, head, ["ant", "bee"])
    classifier = model.build(card, weights="random")
    pixels = pixels_for(classifier.backbone)
    deployed = write.serving(classifier)
    deployed.save(tmp_path / "model.keras")
    np.testing.assert_allclose(
        keras.models.load_model(tmp_path / "model.keras")(pixels.astype("uint8")),
        deployed(pixels.astype("uint8")),
        atol=1e-6,
    )
    expected = features(classifier.backbone, pixels)
    for extractor in ("auto", "tensorflow"):  # ONNX Runtime can't run ConvNeXt's grouped convolutions
        run, _ = engines.engine(classifier.backbone, extractor)
        assert_close(run(pixels)[0], expected)
    model.save(tmp_path, classifier)
    for one, other in zip(model.load(tmp_path).backbone.get_weights(), classifier.backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", backbones.ROWS)
def test_every_network_is_thawed_at_its_ends_and_in_the_middle_and_exported(name: str, tmp_path: Path) -> None:
    image = schema.Image(backbones.ROWS[name].smallest, "squash", "bilinear", antialias=True)
    head = schema.Head(pooling="avg", units=[], dropout=[], l2=0)
    card = model.Card(schema.Backbone(name, "random", "", "", ""), "", image, head, ["ant", "bee"])
    classifier = model.build(card, weights="random")
    pixels = pixels_for(classifier.backbone)
    *cuts, _ = freeze_boundaries.every(classifier.backbone)
    # From the top down, so that what each of them leaves frozen is still as it was pretrained.
    for cut in (cuts[-1], cuts[len(cuts) // 2], cuts[0]):
        frozen, thawed = model.thaw(classifier, cut)
        witness = frozen_weights.witness(classifier, thawed)
        # A step of one length, and wrong answers: random weights make some gradients huge and others nothing.
        # Not as a graph: TensorFlow keeps each with all that it has trained, gigabytes in a process of all networks.
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        thawed.compile(keras.optimizers.Lion(1e-4), loss, run_eagerly=True)
        arriving = features(frozen, pixels)
        thawed.train_on_batch(arriving, features(thawed, arriving).argmin(axis=1))
        frozen_weights.check(classifier, witness)
        now = model.fingerprint(classifier.backbone)
        assert any(now[path] != classifier.pretrained[path] for path in now.keys() - witness.keys())
    deployed = write.serving(classifier)
    deployed.save(tmp_path / "model.keras")
    loaded, whole = keras.models.load_model(tmp_path / "model.keras"), pixels.astype("uint8")
    said = np.asarray(deployed(whole))
    assert np.isfinite(said).all()
    np.testing.assert_allclose(loaded(whole), said, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_hash_is_pinned_for_every_networks_weights(name: str) -> None:
    row = backbones.APPLICATIONS[name]
    shape = (row.size, row.size, 3)
    download = downloads.wanted(lambda: applications.network(row, "imagenet", input_shape=shape))
    assert bool(download.pinned) != bool(row.md5)
    assert re.fullmatch(r"[0-9a-f]{32}|[0-9a-f]{64}", download.pinned or row.md5)


def test_every_image_network_of_keras_is_a_row() -> None:
    there = {
        name for name in vars(keras.applications) if isinstance(getattr(keras.applications, name), type(keras_own))
    }
    assert {row.builder for row in backbones.APPLICATIONS.values()} == there
