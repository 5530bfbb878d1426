import os
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from thaw import backbone, records

SHARED = Path(os.environ.get("THAW_SHARED", Path(__file__).parents[3] / "shared"))
FOLDED = SHARED / "weights" / "mobilenet_v2_imagenet_folded.weights.h5"
PIXELS = np.random.default_rng(1).uniform(0, 255, (2, 64, 64, 3)).astype("float32")


@pytest.fixture(scope="module", params=list(backbone.TABLE))
def model(request: pytest.FixtureRequest) -> keras.Model:
    return backbone.build(request.param, "random", 64)


@pytest.fixture(scope="module")
def lite0() -> keras.Model:
    return backbone.build("efficientnet_lite0", "random", 64)


def _features(model: keras.Model, pixels: np.ndarray = PIXELS) -> np.ndarray:
    return np.asarray(model(pixels, training=False))


def _same_weights(one: keras.Model, other: keras.Model) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def test_a_backbone_is_a_flat_graph_from_pixels_to_features(model: keras.Model) -> None:
    assert model.name in backbone.TABLE
    assert model.input_shape == (None, 64, 64, 3) and model.input.dtype == "float32"
    assert model.output_shape == (None, 2, 2, 1280)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert sum(isinstance(layer, keras.layers.Rescaling) for layer in model.layers) == 1
    assert _features(model).std() > 0


def test_mobilenet_is_kerass_own_on_pixels_scaled_to_one() -> None:
    ours = backbone.build("mobilenet_v2", "random", 64)
    keras_own = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(64, 64, 3))
    keras_own.set_weights(ours.get_weights())
    scaled = np.asarray(ours.get_layer("stem_range")(PIXELS))
    np.testing.assert_allclose(scaled, PIXELS / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(_features(ours), _features(keras_own, scaled))


def test_random_weights_are_the_same_in_every_process_and_at_every_size(model: keras.Model) -> None:
    keras.utils.set_random_seed(7)
    assert _same_weights(model, backbone.build(model.name, "random", 32))
    kernels = [variable for variable in model.weights if variable.name == "kernel"]
    assert all(np.std(kernel) > 0 for kernel in kernels)
    assert backbone.weights_sha256(model.name, "random") == backbone.weights_sha256(model.name, "random")


def test_package_weights_are_those_of_the_pinned_file() -> None:
    model = backbone.build("efficientnet_lite0", "package", 64)
    assert np.std(model.get_layer("stem_bn").moving_mean) > 0
    pin = backbone.TABLE["efficientnet_lite0"].sources["package"].sha256
    assert backbone.weights_sha256("efficientnet_lite0", "package") == pin


def test_weights_come_back_from_a_file(model: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "own.weights.h5"
    changed = backbone.build(model.name, "random", 64)
    changed.set_weights([array + 0.25 for array in changed.get_weights()])
    changed.save_weights(path)
    assert _same_weights(backbone.build(model.name, str(path), 32), changed)
    assert backbone.weights_sha256(model.name, str(path)) == records.sha256(path)


@pytest.mark.skipif(not FOLDED.exists(), reason="the shared MobileNetV2 weights are not here")
def test_weights_saved_from_kerass_mobilenet_load() -> None:
    ours = backbone.build("mobilenet_v2", str(FOLDED), 96)
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
    network.save(published / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5")
    assert _same_weights(backbone.build("mobilenet_v2", "imagenet", 64), network)
    again = backbone.weights_sha256("mobilenet_v2", "imagenet")
    assert again == backbone.weights_sha256("mobilenet_v2", "imagenet")
    assert again != backbone.weights_sha256("mobilenet_v2", "random")
    by_hand = published / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
    assert _same_weights(backbone.build("mobilenet_v2", str(by_hand), 64), network)


@pytest.mark.usefixtures("published")
def test_a_failed_download_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"expected to download .* give a local file with backbone\.weights=PATH"):
        backbone.build("mobilenet_v2", "imagenet", 64)


def test_weights_of_another_network_are_refused(lite0: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "lite0.weights.h5"
    lite0.save_weights(path)
    with pytest.raises(ValueError, match=r"expected weights of mobilenet_v2, received .*lite0\.weights\.h5"):
        backbone.build("mobilenet_v2", str(path), 64)


@pytest.mark.parametrize("damage", ["garbage", "layer", "nan"])
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
            else:
                file["layers/depthwise_conv2d_3/vars/0"][0, 0, 0, 0] = np.nan
    backbone.build("efficientnet_lite0", str(good), 64)
    with pytest.raises(ValueError, match="expected weights of efficientnet_lite0"):
        backbone.build("efficientnet_lite0", str(path), 64)


@pytest.mark.parametrize(
    ("name", "weights", "size", "message"),
    [
        (
            "resnet",
            "random",
            64,
            r"backbone\.name: expected one of efficientnet_lite0, mobilenet_v2, received 'resnet'",
        ),
        ("mobilenet_v2", "package", 64, "mobilenet_v2 expects imagenet, random or a .weights.h5 file"),
        ("efficientnet_lite0", "imagenet", 64, "efficientnet_lite0 expects package, random or a .weights.h5 file"),
        ("efficientnet_lite0", "none.weights.h5", 64, "which does not exist"),
        ("efficientnet_lite0", "random", 16, "expected 32 pixels or more, received 16"),
    ],
)
def test_what_the_table_does_not_hold_is_refused(name: str, weights: str, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backbone.build(name, weights, size)


def test_blocks_have_the_names_that_users_type(model: keras.Model) -> None:
    lite0 = "stem 1a 2a 2b 3a 3b 4a 4b 4c 5a 5b 5c 6a 6b 6c 6d 7a top"
    mobilenet = "stem expanded_conv 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 top"
    words = (lite0 if model.name == "efficientnet_lite0" else mobilenet).split()
    expected = [f"block_{word}" if word[0].isdigit() else word for word in words]
    assert [cut.block for cut in backbone.boundaries(model)] == [*expected, ""]


def test_no_cut_lies_inside_a_residual_block(model: keras.Model) -> None:
    names = [layer.name for layer in model.layers]
    for cut in backbone.boundaries(model)[1:-1]:
        behind = set(names[1 + cut.frozen_layers :])
        for layer in model.layers:
            if isinstance(layer, keras.layers.Add):
                feeding = {tensor._keras_history.operation.name for tensor in layer.input}
                # An addition is either frozen with all that feeds it, or gets from the frozen side the cut alone.
                assert layer.name not in behind or feeding - behind <= {cut.tensor_layer}
        assert cut.tensor_layer == names[cut.frozen_layers]
        assert cut.frozen_layers + cut.thawed_layers == len(names) - 1


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (  # a cut inside a block, beside its shortcut
            ((r"block_6b_expand", "half"), (r"block_6b", "rest"), (r"block_\d+[a-z]|stem|top", r"\g<0>")),
            r"into the block 'rest', received \['block_6a_project_bn', 'block_6b_expand_relu6'\]",
        ),
        (((r"stem|top", "outside"), (r"", "inside")), "into the block 'outside'"),  # one block in two pieces
        (((r"stem|top", r"\g<0>"),), "block_1a_depthwise_conv: expected a layer that a pattern"),
    ],
)
def test_wrong_block_patterns_are_refused(
    lite0: keras.Model, monkeypatch: pytest.MonkeyPatch, patterns: tuple[tuple[str, str], ...], message: str
) -> None:
    monkeypatch.setitem(backbone.TABLE, lite0.name, replace(backbone.TABLE[lite0.name], blocks=patterns))
    with pytest.raises(ValueError, match=message):
        backbone.boundaries(lite0)


def test_a_number_of_layers_snaps_to_the_nearest_cut_that_thaws_something(model: keras.Model) -> None:
    allowed = [cut.thawed_layers for cut in backbone.boundaries(model)[:-1]]
    for count in range(1, allowed[0] + 1):
        cut = backbone.boundary(model, str(count))
        best = min(abs(number - count) for number in allowed)
        assert cut.thawed_layers == min(number for number in allowed if abs(number - count) == best)
        assert cut.snapped == (count not in allowed)
        assert cut.requested == str(count)


def test_of_two_cuts_equally_near_the_one_that_thaws_less_is_taken(lite0: keras.Model) -> None:
    cut = backbone.boundary(lite0, "42")  # block_6a is 46 layers from the output, block_6b 38
    assert (cut.block, cut.thawed_layers) == ("block_6b", 38)


def test_boundaries_describe_themselves(lite0: keras.Model) -> None:
    said = {word: backbone.boundary(lite0, word).describe() for word in ("40", "38", "block_6b", "none", "all")}
    assert said == {
        "40": "40 layers asked, 38 thawed: from block_6b on",
        "38": "38 of 141 layers thawed: from block_6b on",
        "block_6b": "38 of 141 layers thawed: from block_6b on",
        "none": "0 of 141 layers thawed: the backbone stays frozen",
        "all": "141 of 141 layers thawed: from stem on",
    }


def test_all_and_none_cut_at_the_ends(model: keras.Model) -> None:
    everything, nothing = backbone.boundary(model, "all"), backbone.boundary(model, "none")
    assert (everything.block, everything.tensor_layer, everything.frozen_layers) == ("stem", "pixels", 0)
    assert (nothing.block, nothing.tensor_layer, nothing.thawed_layers) == ("", model.layers[-1].name, 0)
    assert backbone.boundary(model, "stem").tensor_layer == "pixels"


@pytest.mark.parametrize("unfreeze", ["0", "-1", "142", "1.5", "block_6e", "stem_conv", ""])
def test_a_depth_that_does_not_exist_is_refused_with_the_blocks(lite0: keras.Model, unfreeze: str) -> None:
    with pytest.raises(ValueError, match=rf"expected 1 to 141 layers.*block_6d.*received '{unfreeze}'"):
        backbone.boundary(lite0, unfreeze)


def test_the_two_parts_are_the_model_at_every_cut(lite0: keras.Model) -> None:
    whole, names = _features(lite0), [layer.name for layer in lite0.layers]
    for cut in backbone.boundaries(lite0):
        frozen, thawed = backbone.split(lite0, cut)
        activation = _features(frozen)
        np.testing.assert_array_equal(_features(thawed, activation), whole)
        if cut.block == "stem":
            np.testing.assert_array_equal(activation, PIXELS)
        shared = {id(variable) for variable in lite0.variables}
        parts = [id(variable) for variable in (*frozen.variables, *thawed.variables)]
        assert len(parts) == len(shared) and set(parts) == shared
        assert [layer.name for layer in frozen.layers] == names[: 1 + cut.frozen_layers]
        assert [layer.name for layer in thawed.layers[1:]] == names[1 + cut.frozen_layers :]


def test_a_split_mobilenet_is_the_model_and_follows_its_weights() -> None:
    model = backbone.build("mobilenet_v2", "random", 64)
    frozen, thawed = backbone.split(model, backbone.boundary(model, "block_13"))
    before = _features(model)
    np.testing.assert_array_equal(_features(thawed, _features(frozen)), before)
    thawed.get_layer("Conv_1_bn").beta.assign_add(np.ones(1280, "float32"))
    after = _features(model)
    assert not np.array_equal(after, before)
    np.testing.assert_array_equal(_features(thawed, _features(frozen)), after)


def test_the_command_lists_rows_and_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    backbone.main([])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(backbone.TABLE)
    backbone.main(["mobilenet_v2"])
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert rows["block_13"] == ["block_13", "9", "38", "157,888", "14", "x", "14", "x", "96", "37.6"]
