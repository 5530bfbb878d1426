from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from thaw import backbone, config, networks, pixels

ROOT = Path(__file__).resolve().parents[2]
LITE0 = networks.Backbone("efficientnet_lite0", "package", "", "", "")
HUB = networks.Backbone("keras_hub", "presets/small", "", "imagenet", "")
CUSTOM = networks.Backbone("custom", "builder", "mine:build", "0..1", "")


def test_what_is_written_down_is_what_the_table_has() -> None:
    assert tuple(backbone.TABLE) == networks.NETWORKS
    for name, row in backbone.TABLE.items():
        assert networks.words(name) == (*row.sources, "random")
        assert networks.SMALLEST.get(name, 32) == row.smallest
    assert networks.SMALLEST.keys() <= backbone.TABLE.keys()
    assert tuple(pixels.CONTRACTS) == networks.CONTRACTS


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_a_row_takes_its_own_words_only(name: str) -> None:
    for word in (*networks.WORDS, "own.weights.h5"):
        if word in networks.words(name) or word == "own.weights.h5":
            networks.Backbone(name, word, "", "", "")
        else:
            with pytest.raises(ValueError, match=rf"^backbone\.weights: {name} expects \w+, random or the path of a "):
                networks.Backbone(name, word, "", "", "")


@pytest.mark.parametrize("sha256", ["0" * 64, "1e5" + "a" * 61, "f" * 64])
@pytest.mark.parametrize("name", ["keras_hub", "saved_model"])
def test_the_documented_handle_is_one_that_a_command_line_takes(
    name: str, sha256: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert f"`{networks.HANDLE}`" in (ROOT / "docs" / "backbones.md").read_text(encoding="utf-8")
    handle = networks.HANDLE.replace("HEX", sha256)
    composed = config.compose([f"backbone={name}", f"backbone.weights={handle}"])
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
def test_what_cannot_be_is_refused_in_one_line(right: networks.Backbone, field: str, wrong: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        replace(right, **{field: wrong})
    assert "\n" not in str(caught.value)
