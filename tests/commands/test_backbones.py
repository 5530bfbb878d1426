import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from thaw import paths
from thaw.catalog import backbones as catalog
from thaw.commands import backbones
from thaw.config import load
from thaw.networks import pretrained

ROOT = Path(__file__).resolve().parents[2]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, list[str]]:
    """The lines by their first word."""
    backbones.main(arguments)
    return {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}


def test_the_table_has_a_line_for_each_row_and_one_for_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    backbones.main([])
    head, *rows, others = (line.split() for line in capsys.readouterr().out.splitlines())
    assert head == ["name", "size", "smallest", "parameters", "pixels", "weights"]
    assert [row[0] for row in rows] == list(catalog.ROWS)
    by_name = {row[0]: row[1:7] for row in rows}
    assert by_name["resnet50"] == ["224", "px", "32", "px", "23,587,712", "caffe"]
    assert " ".join(others).startswith("custom, keras_hub, saved_model: ")


def test_blocks_are_printed_at_the_networks_own_size_or_another(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        " ".join(printed(capsys, "mobilenet_v2")["block_13"]) == "block_13 9 38 157,888 5.2% 29.9% 14 x 14 x 96 37.6"
    )
    assert printed(capsys, "mobilenet_v2", "64")["block_13"][6:] == ["4", "x", "4", "x", "96", "3.1"]


def test_a_script_gets_the_same_table_and_the_same_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    backbones.main([], as_json=True)
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == list(catalog.ROWS)
    assert rows["resnet50"] == {
        "name": "resnet50",
        "size": 224,
        "smallest": 32,
        "parameters": 23587712,
        "pixels": "caffe",
        "weights": "imagenet",
    }
    backbones.main(["mobilenet_v2", "64"], as_json=True)
    blocks = {block["block"]: block for block in json.loads(capsys.readouterr().out)}
    told = blocks["block_13"]
    assert (told["layers"], told["layers_from_here"], told["parameters"], told["enters_as"]) == (
        9,
        38,
        157888,
        [4, 4, 96],
    )
    assert 0 < told["computation"] < told["computation_from_here"] < 1
    assert sum(block["computation"] for block in blocks.values()) == pytest.approx(1)


def test_of_a_large_network_no_weights_are_drawn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "_draw", None)
    parameters = [int(line[3].replace(",", "")) for line in list(printed(capsys, "convnext_xlarge").values())[1:]]
    assert sum(parameters) == catalog.ROWS["convnext_xlarge"].parameters


def test_a_network_from_outside_the_table_is_that_of_params(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(
        "import keras\n"
        "def build(size):\n"
        "    given = x = keras.Input((size, size, 3))\n"
        "    for number in range(3):\n"
        "        x = keras.layers.Conv2D(4, 3, name=f'block_{number}')(x)\n"
        "    return keras.Model(given, x)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(ROOT)
    words = ["backbone=custom", "backbone.builder=mine:build", "backbone.weights=random", "image=px64"]
    values = yaml.safe_load(load.compose(words))
    monkeypatch.chdir(tmp_path)
    paths.PARAMS.write_text(yaml.safe_dump(values))
    assert printed(capsys, "custom")["block_1"][6:11] == ["62", "x", "62", "x", "4"]
    assert printed(capsys, "custom", "32")["block_1"][6:11] == ["30", "x", "30", "x", "4"]
    with pytest.raises(
        ValueError, match=r"expected saved_model in params\.yaml, .* received custom; compile it with: "
    ):
        backbones.main(["saved_model"])


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_is_given(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    backbones.main([word])
    assert capsys.readouterr().out.startswith("usage: python -m thaw.backbone [NAME [SIZE]]\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("resnet", "backbone.name: expected a name that .* received 'resnet'; did you mean resnet50 or "),
        ("resnet50 abc", "expected a name and perhaps a size in pixels, received 'resnet50 abc'; usage: python -m "),
        ("resnet50 -64", "expected a name and perhaps a size in pixels, received 'resnet50 -64'; usage: "),
        ("resnet50 64 64", "expected a name and perhaps a size in pixels, received 'resnet50 64 64'; usage: "),
        ("resnet50 0", "image.size: expected 32 pixels or more, as resnet50 needs, received 0"),
        ("xception 70", "image.size: expected 71 pixels or more, as xception needs, received 70"),
    ],
)
def test_what_it_does_not_understand_is_refused(arguments: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        backbones.main(arguments.split())


def test_the_command_is_the_backbones_and_its_errors_are_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "thaw.backbone", "resnet"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("thaw.backbone: backbone.name: expected a name that ")
    assert done.stderr.count("\n") == 1
    assert catalog.unknown("resnet") in done.stderr
