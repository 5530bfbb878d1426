"""`thaw new` on the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from thaw.commands import cli
from thaw.project import create


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["thaw", *words])
    cli.main()


def test_choices_may_stand_after_options(
    tmp_path: Path, tiny_images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    images = tiny_images.relative_to(tmp_path)
    call(monkeypatch, "new", "mine", "--data", str(images), "--preset", "article", "--json", "phase1.epochs=3")
    made = json.loads(capsys.readouterr().out)
    assert made["folder"] == str(tmp_path / "mine") and made["raw"] == tiny_images.as_posix()
    params = yaml.safe_load((tmp_path / "mine" / "params.yaml").read_text(encoding="utf-8"))
    assert params["phase1"]["epochs"] == 3 and params["phase2"]["unfreeze"] == "40"  # the experiment's
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, "new", "mine", "--data", str(images))
    assert str(ended.value.code).startswith(f"thaw new: {tmp_path / 'mine'}: expected a new or an empty folder")


@pytest.mark.parametrize("folder", ["./-p3", "a 'name' $HOME", "-", "plain"])
def test_what_comes_next_can_be_given_to_a_shell(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = tmp_path / folder
    made.mkdir()
    monkeypatch.setattr(create, "make", lambda *_, **__: create.Made(made, "data/raw", "new", True, "", []))
    call(monkeypatch, "new", "--", folder)
    said = capsys.readouterr().out.splitlines()[-1]
    words = said.removeprefix("next: ").removesuffix(" && thaw run")
    done = subprocess.run(["bash", "-c", f"{words} && pwd"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{made}\n"


def test_an_empty_word_is_no_path_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, "new", "mine", "--data", "")
    assert "--data: expected the path of images" in str(ended.value.code) and list(tmp_path.iterdir()) == []


def test_a_path_from_the_project_on_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = create.Made(tmp_path / "mine", "../x", "new", True, "", [])
    monkeypatch.setattr(create, "make", lambda *_, **__: made)
    call(monkeypatch, "new", "mine", "data.raw=../x")
    assert f"put your images into {tmp_path / 'x'}, or" in capsys.readouterr().out


def test_an_option_that_is_not_there_is_no_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, "new", "mine", "--date", "images")
    assert ended.value.code == 2 and "--date" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mine", "pictures of cats"], "if these are the images: --data 'pictures of cats'"),
        (["my", "flowers"], "flowers: expected GROUP=OPTION after DIR; quote a name with blanks"),
        (["mine", "--data", "pictures of cats", "pictures of cats"], "quote a name with blanks"),
    ],
)
def test_images_without_their_option_and_a_name_with_blanks_are_said(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures of cats").mkdir()
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, "new", *words)
    assert said in str(ended.value.code) and len(list(tmp_path.iterdir())) == 1
