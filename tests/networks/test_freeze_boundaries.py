from dataclasses import replace

import numpy as np
import pytest

from thaw.catalog import backbones
from thaw.config.unfreeze import UnfreezeSpec
from thaw.networks import freeze_boundaries, pretrained
from thaw.runtime.framework import keras

PIXELS = np.random.default_rng(1).uniform(0, 255, (2, 64, 64, 3)).astype("float32")


@pytest.fixture(scope="module", params=["efficientnet_lite0", "mobilenet_v2"])
def model(request: pytest.FixtureRequest) -> keras.Model:
    return pretrained.build(request.param, "random", 64)


@pytest.fixture(scope="module")
def lite0() -> keras.Model:
    return pretrained.build("efficientnet_lite0", "random", 64)


def _features(model: keras.Model, pixels: np.ndarray = PIXELS) -> np.ndarray:
    return np.asarray(model(pixels, training=False))


def test_blocks_have_the_names_that_users_type(model: keras.Model) -> None:
    lite0 = "stem 1a 2a 2b 3a 3b 4a 4b 4c 5a 5b 5c 6a 6b 6c 6d 7a top"
    mobilenet = "stem expanded_conv 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 top"
    words = (lite0 if model.name == "efficientnet_lite0" else mobilenet).split()
    expected = [f"block_{word}" if word[0].isdigit() else word for word in words]
    assert [cut.block for cut in freeze_boundaries.every(model)] == [*expected, ""]


def test_no_cut_lies_inside_a_residual_block(model: keras.Model) -> None:
    names = [layer.name for layer in model.layers]
    for cut in freeze_boundaries.every(model)[1:-1]:
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
            r"into the block 'rest', received none between block_6b_expand_relu6 and block_6b_depthwise_conv",
        ),
        (((r"stem|top", "outside"), (r"", "inside")), "into the block 'inside'"),  # one block in two pieces
    ],
)
def test_wrong_block_patterns_are_refused(
    lite0: keras.Model, monkeypatch: pytest.MonkeyPatch, patterns: tuple[tuple[str, str], ...], message: str
) -> None:
    monkeypatch.setitem(backbones.ROWS, lite0.name, replace(backbones.ROWS[lite0.name], blocks=patterns))
    with pytest.raises(ValueError, match=message):
        freeze_boundaries.every(lite0)


def test_a_number_of_layers_snaps_to_the_nearest_cut_that_thaws_something(model: keras.Model) -> None:
    allowed = [cut.thawed_layers for cut in freeze_boundaries.every(model)[:-1]]
    for count in range(1, allowed[0] + 1):
        cut = freeze_boundaries.find(model, UnfreezeSpec.parse(str(count)))
        best = min(abs(number - count) for number in allowed)
        assert cut.thawed_layers == min(number for number in allowed if abs(number - count) == best)
        assert cut.snapped == (count not in allowed)
        assert cut.requested.text == str(count)


def test_of_two_cuts_equally_near_the_one_that_thaws_less_is_taken(lite0: keras.Model) -> None:
    cut = freeze_boundaries.find(lite0, UnfreezeSpec.parse("42"))  # block_6a is 46 layers from the output, block_6b 38
    assert (cut.block, cut.thawed_layers) == ("block_6b", 38)


@pytest.mark.parametrize(
    ("unfreeze", "said"),
    [
        ("1%", "phase2.unfreeze: 1% of the computation asked, 5% unfrozen: from top on, more than twice as much; "),
        (
            "1",
            "phase2.unfreeze: 1 layers asked, 3 unfrozen: from top on, more than twice as much; efficientnet_lite0 ",
        ),
        ("40", ""),
        ("30%", ""),
        ("all", ""),
    ],
)
def test_much_more_than_was_asked_is_said_once(
    lite0: keras.Model, capsys: pytest.CaptureFixture[str], unfreeze: str, said: str
) -> None:
    freeze_boundaries._warn.cache_clear()
    for _ in range(2):
        freeze_boundaries.find(lite0, UnfreezeSpec.parse(unfreeze))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == bool(said)
    assert not said or said in lines[0]


def test_boundaries_describe_themselves(lite0: keras.Model) -> None:
    said = {
        word: freeze_boundaries.find(lite0, UnfreezeSpec.parse(word)).describe()
        for word in ("40", "38", "block_6b", "2blocks", "30%", "none", "all")
    }
    assert said == {
        "40": "40 layers asked, 38 unfrozen: from block_6b on",
        "38": "38 of 141 layers unfrozen: from block_6b on",
        "block_6b": "38 of 141 layers unfrozen: from block_6b on",
        "2blocks": "11 of 141 layers unfrozen: from block_7a on",
        "30%": "30% of the computation asked, 31% unfrozen: from block_6b on",
        "none": "0 of 141 layers unfrozen: the backbone stays frozen",
        "all": "141 of 141 layers unfrozen: from stem on",
    }


def test_all_and_none_cut_at_the_ends(model: keras.Model) -> None:
    everything, nothing = (freeze_boundaries.find(model, UnfreezeSpec.parse(word)) for word in ("all", "none"))
    assert (everything.block, everything.tensor_layer, everything.frozen_layers) == ("stem", "pixels", 0)
    assert (nothing.block, nothing.tensor_layer, nothing.thawed_layers) == ("", model.layers[-1].name, 0)
    assert freeze_boundaries.find(model, UnfreezeSpec.parse("stem")).tensor_layer == "pixels"


@pytest.mark.parametrize("unfreeze", ["142", "block_6e", "stem_conv", "19blocks", "auto"])
def test_a_depth_that_does_not_exist_is_refused_with_the_blocks(lite0: keras.Model, unfreeze: str) -> None:
    with pytest.raises(ValueError, match=rf"expected 1 to 141 layers.*block_6d.*received '{unfreeze}'"):
        freeze_boundaries.find(lite0, UnfreezeSpec.parse(unfreeze))


def test_the_two_parts_are_the_model_at_every_cut(lite0: keras.Model) -> None:
    whole, names = _features(lite0), [layer.name for layer in lite0.layers]
    for cut in freeze_boundaries.every(lite0):
        frozen, thawed = freeze_boundaries.split(lite0, cut)
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
    model = pretrained.build("mobilenet_v2", "random", 64)
    frozen, thawed = freeze_boundaries.split(model, freeze_boundaries.find(model, UnfreezeSpec.parse("block_13")))
    before = _features(model)
    np.testing.assert_array_equal(_features(thawed, _features(frozen)), before)
    thawed.get_layer("Conv_1_bn").beta.assign_add(np.ones(1280, "float32"))
    after = _features(model)
    assert not np.array_equal(after, before)
    np.testing.assert_array_equal(_features(thawed, _features(frozen)), after)
