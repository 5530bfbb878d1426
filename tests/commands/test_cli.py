"""The command and its subcommands."""

import sys
from pathlib import Path

import pytest

from thaw.commands import cli


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.setattr(sys, "argv", ["thaw", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return str(ended.value.code)


def test_every_subcommand_is_in_the_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--help") == "0"
    shown = capsys.readouterr().out
    assert all(name in shown for name in cli.MODULES)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict", "nowhere"], "thaw predict: 1 of 1 files could not be used"),
        (["sweep-report"], "thaw sweep-report: expected a sweep in .thaw/sweeps, found none"),
        (["promote", "x"], "thaw promote: x: expected one finished trial of a sweep"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_subcommands_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said = call(monkeypatch, *words)
    assert said.startswith(message) and "\n" not in said


def test_a_sweep_is_compared_and_a_trial_promoted(
    finished_sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["thaw", "sweep-report"])
    cli.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("* 95.0% (83.5% to 98.6%)  loss 0.2000")
    assert lines[2].startswith("= 92.5%")
    assert lines[-1].endswith("report.html")
    monkeypatch.setattr(sys, "argv", ["thaw", "promote", "00000002", "--name", "chosen"])
    cli.main()
    assert Path("conf/experiment/chosen.yaml").is_file()
