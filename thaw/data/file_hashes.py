"""Hashes of image files, kept across runs: a file whose state is as it was then is not read again for its hash.

The state is what the file system says of a file: device, number, size, and the times at which its bytes and its entry
were changed, in nanoseconds. The last of these nobody can set, so a file that is written and given its old time has
another state. Two writes within one tick of the file system's clock would have one state. So a hash is kept only where
the file was left alone for ``SETTLED`` seconds before it was read, as git does; a newer file is read again next time.

What no state tells, such as a damaged disk, is found by a sample: ``prepare`` reads a share of the files all the same,
and all where one is not what it was. Whoever decodes an image compares its bytes besides (``thaw.images.content``).
It is a memo: deleting it changes nothing but time.
"""

import os
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from thaw import paths, records
from thaw.data.validation_cache import Memo

SETTLED = 2.0  # seconds; file systems tick by 2 at most
SHARE, FEWEST = 0.01, 200  # of the files, read all the same
VERSION = "sha256 1"


@dataclass
class FileHashes:
    """The hashes that are kept, and which of them were found to be wrong."""

    memo: Memo
    share: float = 0.0  # of the files that are read all the same
    wrong: list[str] = field(default_factory=list)  # files that are not what their state says

    def known(self, status: os.stat_result) -> str:
        """Return the hex sha256 of a file in this state; empty if it is not known."""
        record = self.memo.get(_state(status))
        return record["sha256"] if record else ""

    def look_again(self) -> bool:
        """Draw whether a file is one of those that are read all the same."""
        return random.random() < self.share  # noqa: S311 -- another sample in each run

    def keep(self, path: Path, before: os.stat_result, began: int, sha256: str) -> None:
        """Remember a hash, if the file was left alone for long enough, and still is as it was.

        Args:
            path: of the file.
            before: its state when reading began.
            began: when that was, nanoseconds since the epoch.
            sha256: of what was read, hex.
        """
        newest = max(before.st_mtime_ns, before.st_ctime_ns)
        with suppress(OSError):  # it has gone meanwhile
            if began - newest > SETTLED * 1e9 and _state(path.stat()) == _state(before):
                self.memo.put(_state(before), {"sha256": sha256})

    def of(self, path: Path) -> str:
        """Return the hex sha256 of a file, which is read if its state is not known."""
        began, before = time.time_ns(), path.stat()
        if found := self.known(before):
            return found
        sha256 = records.sha256(path)
        self.keep(path, before, began, sha256)
        return sha256


def share(files: int) -> float:
    """Return the share of so many files that is read all the same: all of few."""
    return max(SHARE, min(1.0, FEWEST / max(files, 1)))


def memo() -> Memo:
    """Return the table of hashes, which the workspace and its isolated experiments share."""
    place = paths.main_root() / ".thaw" / "triage" / "hashes.sqlite"
    return Memo(place, VERSION, "hashes of files", "all are read")


def _state(status: os.stat_result) -> str:
    return f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
