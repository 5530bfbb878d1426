"""The number of threads that compute. It is a part of a result: sums in parts have their last bits by it."""

import math
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

VARIABLE = "TF_NUM_INTRAOP_THREADS"  # TensorFlow's
# Where Linux says which control groups a process is in, and what each of them may use.
OWN_GROUPS, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def cores() -> int:
    """Return the cores that this process may use, no more than the CPU quota of its container pays for.

    A quota of two and a half cores counts as three.
    """
    return max(1, math.ceil(min([_scheduled(), *_quotas()])))


def used() -> int:
    """Return the threads that share one operation of TensorFlow in this process, and in those that it starts."""
    return int(os.environ.get(VARIABLE) or 0) or cores()


def ahead(items: Generator[Item]) -> Generator[Item]:
    """The same items, the next of them made while the caller is busy with the last.

    Who stops half-way closes this, and ``items`` with it: nothing computes on behind a caller that has gone.
    """
    end: Any = object()
    with closing(items), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, items, end)
        while (item := waiting.result()) is not end:
            waiting = pool.submit(next, items, end)
            yield item


def overlapped(function: Callable[[Item], Made], items: Generator[Item]) -> Generator[Made]:
    """What the function makes of each item, in their order; it is at work on the next while the last is at its end.

    A function that divides its work among the cores leaves none waiting for the slowest then, nor for the caller. It
    runs twice at a time. Who stops half-way closes this, and ``items`` with it.
    """
    waiting: deque[Future[Made]] = deque()
    ended: Exception | None = None
    with closing(items), ThreadPoolExecutor(2) as pool:
        while ended is None:
            try:
                waiting.append(pool.submit(function, next(items)))
            except Exception as error:  # no more, or what is wrong with the next: those before it are not lost
                ended = error
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    if not isinstance(ended, StopIteration):
        raise ended


def keep_to_quota() -> None:
    """Tell TensorFlow, which is not imported yet, how many threads to use: it counts cores and knows no quotas."""
    if used() < _scheduled():
        os.environ[VARIABLE] = str(used())


def _scheduled() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quotas() -> Iterator[float]:
    """Yield the cores' worth of time that the process's control groups and those above them may use, where limited.

    A container may see the path that its host gives a group, but the group's files at the top: what is not there is
    passed over.
    """
    lines = OWN_GROUPS.read_text(encoding="utf-8").splitlines() if OWN_GROUPS.exists() else []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if not controllers:  # version 2 has one tree
            tops = [GROUPS]
        elif "cpu" in controllers.split(","):
            tops = [GROUPS / controllers, GROUPS / "cpu"]
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for top in tops:
            for depth in range(len(parts) + 1):
                limit = _limit(top.joinpath(*parts[:depth]))
                if limit:
                    yield limit


def _limit(group: Path) -> float:
    """Return the cores' worth of time of one group, by version 2 or 1; 0 without a limit."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota, period = (
                (group / f"cpu.cfs_{name}_us").read_text(encoding="ascii").strip() for name in ("quota", "period")
            )
        return max(0.0, int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):  # none, or "max"
        return 0.0
