"""Locks: what two sweeps, or two jobs of one, have in common is run by the first, and found by the other.

A lock goes with the process that holds it. So a sweep that was killed leaves none, and its supervised trials, which
take seconds to put things in order, are waited for.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from thaw import paths
from thaw.sweep import supervisor


def lock(key: str) -> FileLock:
    paths.LOCKS.mkdir(parents=True, exist_ok=True)
    return FileLock(paths.LOCKS / f"{key}.lock")


@contextmanager
def hold(key: str, name: str, owner: str) -> Iterator[None]:
    """Hold the lock of an experiment, so that no other process runs it.

    Args:
        key: the same for all that would compute the same.
        name: of the experiment; what is left of it is taken away.
        owner: as ``supervisor.myself`` names the sweep's process.

    Raises:
        KeyboardInterrupt: the sweep has ended while it waited.
    """
    held = lock(key)
    try:
        held.acquire(timeout=0)
    except Timeout:
        print("  another sweep or job runs the same; waiting for it …", flush=True)
        _wait(held, owner)
    try:
        supervisor.settle(name)
        supervisor.tidy(name)
        yield
    finally:
        held.release()


def _wait(held: FileLock, owner: str) -> None:
    while supervisor.alive(owner):
        try:
            held.acquire(timeout=supervisor.LOOK)
        except Timeout:
            continue
        return
    raise KeyboardInterrupt
