"""Share the activation cache's folder among processes: who uses an entry, who computes, what is removed."""

import atexit
import errno
import os
import re
import shutil
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil
from filelock import FileLock

from thaw import console

MARKER_DAYS = 7  # after which a reader on another host counts as gone
NAME = re.compile("[0-9a-f]{32}")  # as ``thaw.features.cache.name`` makes them


def lock(cache: Path, family: str) -> FileLock:
    """Return the lock of what one process computes and others with the same weights and preprocessing then read."""
    return FileLock(_made(cache) / f"{family}.lock")


def _made(cache: Path) -> Path:
    """Return the cache's folder, made if missing.

    Raises:
        ValueError: it cannot be made, or nothing can be written into it.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        if not os.access(cache, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise ValueError(
            f"compute.cache_dir: expected a folder that can be written, received {cache} ({error.strerror}); "
            "give another, or leave it empty for .thaw/activations"
        ) from None
    return cache


def claim(cache: Path, names: Iterable[str]) -> None:
    """Mark entries as used by this process until it ends, so that no other removes them."""
    with FileLock(_made(cache) / "removal.lock"):
        for each in names:
            users = cache / each / "users"
            users.mkdir(parents=True, exist_ok=True)
            # With the time when it began, since the number goes to another process once this one has ended.
            marker = users / f"{socket.gethostname()}@{os.getpid()}@{psutil.Process().create_time():.2f}"
            marker.touch()
            os.utime(cache / each)
            atexit.register(_release, marker)


def _release(marker: Path) -> None:
    with suppress(FileNotFoundError):
        marker.unlink()


def make_room(cache: Path, wanted: int, budget: int) -> int:
    """Remove the least recently used entries until ``wanted`` bytes more fit the budget; never one in use.

    Returns:
        The bytes by which the budget will be exceeded all the same, 0 if it holds.
    """
    with FileLock(cache / "removal.lock"):
        # compute.cache_dir may be a folder that holds other things too.
        found = (path for path in cache.iterdir() if path.is_dir() and NAME.fullmatch(path.name))
        entries = sorted(found, key=lambda path: path.stat().st_mtime)
        sizes = {path: sum(file.stat().st_size for file in path.glob("*") if file.is_file()) for path in entries}
        total = sum(sizes.values())
        for path in entries:
            if total + wanted <= budget:
                break
            if not _in_use(path):
                shutil.rmtree(path)
                total -= sizes[path]
                console.say(f"activation cache: removed {sizes[path] / 1e6:,.0f} MB that were not used for longest")
    return max(0, total + wanted - budget)


def _in_use(path: Path) -> bool:
    for marker in path.glob("users/*"):
        host, number, began = f"{marker.name}@0".split("@")[:3]  # markers had no time in earlier versions
        with suppress(FileNotFoundError, psutil.NoSuchProcess):  # it may end while it is looked at
            if host == socket.gethostname():
                if abs(psutil.Process(int(number)).create_time() - float(began)) < 1:
                    return True
            elif time.time() - marker.stat().st_mtime < MARKER_DAYS * 86400:
                return True
    return False
