"""Cache of validation: what was found out about a file's content, kept so that it need not be decoded again.

The key is the hash of the content, the version that of the code that judges. It is a memo: deleting it changes nothing
but time. SQLite makes it safe against crashes and other processes; a checksum in each row, against a damaged disk.
"""

import json
import sqlite3
import threading
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, Self

from thaw import console, paths

BATCH = 500  # rows kept in memory before they are written
WAIT = 30.0  # seconds for another process to finish writing
COLUMNS = "version TEXT, sha256 TEXT, crc INTEGER, record TEXT, PRIMARY KEY (version, sha256)"
GET = "SELECT crc, record FROM found WHERE version = ? AND sha256 = ?"
PUT = "INSERT OR REPLACE INTO found VALUES (?, ?, ?, ?)"


class Kept(Protocol):
    """The part of a memo that is needed by who finds something out."""

    def put(self, sha256: str, record: dict[str, Any], /) -> None:
        """Remember a record."""


def judgements(version: str) -> "Memo":
    """Return the table of what was found out about images, which the workspace and its experiments share."""
    return Memo(paths.main_root() / ".thaw" / "triage" / "judgements.sqlite", version)


class Memo:
    """A table on disk, used by several threads at once.

    Args:
        path: of the file, made if missing.
        version: of the code that judges; what another version found is not seen.
        what: the table holds, for messages.
        lost: what is done without it.
    """

    def __init__(
        self, path: Path, version: str, what: str = "cache of validated images", lost: str = "all are decoded"
    ) -> None:
        self.path, self.version, self.what, self.lost = path, version, what, lost
        self._lock = threading.Lock()
        self._waiting: list[tuple[str, str, int, str]] = []
        self._table: sqlite3.Connection | None = None
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._write()
            if self._table is not None:
                self._table.close()

    def get(self, sha256: str) -> dict[str, Any] | None:
        """Return the record of a content, None if there is none."""
        with self._lock:
            if self._table is None:
                return None
            try:
                row = self._table.execute(GET, (self.version, sha256)).fetchone()
            except sqlite3.Error as error:
                self._give_up(error)
                return None
        if row is None or zlib.crc32(f"{sha256} {row[1]}".encode()) != row[0]:
            return None
        record: dict[str, Any] = json.loads(row[1])
        return record

    def put(self, sha256: str, record: dict[str, Any]) -> None:
        """Remember ``record``, a dict that JSON can hold."""
        text = json.dumps(record, sort_keys=True)
        with self._lock:
            self._waiting.append((self.version, sha256, zlib.crc32(f"{sha256} {text}".encode()), text))
            if len(self._waiting) >= BATCH:
                self._write()

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._table = sqlite3.connect(self.path, timeout=WAIT, check_same_thread=False)
            with self._table:
                self._table.execute(f"CREATE TABLE IF NOT EXISTS found ({COLUMNS})")
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def _write(self) -> None:
        if self._table is not None and self._waiting:
            try:
                with self._table:
                    self._table.executemany(PUT, self._waiting)
            except sqlite3.Error as error:
                self._give_up(error)
        self._waiting.clear()

    def _give_up(self, error: Exception) -> None:
        """Go on without the memo, which costs only time. A damaged one is removed, so that the next run has one."""
        if self._table is not None:
            self._table.close()
        self._table = None
        damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        if damaged:
            with suppress(OSError):
                self.path.unlink()
        then = "it was removed" if damaged else "it is not used"
        console.warn(f"{self.path}: expected the {self.what}, received {error}; {then}, {self.lost}")
