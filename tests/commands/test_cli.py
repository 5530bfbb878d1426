"""The command and its subcommands."""

import importlib
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.conftest import set_params
from thaw.commands import cli, completion, ui
from thaw.config import load
from thaw.sweep import multirun


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.setattr(sys, "argv", ["thaw", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return str(ended.value.code)


def test_every_subcommand_is_in_the_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--help") == "0"
    shown = capsys.readouterr().out
    assert all(name in shown for name in cli.MODULES)
    assert call(monkeypatch) == "2"  # no word at all: the same, so that nobody need ask for it
    assert capsys.readouterr().err == shown


def examples(command: str) -> list[list[str]]:
    """The words of each example in the help of a command, without what a shell makes of the rest of the line."""
    commands: Any = cli.parser([command])._subparsers
    shown = (
        str(commands._group_actions[0].choices[command].format_help())
        .partition("\nexamples:\n")[2]
        .partition("\n\n")[0]
    )
    found = []
    for line in shown.splitlines():
        words = list(shlex.shlex(line, posix=True, punctuation_chars=True))
        assert line.startswith("  ") and len(line) <= 119
        pipe = words.index("|") + 1 if "|" in words else 0
        end = words.index(">") if ">" in words else None
        found.append(words[pipe:end])
    return found


@pytest.mark.parametrize("command", cli.MODULES)
def test_the_help_of_each_command_has_examples_that_are_understood(command: str) -> None:
    """Check all of them: those of `thaw sweep` show what comes after it too."""
    own = [words for words in examples(command) if words[:2] == ["thaw", command]]
    assert own
    for _, *words in (words for words in examples(command) if words[0] == "thaw"):
        options = cli.parse(words)
        assert options.command == words[0]
        if options.command in ("run", "new", "check"):
            given = [f"+experiment={options.preset}"] if getattr(options, "preset", None) else []
            load.check(yaml.safe_load(load.compose([*given, *options.choices], ())))


def test_an_example_that_is_not_understood_would_be_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    assert ["thaw", "predict", "-"] in examples("predict") and ["thaw", "completion", "fish"] in examples("completion")
    with pytest.raises(SystemExit):
        cli.parse(["serve", "--prot", "8001"])
    assert "did you mean --port?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["demo", "--out", "."], "thaw demo: --out: expected a file to write, received the folder ."),
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


def test_a_typo_is_answered_with_the_nearest_before_anything_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda name: pytest.fail(f"imports {name}"))
    assert call(monkeypatch, "rnu") == "2"
    assert capsys.readouterr().err == "thaw: rnu: no such command; did you mean run?\n"
    assert call(monkeypatch, "xyzzy") == "2"
    assert "known: new, check, run," in capsys.readouterr().err


def test_an_option_that_is_none_is_answered_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "run", "--fats") == "2"
    assert "unrecognized arguments: --fats; did you mean --fast?" in capsys.readouterr().err
    assert call(monkeypatch, "run", "--xyzzyx") == "2"
    assert capsys.readouterr().err.endswith("unrecognized arguments: --xyzzyx\n")


def test_pages_of_runs_need_runs_and_nothing_is_made_where_there_are_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert call(monkeypatch, "ui").startswith(f"thaw ui: expected runs in {tmp_path / 'mlflow.db'}, found none; ")
    assert list(tmp_path.iterdir()) == []


def test_pages_of_runs_are_those_of_the_project(
    monkeypatch: pytest.MonkeyPatch, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_params(tracking={"uri": "sqlite:///other/runs.db"})
    assert f"expected runs in {project / 'other/runs.db'}, found none" in call(monkeypatch, "ui")
    set_params(tracking={"uri": "https://mlflow.example"})
    monkeypatch.setattr(ui, "_serve", lambda *_: pytest.fail("starts a server"))
    cli.main()
    assert "the runs are at https://mlflow.example" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"), [(["--version"], "thaw "), (["help"], "usage: thaw "), (["help", "ui"], "usage: thaw ui ")]
)
def test_version_and_help_are_given_as_other_commands_do(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *words) == "0"
    assert capsys.readouterr().out.startswith(said)


@pytest.mark.parametrize("word", ["-m", "--multirun"])
def test_a_sweep_takes_hydras_word_for_one(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[list[str]] = []
    monkeypatch.setattr(multirun, "main", lambda: told.append(sys.argv[1:]))
    monkeypatch.setattr(sys, "argv", ["thaw", "sweep", word, "phase2.epochs=1,2", "--retry-failed", "head=linear"])
    cli.main()
    assert told == [["phase2.epochs=1,2", "head=linear", multirun.RETRY]]


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_completion_knows_every_subcommand_and_its_options(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["thaw", "completion", shell])
    cli.main()
    script = capsys.readouterr().out
    assert all(name in script for name in cli.MODULES) and "retry-failed" in script


def test_bash_completes_a_subcommand_and_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["thaw", "completion", "bash"])
    cli.main()
    (tmp_path / "thaw.bash").write_text(capsys.readouterr().out, encoding="utf-8")
    ask = 'source thaw.bash; COMP_WORDS=({0}); COMP_CWORD={1}; _shtab_thaw; echo "${{COMPREPLY[@]}}"'
    for words, number, expected in (("thaw expl", 1, "explain"), ("thaw run --fa", 2, "--fast")):
        asked = ["bash", "--norc", "-c", ask.format(words, number)]
        done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.split() == [expected]


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_completes_a_subcommand_and_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["thaw", "completion", "fish"])
    cli.main()
    (tmp_path / "thaw.fish").write_text(capsys.readouterr().out, encoding="utf-8")
    for words, expected in (("thaw expl", "explain"), ("thaw run --fa", "--fast"), ("thaw completion z", "zsh")):
        asked = ["fish", "--no-config", "-c", f'source thaw.fish; complete -C "{words}"']
        done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [expected]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_reads_its_completion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["thaw", "completion", "zsh"])
    cli.main()
    (tmp_path / "_thaw").write_text(capsys.readouterr().out, encoding="utf-8")
    ask = 'fpath=("$PWD" $fpath); autoload -Uz compinit; compinit -u -D; print $_comps[thaw]'
    done = subprocess.run(["zsh", "-f", "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "_thaw"
    subprocess.run(["zsh", "-n", "_thaw"], cwd=tmp_path, check=True)


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


def test_ctrl_c_ends_the_pages_of_runs_quietly_and_all_that_was_started(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from thaw.commands import ui
signal.signal(signal.SIGINT, signal.default_int_handler)
worker = "import time; print(1, flush=True); time.sleep(600)"
server = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}])"
ui._serve([sys.executable, "-c", server], dict(os.environ))
"""
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr and process.stdout.readline() == "1\n"
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert process.stderr.read() == "" and len(started) == 2
        assert psutil.wait_procs(started, timeout=60)[1] == []


@pytest.mark.parametrize(("words", "goes_on"), [(["run"], True), (["run", "--fast"], False), (["backbones"], False)])
def test_only_what_goes_on_says_so_where_it_is_interrupted(
    words: list[str], goes_on: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(options: object) -> None:
        raise KeyboardInterrupt

    for module in ("thaw.commands.run", "thaw.commands.networks"):
        monkeypatch.setattr(importlib.import_module(module), "run", interrupted)
    before = signal.getsignal(signal.SIGINT)
    try:
        assert call(monkeypatch, *words) == "130"
    finally:
        signal.signal(signal.SIGINT, before)
    assert ("goes on" in capsys.readouterr().err) == goes_on
