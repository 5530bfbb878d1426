"""Choices on the command line hold for all later compositions, DVC's among them."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from thaw import paths
from thaw.config import __main__ as command
from thaw.config import chosen, load

FOLDER = "data=folder data.raw=a"
# Command lines one after the other, and the one that they come to.
SEQUENCES = [
    ([FOLDER, ""], FOLDER),
    ([FOLDER, "augment=strong", "phase2.epochs=5"], f"{FOLDER} augment=strong phase2.epochs=5"),
    (["phase2.epochs=5", "phase2.epochs=6"], "phase2.epochs=6"),
    ([f"{FOLDER} data.seed=3", "data.raw=b"], "data=folder data.raw=b data.seed=3"),
    # An option starts its group anew, and leaves others alone.
    ([f"{FOLDER} data.seed=3 image.fit=crop", "data=digits"], "data=digits image.fit=crop"),
    (["backbone=mobilenet_v2 backbone.weights=random", "backbone=resnet50"], "backbone=resnet50"),
    (["data=folder data/policy=strict data.policy.few=quarantine", "data/policy=default"], "data=folder"),
    # What is chosen alone holds for whichever option.
    (["image.fit=crop", "data=folder"], "image.fit=crop data=folder"),
    (["image=px96 image.fit=crop", "image.antialias=false"], "image=px96 image.fit=crop image.antialias=false"),
    # An experiment goes before all that it sets and was chosen before; not before what is said with it or later.
    ([f"{FOLDER} image=px96 image.fit=crop phase2.epochs=3", "+experiment=article"], f"{FOLDER} +experiment=article"),
    (
        ["+experiment=article phase2.epochs=3 image=px96", "head.l2=0.1"],
        "+experiment=article phase2.epochs=3 image=px96 head.l2=0.1",
    ),
    (
        ["+experiment=article", "backbone=resnet50 phase2=article phase2.epochs=3"],
        "+experiment=article backbone=resnet50 phase2=article phase2.epochs=3",
    ),
    (["+experiment=article", "+experiment=article head=linear"], "+experiment=article head=linear"),
    (["head.units=[9] head.dropout=[0.4]", "++head.l2=0.5"], "head.units=[9] head.dropout=[0.4] head.l2=0.5"),
    ([FOLDER, "--reset phase2.epochs=4"], "phase2.epochs=4"),
]
# What is wrong only once it is resolved, or is nothing that can be chosen.
WORDLESS = ("data.raw=${image.size}", "data.raw=${image.nix}", "compiled_from=x", "~phase2", "phase2=5", "image=[a,b]")
PLACES = (
    *("2024_01", "true", "bilder_ä", "my images", "a=b", "a,b", "1e5", "null"),
    *("it's", 'say "so"', "[a]", "back\\", "#1"),
)


def tell(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """Give words to the command."""
    monkeypatch.setattr(sys, "argv", ["thaw.config", *words])
    command.main()


def params() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))
    return values


def by_dvc(project: Path, *overrides: str) -> dict[str, Any]:
    """Return what DVC composes in a process of its own, as for ``dvc exp run -S``."""
    code = (
        "import sys; from dvc.utils.hydra import compose_and_dump as c; "
        "conf = sys.argv[1] + '/conf'; c('by_dvc.yaml', conf, None, 'config', conf, sys.argv[2:])"
    )
    subprocess.run([sys.executable, "-c", code, str(project), *overrides], check=True)
    values: dict[str, Any] = yaml.safe_load(Path("by_dvc.yaml").read_text(encoding="utf-8"))
    return values


@pytest.mark.parametrize(("lines", "whole"), SEQUENCES, ids=str)
def test_choices_add_up_to_what_one_command_line_says(
    project: Path, lines: Sequence[str], whole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = yaml.safe_load(load.compose(whole.split(), []))
    for line in lines:
        tell(monkeypatch, *line.split())
    written = params()
    assert {**written, "compiled_from": ""} == {**expected, "compiled_from": ""}
    assert load.read()[1] == written  # so it is not taken for older than conf/
    tell(monkeypatch)
    assert params() == written


def test_dvc_composes_with_what_was_chosen(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "2024_01").mkdir()
    tell(monkeypatch, "data=folder", "data.raw=2024_01", "image=px96", "image.fit=crop", "phase2.epochs=5")
    composed = by_dvc(project)
    assert composed == params()
    assert composed["data"]["raw"] == "2024_01"
    composed = by_dvc(project, "phase2.unfreeze=all", "image=px64")
    assert (composed["data"]["raw"], composed["phase2"]["epochs"]) == ("2024_01", 5)
    assert composed["image"]["fit"] == "squash"  # which was chosen for another option
    monkeypatch.chdir(project / "stages")
    assert by_dvc(project)["data"]["raw"] == "2024_01"


def test_another_option_has_none_of_the_fields_that_were_chosen_for_the_first(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, "data=folder", "data.raw=my_images", "backbone=mobilenet_v2", "backbone.weights=random")
    composed = yaml.safe_load(load.compose(["data=digits", "backbone=resnet50"]))
    assert composed["data"]["raw"] == paths.SAMPLE.as_posix()
    assert composed["backbone"]["weights"] == "imagenet"
    assert composed["image"]["size"] == 64  # as data=digits wants it


def test_an_experiment_on_dvcs_command_line_goes_before_what_was_chosen(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, "+experiment=article", "phase2.epochs=3", "image=px96")
    composed = by_dvc(project, "+experiment=article")
    assert (composed["phase2"]["epochs"], composed["image"]["size"]) == (20, 224)


def test_what_is_refused_is_not_remembered(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(monkeypatch, "data=folder", "data.raw=my_images")
    before = (paths.CHOSEN.read_bytes(), paths.PARAMS.read_bytes())
    for wrong in (
        "phase2.epoch=7",
        "data=nonesuch",
        "phase2.epochs=-1",
        "phase2.epochs=1,2",
        "image.size=???",
        *WORDLESS,
    ):
        with pytest.raises(ValueError, match=re.escape(wrong.split("=")[0])):
            tell(monkeypatch, wrong)
        assert (paths.CHOSEN.read_bytes(), paths.PARAMS.read_bytes()) == before


def test_choices_are_said_and_travel_with_git(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tell(monkeypatch, "data=folder", "data.raw=my images")
    assert "data=folder 'data.raw=my images'" in capsys.readouterr().out
    # Tracked, or DVC's isolated copies and clones of the project would not have it.
    changed = subprocess.run(["git", "diff", "--name-only"], capture_output=True, text=True, check=True).stdout.split()
    assert paths.CHOSEN.as_posix() in changed
    tell(monkeypatch, "--reset")
    assert "forgotten: data=folder 'data.raw=my images'" in capsys.readouterr().out.splitlines()
    assert params()["data"]["raw"] == paths.SAMPLE.as_posix()
    assert chosen.read(paths.CONF) == []
    for words, gone in (["phase2.epochs=9"], []), (["phase2.epochs=8"], []), (["phase2=article"], ["phase2.epochs=8"]):
        tell(monkeypatch, *words)
        said = capsys.readouterr().out.splitlines()[1:]
        assert said == [f"forgotten: {word}" for word in gone]


def test_the_memory_can_be_edited_and_a_damaged_one_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths.CHOSEN.write_text("- data=folder\n- data.raw=true\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"run `python -m thaw\.config`"):
        load.read()
    tell(monkeypatch)
    assert params()["data"]["raw"] == "true"
    for text in ("data: folder\n", "- data: folder\n", "- [\n", "just a text"):
        paths.CHOSEN.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=r"chosen\.yaml: expected a list of choices"):
            tell(monkeypatch)
    tell(monkeypatch, "--reset")
    paths.CHOSEN.unlink()
    tell(monkeypatch)
    assert params()["data"]["raw"] == paths.SAMPLE.as_posix()


@pytest.mark.parametrize(
    "word", ["image=gone", "phase2.epoch=3", "phase2.epochs=many", "imag=px64", "phase1.epochs=a b=c"]
)
def test_a_remembered_choice_that_no_longer_holds_is_named(
    project: Path, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen.write([word], paths.CONF)
    with pytest.raises(ValueError, match=r"remembered in conf/chosen\.yaml") as caught:
        tell(monkeypatch, "head=linear")
    assert word in str(caught.value) and "\n" not in str(caught.value)
    tell(monkeypatch, "--reset")


@pytest.mark.parametrize(
    "wrong", ["image.size=abc", "~phase2", "++phase2.foo=1", "phase2=5", "phase2.epochs=-1", "image=nix"]
)
def test_no_memory_is_blamed_for_what_was_just_typed(
    project: Path, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen.write(["image=px64", "phase2=article"], paths.CONF)
    with pytest.raises(ValueError, match=r"image|phase2") as caught:
        tell(monkeypatch, wrong)
    assert "remembered" not in str(caught.value)
    assert chosen.read(paths.CONF) == ["image=px64", "phase2=article"]


@pytest.mark.parametrize("place", PLACES)
def test_a_path_reaches_the_program_as_typed(project: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(monkeypatch, "data=folder", f"data.raw={place}", f"tracking.experiment={place}")
    assert (params()["data"]["raw"], params()["tracking"]["experiment"]) == (place, place)
    tell(monkeypatch)
    assert params()["data"]["raw"] == place


def test_quotes_of_hydra_and_references_still_mean_what_they_did(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, "data=folder", "data.raw='some where/ä'")
    assert params()["data"]["raw"] == "some where/ä"
    tell(monkeypatch, "data=folder", "data.raw=${oc.env:HOME}/images")
    assert params()["data"]["raw"] == f"{os.environ['HOME']}/images"


def test_home_is_expanded(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(project / "home"))
    tell(monkeypatch, "data=folder", "data.raw=~/images", "compute.cache_dir=~/cache")
    assert params()["data"]["raw"] == str(project / "home" / "images")
    assert params()["compute"]["cache_dir"] == str(project / "home" / "cache")
    assert "data.raw=~/images" in chosen.read(paths.CONF)  # another person has another home
    with pytest.raises(ValueError, match=r"data\.raw: expected the whole path"):
        load.compose(["data=folder", "data.raw='~/images'"])


def test_what_hydra_has_made_of_a_text_is_refused_where_it_cannot_be_known_any_more(project: Path) -> None:
    (paths.CONF / "data" / "mine.yaml").write_text("defaults: [folder, _self_]\nraw: 2024_01\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"data\.raw: expected a text, received 202401") as caught:
        load.compose(["data=mine"])
    assert "\n" not in str(caught.value)


def test_dvc_refuses_a_number_for_a_path(project: Path) -> None:
    (project / "202401").mkdir()
    words = ["dvc", "exp", "run", "--dry", "-S", "data=folder", "-S", "data.raw=2024_01"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "data.raw: expected a text, received 202401" in done.stdout + done.stderr


@pytest.mark.parametrize("place", ["data", ".", "data/prepared/converted", "models", "./data/../models/export"])
def test_images_cannot_lie_where_stages_write(project: Path, place: str) -> None:
    with pytest.raises(ValueError, match=r"data\.raw: expected a folder of its own"):
        load.compose(["data=folder", f"data.raw={place}"])
