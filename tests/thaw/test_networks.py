from dataclasses import replace

import pytest

from thaw import backbone, networks, pixels

LITE0 = networks.Backbone("efficientnet_lite0", "package", "", "", "")
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


@pytest.mark.parametrize(
    ("right", "field", "wrong", "message"),
    [
        (LITE0, "pixels", "imagenet", "backbone.pixels: expected nothing, since efficientnet_lite0 has its own"),
        (CUSTOM, "pixels", "nonsense", r"backbone.pixels: expected one of 0..255, .*, caffe, received 'nonsense'"),
        (CUSTOM, "pixels", "", "backbone.pixels: expected one of 0..255, "),
        (CUSTOM, "weights", "imagenet", "backbone.weights: custom expects builder, random or the path of a "),
        (CUSTOM, "weights", "package", "backbone.weights: custom expects builder, random or the path of a "),
        (CUSTOM, "builder", "mine", "backbone.builder: expected package.module:function, received 'mine'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(right: networks.Backbone, field: str, wrong: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        replace(right, **{field: wrong})
    assert "\n" not in str(caught.value)
