"""Supervise a trial: DVC and its stage end, in order, when the sweep does, also if that was killed outright.

``python -m thaw.sweep.supervisor SWEEP OWNER WORD…`` runs a command. Standard input is a pipe that whoever started it
holds: at its end, or when the process OWNER is gone, the command and all it has started get Ctrl-C, so that DVC takes
its locks and its copy of the project away, and what is then still there is killed. Nothing here depends on a system's
own means to bind the life of a process to another's, so it works wherever there are process groups.
"""

import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

GRACE = 60  # seconds that DVC has to put things in order after Ctrl-C before it is killed
INTERRUPTED = 128 + signal.SIGINT  # the exit code of what was stopped, so that it is not taken for a failure
LOOK = 1.0  # seconds between two looks at the owner
QUIET = 2.0  # seconds without a trial after which none will appear: longer than a worker is between two of them
NOTES, COPIES = Path(".dvc/tmp/exps/run"), Path(".dvc/tmp/exps/standalone")  # DVC's, of experiments that run


def myself() -> str:
    """Return this process as an owner: host, number, and when it began, since numbers are given away again."""
    return f"{platform.node()}|{os.getpid()}|{psutil.Process().create_time()}"


def alive(owner: str) -> bool:
    """Return whether the process is there; of one on another host nothing is known, so it counts as there."""
    host, number, began = owner.rsplit("|", 2)
    if host != platform.node():
        return True
    try:
        process = psutil.Process(int(number))
        return abs(process.create_time() - float(began)) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def number(owner: str) -> int:
    """Return the process's number if it is there and on this host, or else 0."""
    host, number, _ = owner.rsplit("|", 2)
    return int(number) if host == platform.node() and alive(owner) else 0


def start(sweep: Path, owner: str, words: Sequence[str], log: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a command under a supervisor, in a session of its own: a stop reaches all of it, once and together."""
    with log.open("w", encoding="utf-8") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "thaw.sweep.supervisor", sweep.resolve().as_posix(), owner, *words],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """Send Ctrl-C to what still runs and all it has started; what has not ended after ``GRACE`` is killed."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(GRACE)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def tidy(name: str) -> None:
    """Remove the copy of the project that DVC leaves of an interrupted experiment, and its note that it runs."""
    for note in NOTES.glob("*/*.run"):
        with suppress(OSError, ValueError):
            told = json.loads(note.read_text(encoding="utf-8"))
            copy = Path(told["root_dir"])
            if told["name"] == name and copy.is_dir() and copy.resolve().parent == COPIES.resolve():
                shutil.rmtree(copy, ignore_errors=True)
                shutil.rmtree(note.parent, ignore_errors=True)


def settle(mark: str) -> None:
    """Wait for trials that have been stopped; they take seconds to put things in order.

    Args:
        mark: their sweep's folder, as an absolute path, or their owner, or the name of one.
    """
    end = time.monotonic() + 2 * GRACE
    # Looked at, not waited for: that would take the exit code from whoever has started it.
    while _supervisors(mark) and time.monotonic() < end:
        time.sleep(0.1)


def interrupt(mark: str) -> None:
    """Send Ctrl-C to running trials, in whichever process they were started, and wait for their end; ``mark`` as
    above.

    Also to those that a launcher's workers start meanwhile, since a worker hears of it only by the end of its trial.
    Once to each: DVC, which puts things in order then, must not be disturbed again.
    """
    told: set[psutil.Process] = set()
    now = time.monotonic()
    quiet, end = now + QUIET, now + 2 * GRACE
    while (now := time.monotonic()) < min(quiet, end):
        for process in _supervisors(mark):
            quiet = now + QUIET
            with suppress(ProcessLookupError, psutil.Error):
                # Before it has started its command, it would not hear.
                if process not in told and process.children():
                    os.killpg(process.pid, signal.SIGINT)
                    told.add(process)
                    end = now + 2 * GRACE
        time.sleep(0.1)


def _supervisors(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if (
                words[1:3] == ["-m", "thaw.sweep.supervisor"]
                and mark in words[3:]
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
    return found


def main() -> None:
    _, owner, *words = sys.argv[1:]
    heard: list[int] = []
    # It is meant for the command, whose end this process waits for.
    signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    threading.Thread(target=_watch, args=(owner, child), daemon=True).start()
    code = child.wait()
    _end_others()  # what the command has left, as it may when it is killed
    if "--name" in words:
        tidy(words[words.index("--name") + 1])
    sys.exit(INTERRUPTED if heard else code if code >= 0 else 128 - code)


def _watch(owner: str, child: subprocess.Popen[bytes]) -> None:
    while not select.select([0], [], [], LOOK)[0] and alive(owner):
        pass
    os.killpg(0, signal.SIGINT)
    try:
        child.wait(GRACE)
    except subprocess.TimeoutExpired:
        _end_others()


def _end_others() -> None:
    """Kill what else is in this process's group."""
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.Error):
            if process.pid != os.getpid() and os.getpgid(process.pid) == os.getpgrp():
                process.kill()


if __name__ == "__main__":
    main()
