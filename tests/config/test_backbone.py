import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from thaw import paths
from thaw.catalog import backbones
from thaw.config import backbone, load

ROOT = Path(__file__).resolve().parents[2]
LITE0 = backbone.Backbone("efficientnet_lite0", "package", "", "", "")
HUB = backbone.Backbone("keras_hub", "presets/small", "", "imagenet", "")
CUSTOM = backbone.Backbone("custom", "builder", "mine:build", "0..1", "")


@pytest.mark.usefixtures("project")
def test_every_row_is_an_option_with_its_name_and_its_weights() -> None:
    for name, row in backbones.ROWS.items():
        composed = yaml.safe_load(load.compose([f"backbone={name}", "image=px224"], ()))["backbone"]
        common = {"builder": "", "pixels": "", "sha256": ""}
        assert composed == {"name": name, "weights": row.published, **common}
    with pytest.raises(ValueError, match=r"backbone=resnet: no such option; did you mean resnet50 or ") as caught:
        load.compose(["backbone=resnet"], ())
    assert "\n" not in str(caught.value)


def test_a_row_that_is_added_is_an_option_at_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backbones.ROWS, "resnet50_wide", replace(backbones.APPLICATIONS["resnet50"], smallest=48))
    composed = load.check(yaml.safe_load(load.compose(["backbone=resnet50_wide"], ())))
    assert composed.backbone == backbone.Backbone("resnet50_wide", "imagenet", "", "", "")
    with pytest.raises(ValueError, match=r"^image\.size: expected 48 pixels or more, as resnet50_wide needs"):
        replace(composed, image=replace(composed.image, size=47))


@pytest.mark.parametrize("name", ["resnet50", "mine"])
def test_a_file_goes_before_the_row_of_its_name_and_may_build_on_one(project: Path, name: str) -> None:
    own = "defaults: [resnet101, _self_]\nweights: own.weights.h5\n"
    (project / "conf" / "backbone" / f"{name}.yaml").write_text(own)
    # In a process of its own, as Hydra forgets no option that it was told of.
    subprocess.run([sys.executable, "-m", "thaw.config", f"backbone={name}"], check=True)
    composed = yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))["backbone"]
    assert (composed["name"], composed["weights"]) == ("resnet101", "own.weights.h5")


def test_what_the_rows_have_in_common_is_no_network() -> None:
    with pytest.raises(ValueError, match=r"^backbone\.name, backbone\.weights: expected a value, received none"):
        load.compose(["backbone=pretrained"], ())


@pytest.mark.parametrize("name", backbones.ROWS)
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
