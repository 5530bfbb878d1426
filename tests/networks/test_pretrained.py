import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from thaw import console, records
from thaw.catalog import backbones
from thaw.networks import pretrained
from thaw.runtime.framework import keras

SHARED = Path(os.environ.get("THAW_SHARED", Path(__file__).parents[3] / "shared"))
FOLDED = SHARED / "weights" / "mobilenet_v2_imagenet_folded.weights.h5"
PIXELS = np.random.default_rng(1).uniform(0, 255, (2, 64, 64, 3)).astype("float32")


@pytest.fixture(scope="module", params=["efficientnet_lite0", "mobilenet_v2"])
def model(request: pytest.FixtureRequest) -> keras.Model:
    return pretrained.build(request.param, "random", 64)


@pytest.fixture(scope="module")
def lite0() -> keras.Model:
    return pretrained.build("efficientnet_lite0", "random", 64)


def _features(model: keras.Model, pixels: np.ndarray = PIXELS) -> np.ndarray:
    return np.asarray(model(pixels, training=False))


def _same_weights(one: keras.Model, other: keras.Model) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def test_a_backbone_is_a_flat_graph_from_pixels_to_features(model: keras.Model) -> None:
    assert model.name in backbones.ROWS
    assert model.input_shape == (None, 64, 64, 3) and model.input.dtype == "float32"
    assert model.output_shape == (None, 2, 2, 1280)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert sum(isinstance(layer, keras.layers.Rescaling) for layer in model.layers) == 1
    assert _features(model).std() > 0


def test_mobilenet_is_kerass_own_on_pixels_scaled_to_one() -> None:
    ours = pretrained.build("mobilenet_v2", "random", 64)
    keras_own = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(64, 64, 3))
    keras_own.set_weights(ours.get_weights())
    scaled = np.asarray(ours.get_layer("stem_range")(PIXELS))
    np.testing.assert_allclose(scaled, PIXELS / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(_features(ours), _features(keras_own, scaled))


def test_random_weights_are_the_same_in_every_process_and_at_every_size(model: keras.Model) -> None:
    keras.utils.set_random_seed(7)
    assert _same_weights(model, pretrained.build(model.name, "random", 32))
    kernels = [variable for variable in model.weights if variable.name == "kernel"]
    assert all(np.std(kernel) > 0 for kernel in kernels)
    smaller = pretrained.build(model.name, "random", 32)
    assert pretrained.weights_sha256(model, "random") == pretrained.weights_sha256(smaller, "random")


def test_another_size_than_that_of_the_pretraining_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console.console, "_force_terminal", True)
    for weights, size, said in (("package", 64, 1), ("package", 224, 0), ("random", 64, 0)):
        pretrained.build("efficientnet_lite0", weights, size)
        lines = capsys.readouterr().out.splitlines()
        assert lines == ["efficientnet_lite0 was pretrained at 224 pixels and gets 64, which is image.size"] * said


def test_package_weights_are_those_of_the_pinned_file() -> None:
    model = pretrained.build("efficientnet_lite0", "package", 64)
    assert np.std(model.get_layer("stem_bn").moving_mean) > 0
    pin = backbones.LITES["efficientnet_lite0"].sha256
    assert pretrained.weights_sha256(model, "package") == pin


def test_weights_come_back_from_a_file(model: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "own.weights.h5"
    changed = pretrained.build(model.name, "random", 64)
    changed.set_weights([array + 0.25 for array in changed.get_weights()])
    changed.save_weights(path)
    assert _same_weights(pretrained.build(model.name, str(path), 32), changed)
    assert pretrained.weights_sha256(model, str(path)) == records.sha256(path)


@pytest.mark.skipif(not FOLDED.exists(), reason="the shared MobileNetV2 weights are not here")
def test_weights_saved_from_kerass_mobilenet_load() -> None:
    ours = pretrained.build("mobilenet_v2", str(FOLDED), 96)
    keras_own = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(96, 96, 3))
    keras_own.load_weights(FOLDED)
    assert _same_weights(ours, keras_own)
    with h5py.File(FOLDED) as file:
        first = file["layers/conv2d/vars/0"][:]
    np.testing.assert_array_equal(ours.get_layer("Conv1").kernel, first)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that Keras downloads MobileNetV2 from, and an empty cache for the download."""
    home, source = tmp_path / "keras", tmp_path / "published"
    home.mkdir()
    source.mkdir()
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(home))
    monkeypatch.setattr("keras.src.applications.mobilenet_v2.BASE_WEIGHT_PATH", f"{source.as_uri()}/")
    return source


def test_imagenet_weights_are_kerass_download(published: Path) -> None:
    network = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(224, 224, 3))
    by_hand = published / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
    network.save(by_hand)
    pin = records.sha256(by_hand)
    ours = pretrained.build("mobilenet_v2", "imagenet", 64, sha256=pin)
    assert _same_weights(ours, network)
    assert pretrained.weights_sha256(ours, "imagenet", sha256=pin) == pin
    assert _same_weights(pretrained.build("mobilenet_v2", str(by_hand), 64), network)


@pytest.mark.usefixtures("published")
def test_a_failed_download_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"expected to download mobilenet_v2.* put it here as .* backbone\.weights$"):
        pretrained.build("mobilenet_v2", "imagenet", 64, sha256="0" * 64)


def test_what_keras_pins_no_hash_for_must_have_that_of_the_table(published: Path) -> None:
    """Whoever trusts another file than the table does says so."""
    (published / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5").write_bytes(b"others")
    pinned = backbones.APPLICATIONS["mobilenet_v2"].md5
    with pytest.raises(ValueError, match=rf"expected the hash {pinned}, which Thaw pins, received [0-9a-f]+; delete"):
        pretrained.build("mobilenet_v2", "imagenet", 64)
    with pytest.raises(ValueError, match=r"^backbone\.sha256: expected .* to have the sha256 00+, received [0-9a-f]+"):
        pretrained.build("mobilenet_v2", "imagenet", 64, sha256="0" * 64)


def _build(network: keras.Model, weights: str, sha256: str) -> keras.Model:
    return pretrained.build(network.name, weights, 64, sha256=sha256)


def _hash(network: keras.Model, weights: str, sha256: str) -> str:
    return pretrained.weights_sha256(network, weights, sha256=sha256)


@pytest.mark.parametrize("build", [_build, _hash])
def test_a_hash_that_is_asked_for_is_checked_whatever_the_source(
    build: Callable[[keras.Model, str, str], object], lite0: keras.Model, tmp_path: Path
) -> None:
    path = tmp_path / "lite0.weights.h5"
    lite0.save_weights(path)
    for weights, right in (
        (str(path), records.sha256(path)),
        ("package", backbones.LITES["efficientnet_lite0"].sha256),
    ):
        build(lite0, weights, right)
        with pytest.raises(ValueError, match=r"^backbone\.sha256: expected .* to have the sha256 00+, received "):
            build(lite0, weights, "0" * 64)


def test_weights_of_another_network_are_refused(lite0: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "lite0.weights.h5"
    lite0.save_weights(path)
    with pytest.raises(ValueError, match=r"expected weights of mobilenet_v2, received .*lite0\.weights\.h5"):
        pretrained.build("mobilenet_v2", str(path), 64)


@pytest.mark.parametrize("damage", ["garbage", "layer", "nan", "data of another file"])
def test_damaged_weights_are_refused(lite0: keras.Model, tmp_path: Path, damage: str) -> None:
    good, path = tmp_path / "good.weights.h5", tmp_path / "bad.weights.h5"
    lite0.save_weights(good)
    shutil.copy(good, path)
    if damage == "garbage":
        path.write_bytes(b"not a file of weights")
    else:
        with h5py.File(path, "r+") as file:
            if damage == "layer":
                del file["layers/depthwise_conv2d_3"]
            elif damage == "data of another file":
                del file["layers/depthwise_conv2d_3/vars/0"]
                file["layers/depthwise_conv2d_3/vars/0"] = h5py.ExternalLink(
                    good.name, "layers/depthwise_conv2d_3/vars/0"
                )
            else:
                file["layers/depthwise_conv2d_3/vars/0"][0, 0, 0, 0] = np.nan
    pretrained.build("efficientnet_lite0", str(good), 64)
    with pytest.raises(ValueError, match="expected weights of efficientnet_lite0"):
        pretrained.build("efficientnet_lite0", str(path), 64)


@pytest.mark.parametrize(
    ("name", "weights", "size", "message"),
    [
        (
            "resnet",
            "random",
            64,
            r"backbone\.name: expected a name that `.*` lists, received 'resnet'",
        ),
        ("mobilenet_v2", "package", 64, "mobilenet_v2 expects imagenet, random or a .weights.h5 file"),
        ("efficientnet_lite0", "imagenet", 64, "efficientnet_lite0 expects package, random or a .weights.h5 file"),
        ("efficientnet_lite0", "none.weights.h5", 64, "which does not exist"),
        ("efficientnet_lite0", "folder.weights.h5", 64, "which is a folder"),
        ("efficientnet_lite0", "random", 16, "expected 32 pixels or more, as efficientnet_lite0 needs, received 16"),
    ],
)
def test_what_the_table_does_not_hold_is_refused(
    name: str, weights: str, size: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.weights.h5").mkdir()
    with pytest.raises(ValueError, match=message):
        pretrained.build(name, weights, size)


@pytest.mark.parametrize("name", ["efficientnet_lite1", "efficientnet_lite2"])
def test_the_larger_lites_have_their_packages(name: str) -> None:
    row = backbones.LITES[name]
    model = pretrained.build(name, "package", 64)
    assert model.count_params() == row.parameters
    assert pretrained.weights_sha256(model, "package") == row.sha256
    assert np.std(model.get_layer("stem_bn").moving_mean) > 0
