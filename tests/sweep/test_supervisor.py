"""Real processes that start others, and what becomes of them when their owner ends."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from thaw.sweep import supervisor

# Ctrl-C means something to them also where these tests run in the background of a shell that has it ignored.
HEARD = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
INNER = HEARD + "import time; print('started', flush=True); time.sleep(60)"
OUTER = HEARD + f"import subprocess, sys; subprocess.run([sys.executable, '-c', {INNER!r}])"
WORDS = [sys.executable, "-c", OUTER]


def start(folder: Path, words: Sequence[str] = WORDS, owner: str = "") -> subprocess.Popen[bytes]:
    return supervisor.start(folder, owner or supervisor.myself(), words, folder / "log", dict(os.environ))


def family(process: int, log: Path) -> list[psutil.Process]:
    """The process and all that it has started, once that is there."""
    for _ in range(300):
        if "started" in log.read_text():
            return [psutil.Process(process), *psutil.Process(process).children(recursive=True)]
        time.sleep(0.1)
    pytest.fail("it did not start")


def test_a_command_on_a_leash_says_what_it_says_and_ends_as_it_ends(tmp_path: Path) -> None:
    process = start(tmp_path, [sys.executable, "-c", "import sys; print('said'); sys.exit(3)"])
    assert process.wait(60) == 3
    supervisor.stop(process)
    assert (tmp_path / "log").read_text() == "said\n"


def test_a_command_that_is_killed_ends_as_a_shell_would_say_it(tmp_path: Path) -> None:
    process = start(tmp_path, [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])
    assert process.wait(60) == 128 + signal.SIGKILL
    supervisor.stop(process)


def test_a_stop_ends_a_command_with_all_that_it_has_started(tmp_path: Path) -> None:
    process = start(tmp_path)
    started = family(process.pid, tmp_path / "log")
    assert len(started) == 3
    supervisor.stop(process)
    assert psutil.wait_procs(started, timeout=30)[1] == []
    assert process.returncode == supervisor.INTERRUPTED
    supervisor.stop(process)  # once more does nothing


def test_all_that_an_owner_has_on_a_leash_can_be_stopped_and_no_others(tmp_path: Path) -> None:
    processes = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        processes.append(start(folder))
        family(processes[-1].pid, folder / "log")
    supervisor.interrupt((tmp_path / "0").resolve().as_posix())
    assert processes[0].wait(10) == supervisor.INTERRUPTED
    assert processes[1].poll() is None
    supervisor.interrupt(supervisor.myself())
    assert processes[1].wait(10) == supervisor.INTERRUPTED
    for process in processes:
        supervisor.stop(process)


def test_what_is_started_while_others_are_stopped_is_stopped_too(tmp_path: Path) -> None:
    # A worker's trial: DVC takes a moment to put things in order, and the worker, which hears nothing, takes the next.
    slow = HEARD + (
        "import time\nprint('started', flush=True)\ntry:\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    time.sleep(1)\n    print('in order', flush=True)"
    )
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    process = start(first, [sys.executable, "-c", slow])
    family(process.pid, first / "log")
    started: list[subprocess.Popen[bytes]] = []

    def work() -> None:
        process.wait()
        started.append(start(second))

    worker = threading.Thread(target=work)
    worker.start()
    supervisor.interrupt(supervisor.myself())
    worker.join(10)
    assert (first / "log").read_text() == "started\nin order\n"  # told once
    assert started[0].wait(10) == supervisor.INTERRUPTED
    for each in (process, *started):
        supervisor.stop(each)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_ends_with_who_started_it_also_if_that_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import os, pathlib, sys, time; from thaw.sweep import supervisor as leash; "
        f"leash.start(pathlib.Path({str(tmp_path)!r}), leash.myself(), {WORDS!r}, "
        f"pathlib.Path({str(tmp_path / 'log')!r}), dict(os.environ)); time.sleep(60)"
    )
    (tmp_path / "log").touch()
    with subprocess.Popen([sys.executable, "-c", code]) as owner:
        started = family(owner.pid, tmp_path / "log")
        assert len(started) == 4
        owner.send_signal(number)
    supervisor.settle(tmp_path.resolve().as_posix())
    assert psutil.wait_procs(started, timeout=30)[1] == []


def test_a_command_ends_with_its_sweep_though_the_process_that_started_it_lives(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "from thaw.sweep import supervisor; print(supervisor.myself(), flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as sweep:
        assert sweep.stdout is not None
        owner = sweep.stdout.readline().strip()
        assert supervisor.alive(owner)
        process = start(tmp_path, owner=owner)
        started = family(process.pid, tmp_path / "log")
        sweep.kill()
    assert not supervisor.alive(owner)
    assert psutil.wait_procs(started, timeout=30)[1] == []
    supervisor.stop(process)


def test_of_an_owner_elsewhere_nothing_is_known_and_a_number_given_away_again_is_another_process() -> None:
    assert supervisor.alive("another host|1|0") and not supervisor.number("another host|1|0")
    assert supervisor.number(supervisor.myself()) == os.getpid()
    host, number, began = supervisor.myself().rsplit("|", 2)
    assert supervisor.alive(f"{host}|{number}|{began}")
    assert not supervisor.alive(f"{host}|{number}|{float(began) - 100}")


def test_the_copy_of_an_interrupted_experiment_is_removed_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    for name, copy in (("a", supervisor.COPIES / "tmp1"), ("b", supervisor.COPIES / "tmp2"), ("a", elsewhere)):
        copy.mkdir(parents=True)
        note = supervisor.NOTES / copy.name / "note.run"
        note.parent.mkdir(parents=True)
        note.write_text(json.dumps({"name": name, "root_dir": str(copy.resolve())}))
    (supervisor.NOTES / "tmp2" / "broken.run").write_text("{")
    supervisor.tidy("a")
    assert sorted(path.name for path in supervisor.COPIES.iterdir()) == ["tmp2"]
    assert sorted(path.name for path in supervisor.NOTES.iterdir()) == ["elsewhere", "tmp2"]
    assert elsewhere.is_dir()
