import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from thaw.features import cache, cache_room

ROWS, ROW_BYTES, LINE_BYTES = 100, 48, 74  # of each entry here


def test_a_folder_that_cannot_be_written_is_told_with_its_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    said = r"^compute\.cache_dir: expected a folder that can be written, received .*{} \({}\); give another, or "
    for place, why in (("file", "File exists"), ("file/below", "Not a directory")):
        for use in (
            lambda folder: cache_room.claim(folder, ["a" * 32]),
            lambda folder: cache_room.lock(folder, "family"),
        ):
            with pytest.raises(ValueError, match=said.format(place, why)):
                use(tmp_path / place)
    monkeypatch.setattr(os, "access", lambda *_: False)  # permissions do not hold back the tests' own user
    with pytest.raises(ValueError, match=said.format("locked", "Permission denied")):
        cache_room.claim(tmp_path / "locked", ["a" * 32])


def filled(folder: Path, names: list[str]) -> list[Path]:
    """Entries of some rows, the first one used longest ago."""
    # Made in another order than they were used in, whichever way a file system lists them.
    for name in names[1::2] + names[::2]:
        age = len(names) - names.index(name)
        rows = np.zeros((ROWS, ROW_BYTES // 2), np.float16)
        cache.Entry(folder / name, rows.shape[1:]).append([f"{row:064x}" for row in range(ROWS)], rows)
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    return [folder / name for name in names]


NAMES = [cache.name(number=number) for number in range(4)]
ENTRY_BYTES = ROWS * (ROW_BYTES + LINE_BYTES)


def test_room_is_made_by_removing_what_was_not_used_for_longest(tmp_path: Path) -> None:
    entries = filled(tmp_path, NAMES)
    assert cache_room.make_room(tmp_path, 0, 4 * ENTRY_BYTES) == 0
    assert all(entry.exists() for entry in entries)
    assert cache_room.make_room(tmp_path, 1, 4 * ENTRY_BYTES) == 0
    assert [entry.exists() for entry in entries] == [False, True, True, True]
    assert cache_room.make_room(tmp_path, 2 * ENTRY_BYTES, 3 * ENTRY_BYTES) == 0
    assert [entry.exists() for entry in entries] == [False, False, False, True]


def test_what_is_used_counts_as_used_last(tmp_path: Path) -> None:
    entries = filled(tmp_path, NAMES)
    command = (
        "import sys; from pathlib import Path; from thaw.features import cache_room; "
        "cache_room.claim(Path(sys.argv[1]), sys.argv[2:])"
    )
    subprocess.run([sys.executable, "-c", command, str(tmp_path), NAMES[0]], check=True)
    assert not list(entries[0].glob("users/*"))  # that process has ended
    cache_room.make_room(tmp_path, 0, 2 * ENTRY_BYTES)
    assert [entry.exists() for entry in entries] == [True, False, False, True]


def test_an_entry_can_be_claimed_before_it_is_made_and_more_than_once(tmp_path: Path) -> None:
    folder = tmp_path / "of" / "many"
    for _ in range(2):
        cache_room.claim(folder, NAMES[:1])
    (entry,) = filled(folder, NAMES[:1])
    assert cache_room.make_room(folder, 0, 0) == ENTRY_BYTES
    assert entry.exists()


def test_an_entry_in_use_is_never_removed_and_the_excess_is_told(tmp_path: Path) -> None:
    entries = filled(tmp_path, NAMES)
    cache_room.claim(tmp_path, NAMES[:2])
    for entry in entries[:2]:
        os.utime(entry, (1, 1))
    assert cache_room.make_room(tmp_path, ENTRY_BYTES, ENTRY_BYTES) == 2 * ENTRY_BYTES
    assert [entry.exists() for entry in entries] == [True, True, False, False]


@pytest.mark.parametrize(
    ("marker", "days", "kept"),
    [
        (f"{socket.gethostname()}@{os.getpid()}@{psutil.Process().create_time():.2f}", 0, True),
        (f"{socket.gethostname()}@{os.getpid()}@{psutil.Process().create_time() - 60:.2f}", 0, False),
        (f"{socket.gethostname()}@{2**22 + 1}@1.00", 0, False),  # beyond Linux's largest process number
        ("another-host@1@1.00", 0, True),
        ("another-host@1@1.00", cache_room.MARKER_DAYS + 1, False),
    ],
    ids=["runs here", "was another's here", "has ended here", "on another host", "on another host, long ago"],
)
def test_a_marker_counts_while_its_process_may_run(tmp_path: Path, marker: str, days: int, kept: bool) -> None:
    (entry,) = filled(tmp_path, NAMES[:1])
    (entry / "users").mkdir()
    (entry / "users" / marker).touch()
    then = time.time() - days * 86400
    os.utime(entry / "users" / marker, (then, then))
    assert cache_room.make_room(tmp_path, 0, 0) == (ENTRY_BYTES if kept else 0)
    assert entry.exists() == kept


def test_a_folder_that_is_no_entry_is_left_alone(tmp_path: Path) -> None:
    # compute.cache_dir may be a disk that is used for other things too.
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "holiday.jpg").write_bytes(b"x" * 1000)
    os.utime(tmp_path / "photographs", (1, 1))
    (entry,) = filled(tmp_path, NAMES[:1])
    cache_room.make_room(tmp_path, 0, 0)
    assert (tmp_path / "photographs" / "holiday.jpg").exists()
    assert not entry.exists()
