"""Keep the configuration from changing under a run: DVC reads params.yaml again when a stage ends, and records that.

So nothing is written there while DVC is at work here, and a stage whose values were changed all the same fails at its
end: DVC then records nothing of it. Sweeps and experiments in copies have a params.yaml of their own.
"""

import contextlib
import fcntl
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml

from thaw import paths

USED = Path(".dvc/tmp/rwlock")  # DVC's list of the files that its processes use
LOCK = Path(".dvc/tmp/lock")  # which DVC holds between two stages, and for a moment whenever it is asked something
WAIT, STEP = 3.0, 0.1  # seconds; DVC waits as long for its lock

_given: dict[str, Any] = {}  # the groups that the stage of this process was given


def busy(holders: list[int]) -> str:
    """Return the line of an error: another run is under way, of these processes where they are known."""
    who = f", process {' and '.join(map(str, holders))}" if holders else ""
    # A kill leaves the number of a process in DVC's list, which another process may have by then.
    killed = f"; if that is no run, remove {USED}" if holders else ""
    return f"expected no run under way, received one{who}; ask again when it has ended{killed}"


def check_idle(folder: Path = Path()) -> None:
    """Require that no DVC is at work in a project.

    Args:
        folder: its root.

    Raises:
        ValueError: one is.
    """
    holders = [pid for pid in _users(folder / USED) if psutil.pid_exists(pid)]
    if holders:
        raise ValueError(busy(holders))
    until = time.monotonic() + WAIT
    while _is_held(folder / LOCK):
        if time.monotonic() > until:
            raise ValueError(busy([]))
        time.sleep(STEP)


def _users(path: Path) -> list[int]:
    """Return the processes in DVC's list; none where a kill has left it half written, or its form is another."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        listed = json.loads(path.read_text(encoding="utf-8"))
        readers = [each for several in listed.get("read", {}).values() for each in several]
        return sorted({int(each["pid"]) for each in (*readers, *listed.get("write", {}).values())})
    return []


def _is_held(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # nothing was ever run here, or a file system without locks
        return False
    return False


def note(groups: Mapping[str, Any]) -> None:
    """Keep what a stage was given of params.yaml, for ``check_unchanged``."""
    _given.clear()
    _given.update(groups)


def check_unchanged(tracked: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
    """Require that params.yaml still has what the stage of this process was given.

    Args:
        tracked: returns what of groups the stage's result depends on.

    Raises:
        ValueError: it has something else.
    """
    now = yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8")) if _given else {}
    before, after = (tracked({group: of.get(group) for group in _given}) for of in (_given, now))
    other = [group for group in before if before[group] != after[group]]
    if other:
        raise ValueError(
            f"{paths.PARAMS}: expected it as it was when the stage began, received another {' and '.join(other)}; "
            "what was made is of the values from before, so nothing of it is recorded; run it again"
        )
