"""A command ends quietly when nobody reads what it says any more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from thaw import pipes

ROOT = Path(__file__).resolve().parents[2]
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


@pytest.mark.parametrize("words", [("thaw.cli", "--help"), ("thaw.cli", "predict", "--help"), ("thaw.backbone",)])
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
