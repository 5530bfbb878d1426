import io

import pytest
from rich.console import Console

from thaw import console


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a person at a terminal sees."""
    screen = io.StringIO()
    monkeypatch.setattr(console, "console", Console(file=screen, force_terminal=True, width=100, highlight=False))
    return screen


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What lands in a file."""
    file = io.StringIO()
    monkeypatch.setattr(console, "console", Console(file=file, force_terminal=False, width=40, highlight=False))
    return file


def _work() -> None:
    with console.stage("prepare"):
        console.say("looking around")
        assert list(console.track(iter("abc"), "letters", 3)) == ["a", "b", "c"]
        console.result("prepare", "3 letters [bold]of 26[/bold], a long line that is not to be folded → data/letters")


def test_at_a_terminal_a_person_sees_stage_bar_and_result(terminal: io.StringIO) -> None:
    _work()
    shown = terminal.getvalue()
    assert all(part in shown for part in ("looking around", "letters", "3/3", "images/s", "prepare took"))
    assert "prepare: 3 letters [bold]of 26[/bold], a long line" in shown


def test_elsewhere_there_is_the_result_only(log: io.StringIO) -> None:
    _work()
    expected = "prepare: 3 letters [bold]of 26[/bold], a long line that is not to be folded → data/letters\n"
    assert log.getvalue() == expected


def test_warnings_go_to_stderr_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    console.warn("the cache " + "grew " * 40 + "[too large]")
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err == "warning: the cache " + "grew " * 40 + "[too large]\n"


def test_a_loop_that_is_left_early_leaves_no_bar_behind(terminal: io.StringIO) -> None:
    for item in console.track(range(10), "numbers", 10):
        if item == 3:
            break
    assert list(console.track(range(2), "more", 2)) == [0, 1]
    assert "more" in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (3.04, "3.0 s"),
        (12.4, "12 s"),
        (59.7, "1 min 0 s"),
        (125, "2 min 5 s"),
        (3599.6, "1 h 0 min"),
        (3840, "1 h 4 min"),
    ],
)
def test_a_duration_is_given_in_the_units_of_people(seconds: float, text: str) -> None:
    assert console.duration(seconds) == text
