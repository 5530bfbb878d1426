"""`thaw new` on the command line."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from thaw.commands import cli


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


def test_an_option_that_is_not_there_is_no_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, "new", "mine", "--date", "images")
    assert ended.value.code == 2 and "--date" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
