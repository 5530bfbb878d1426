"""Locks between real threads and processes."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from thaw.sweep import locks, supervisor


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_of_two_the_second_waits_for_the_first_and_others_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []

    def second() -> None:
        with locks.hold("12345678", "b-12345678", supervisor.myself()):
            said.append("second")

    with locks.hold("12345678", "a-12345678", supervisor.myself()):
        thread = threading.Thread(target=second)
        thread.start()
        with locks.hold("12345679", "a-12345679", supervisor.myself()):
            said.append("another")
        time.sleep(0.5)
        said.append("first")
    thread.join(30)
    assert said == ["another", "first", "second"]
    assert capsys.readouterr().out == "  another sweep or job runs the same; waiting for it …\n"


def test_who_waits_stops_when_its_sweep_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LOOK", 0.1)
    host, number, began = supervisor.myself().rsplit("|", 2)
    ended = f"{host}|{number}|{float(began) - 100}"
    with (
        locks.lock("12345678"),
        pytest.raises(KeyboardInterrupt),
        locks.hold("12345678", "a-12345678", ended),
    ):
        pytest.fail("it is another's")


def test_of_a_sweep_that_was_killed_neither_lock_nor_trial_nor_copy_is_left(tmp_path: Path) -> None:
    copy = supervisor.COPIES / "tmp1"
    note = supervisor.NOTES / "tmp1" / "note.run"
    slow = (
        "import signal, sys, time; signal.signal(2, lambda *_: sys.exit(time.sleep(2) or print('in order'))); "
        "print('started', flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", slow, "--name", "a-12345678"]
    code = (
        "import os, pathlib, time; from thaw.sweep import supervisor as leash, locks\n"
        "with locks.hold('12345678', 'a-12345678', leash.myself()):\n"
        f"    leash.start(pathlib.Path(), leash.myself(), {words!r}, pathlib.Path('log'), dict(os.environ))\n"
        "    time.sleep(60)"
    )
    root = Path(locks.__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    log = tmp_path / "log"
    log.touch()
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as sweep:
        while "started" not in log.read_text():
            assert sweep.poll() is None
            time.sleep(0.1)
        sweep.kill()
    copy.mkdir(parents=True)  # as of a DVC that was killed too
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"name": "a-12345678", "root_dir": str(copy.resolve())}))
    with locks.hold("12345678", "a-12345678", supervisor.myself()):
        assert log.read_text() == "started\nin order\n"
        assert list(supervisor.COPIES.iterdir()) == []
