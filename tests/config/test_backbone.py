from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from thaw.config import backbone, load
from thaw.networks import pretrained, scaling

ROOT = Path(__file__).resolve().parents[2]
LITE0 = backbone.Backbone("efficientnet_lite0", "package", "", "", "")
HUB = backbone.Backbone("keras_hub", "presets/small", "", "imagenet", "")
CUSTOM = backbone.Backbone("custom", "builder", "mine:build", "0..1", "")


def test_what_is_written_down_is_what_the_table_has() -> None:
    assert tuple(pretrained.TABLE) == backbone.NETWORKS
    for name, row in pretrained.TABLE.items():
        assert backbone.words(name) == (*row.sources, "random")
        assert backbone.SMALLEST.get(name, 32) == row.smallest
    assert backbone.SMALLEST.keys() <= pretrained.TABLE.keys()
    assert tuple(scaling.CONTRACTS) == backbone.CONTRACTS


@pytest.mark.parametrize("name", backbone.NETWORKS)
def test_a_row_takes_its_own_words_only(name: str) -> None:
    for word in (*backbone.WORDS, "own.weights.h5"):
        if word in backbone.words(name) or word == "own.weights.h5":
            backbone.Backbone(name, word, "", "", "")
        else:
            with pytest.raises(ValueError, match=rf"^backbone\.weights: {name} expects \w+, random or the path of a "):
                backbone.Backbone(name, word, "", "", "")


@pytest.mark.parametrize("sha256", ["0" * 64, "1e5" + "a" * 61, "f" * 64])
@pytest.mark.parametrize("name", ["keras_hub", "saved_model"])
def test_the_documented_handle_is_one_that_a_command_line_takes(
    name: str, sha256: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert f"`{backbone.HANDLE}`" in (ROOT / "docs" / "backbones.md").read_text(encoding="utf-8")
    handle = backbone.HANDLE.replace("HEX", sha256)
    composed = load.compose([f"backbone={name}", f"backbone.weights={handle}"])
    assert yaml.safe_load(composed)["backbone"]["weights"] == handle


@pytest.mark.parametrize(
    ("right", "field", "wrong", "message"),
    [
        (LITE0, "pixels", "imagenet", "backbone.pixels: expected nothing, since efficientnet_lite0 has its own"),
        (CUSTOM, "pixels", "nonsense", r"backbone.pixels: expected one of 0..255, .*, caffe, received 'nonsense'"),
        (CUSTOM, "pixels", "", "backbone.pixels: expected one of 0..255, "),
        (CUSTOM, "weights", "imagenet", "backbone.weights: custom expects builder, random or the path of a "),
        (CUSTOM, "weights", "package", "backbone.weights: custom expects builder, random or the path of a "),
        (
            HUB,
            "weights",
            "kaggle://a/b/c/d/1",
            "backbone.weights: expected kaggle://owner/.*@sha256:HEX with 64 digits",
        ),
        (HUB, "weights", "imagenet", "backbone.weights: expected a folder or a handle, received 'imagenet'"),
        (CUSTOM, "builder", "mine", "backbone.builder: expected package.module:function, received 'mine'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(right: backbone.Backbone, field: str, wrong: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        replace(right, **{field: wrong})
    assert "\n" not in str(caught.value)
