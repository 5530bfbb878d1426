"""Workers wait for each other before they train, and do so with the same inputs or not at all."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from thaw.runtime import meeting
from thaw.runtime.team import Team


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "PAUSE", 0.01)
    monkeypatch.setattr(meeting, "BUSY", 0.01)


def team(count: int, number: int = 0) -> Team:
    """A team whose first worker listens at a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    return Team((f"127.0.0.1:{port}", *(f"other{each}:0" for each in range(1, count))), number)


@contextmanager
def beside(chief: Team, **inputs: str) -> Iterator[list[str]]:
    """The others in threads, which come to the meeting with their inputs; what they raise is in the list."""
    raised: list[str] = []

    def join(number: int, own: str) -> None:
        try:
            meeting.wait(Team(chief.addresses, number), lambda: own, 60, lambda _: None)
        except ValueError as error:
            raised.append(str(error))

    threads = [
        threading.Thread(target=join, args=(number, own), daemon=True)
        for number, own in enumerate(inputs.values(), start=1)
    ]
    for thread in threads:
        thread.start()
    yield raised
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_all_go_on_when_all_are_there_with_the_same_inputs() -> None:
    chief = team(3)
    with beside(chief, second="same", third="same") as raised:
        meeting.wait(chief, lambda: "same", 60, lambda _: None)
    assert raised == []


def test_who_has_other_inputs_is_named_to_all() -> None:
    chief = team(3)
    with (
        beside(chief, second="same", third="another") as raised,
        pytest.raises(ValueError, match="others at other2:0"),
    ):
        meeting.wait(chief, lambda: "same", 60, lambda _: None)
    assert len(raised) == 2 and all("others at other2:0; let all see the same" in text for text in raised)


def test_who_is_missing_is_named_when_the_time_is_over() -> None:
    chief, said = team(2), list[str]()
    with pytest.raises(
        ValueError, match=r"^compute\.workers: expected 2 within 0\.05 s, received 1; missing: other1:0;"
    ):
        meeting.wait(chief, lambda: "", 0.05, said.append)
    assert said == ["waiting for other1:0"]


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("", 0)) as door:
        chief = Team((f"127.0.0.1:{door.getsockname()[1]}", "b:1"))
        for each in (chief, Team(("b:1", chief.addresses[0]), 1)):
            with pytest.raises(ValueError, match=r"^127\.0\.0\.1:\d+: expected a port that is free, received one"):
                meeting.wait(each, lambda: "", 0.05, lambda _: None)


def test_others_wait_for_the_first_and_are_not_misled_by_who_else_listens_there() -> None:
    """A training of before answers in TensorFlow's protocol."""
    chief = team(2)
    host, _, port = chief.addresses[0].rpartition(":")
    with socket.create_server((host, int(port))) as door:
        door.settimeout(60)
        with beside(chief, second="same") as raised:
            for answer in (b"\x00\x00\x12\x04", b"{}\n", b"[1]\n", b'"text"\n'):
                for _ in range(2):  # it looks, and then comes
                    caller = door.accept()[0]
                    with caller:
                        caller.sendall(answer)
            door.close()
            meeting.wait(chief, lambda: "same", 60, lambda _: None)
    assert raised == []


def test_strangers_do_not_count() -> None:
    chief = team(2)
    host, _, port = chief.addresses[0].rpartition(":")
    over = threading.Event()

    def stranger() -> None:
        for text in (b"", b"GET / HTTP/1.1\n", b'{"number": 7}\n', b'{"number": "1"}\n', b'{"number": 0}\n'):
            done = False
            while not done and not over.is_set():
                try:
                    with socket.create_connection((host, int(port))) as caller:
                        caller.sendall(text)
                        done = True
                except OSError:
                    over.wait(0.01)

    thread = threading.Thread(target=stranger, daemon=True)
    thread.start()
    with pytest.raises(ValueError, match="received 1; missing: other1:0"):
        meeting.wait(chief, lambda: "", 0.5, lambda _: None)
    over.set()
    thread.join(60)
