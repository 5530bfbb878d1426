"""A command ends quietly when nobody reads what it says any more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from thaw import pipes

ROOT = Path(__file__).resolve().parents[1]
MUCH = "print('x' * 10_000_000)"  # more than a pipe holds
LITTLE = "import time; time.sleep(1); print('x')"  # is written only as Python ends


def left(*words: str) -> tuple[int, str]:
    """Exit code and standard error of a command whose standard output is closed by its reader."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    pipe = subprocess.PIPE
    command = [sys.executable, *words]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        said = process.stderr.read()
    return process.returncode, said


@pytest.mark.parametrize("work", [MUCH, LITTLE])
@pytest.mark.parametrize("end", ["", "; raise OSError('never seen')"])
def test_it_ends_without_a_word_once_its_reader_has_left(work: str, end: str) -> None:
    body = f"@pipes.reader_may_leave()\ndef main():\n    {work}{end}\n"
    assert left("-c", f"from thaw import pipes\n{body}main()") == (141, "")


@pytest.mark.parametrize(
    "words", [("thaw.commands.cli", "--help"), ("thaw.commands.cli", "predict", "--help"), ("thaw.backbone",)]
)
def test_the_commands_do(words: tuple[str, ...]) -> None:
    assert left("-m", *words) == (141, "")


def test_other_errors_are_what_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    @pipes.reader_may_leave()
    def main() -> None:
        print("said")
        raise ValueError("another")

    with pytest.raises(ValueError, match="another"):
        main()
    assert capsys.readouterr().out == "said\n"


def test_nothing_of_a_name_moves_the_cursor_or_ends_a_line() -> None:
    assert pipes.on_one_line("a\tb\nc\\d\x1b[2Je\u2028é") == r"a\tb\nc\\d\x1b[2Je\u2028é"
    assert pipes.shown("C:\\x\n\x1b[2J\r\x9bé") == "C:\\x\n" + r"\x1b[2J\r\x9b" + "é"


@pytest.mark.parametrize("what", ["progress.result('prepare', name)", "progress.warn(name)", "print(name)"])
def test_an_encoding_that_lacks_a_letter_ends_no_command(what: str) -> None:
    code = (
        "from thaw.config import load as config; from thaw import console as progress; name = 'é → 写'; "
        f"config.run(lambda: {what}, 'test')"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert rb"\xe9 \u2192 \u5199" in done.stdout + done.stderr


def test_a_mistake_that_quotes_a_name_shows_it_as_text() -> None:
    mistake = "def main(): raise ValueError('a\\x1b[2J\\r\\nb: wrong')"
    code = f"from thaw.config import load as config\n{mistake}\nconfig.run(main, 'test')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (1, rb"test: a\x1b[2J b: wrong" + b"\n")


def test_a_connection_string_is_in_no_message_and_no_secret_part_of_it_either(monkeypatch: pytest.MonkeyPatch) -> None:
    key, signature = "bm90LXRvLWJlLXNlZW4=", "sv=2024&sig=not%2Fseen"
    text = f"DefaultEndpointsProtocol=https;AccountName=name;AccountKey={key};SharedAccessSignature={signature}"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pass word")
    for said in (text, f"the key {key} is no key", f"GET /images?{signature}", "pass word"):
        told = pipes.without_secrets(f"name: {said} is wrong")
        assert not any(part in told for part in (key, signature, "pass word")) and told.startswith("name: ")
