import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from thaw.data import validation_cache

A, B = "a" * 64, "b" * 64


def write(path: Path, records: dict[str, dict[str, Any]], version: str = "1") -> None:
    with validation_cache.Memo(path, version) as table:
        for sha256, record in records.items():
            table.put(sha256, record)


def test_what_was_found_is_known_to_the_next_process(tmp_path: Path) -> None:
    record = {"width": 3, "oddities": {"alpha": "ünd"}, "fingerprint": "00ff"}
    write(tmp_path / "below" / "memo", {A: record})
    with validation_cache.Memo(tmp_path / "below" / "memo", "1") as table:
        assert table.get(A) == record
        assert table.get(B) is None


def test_what_other_code_found_does_not_count(tmp_path: Path) -> None:
    write(tmp_path / "memo", {A: {"width": 1}}, "1")
    write(tmp_path / "memo", {A: {"width": 2}}, "2")
    for version, width in (("1", 1), ("2", 2)):
        with validation_cache.Memo(tmp_path / "memo", version) as table:
            assert table.get(A) == {"width": width}
    with validation_cache.Memo(tmp_path / "memo", "3") as table:
        assert table.get(A) is None


def test_a_row_that_is_no_longer_what_was_written_counts_as_missing(tmp_path: Path) -> None:
    write(tmp_path / "memo", {A: {"width": 1}, B: {"width": 2}})
    with sqlite3.connect(tmp_path / "memo") as table:
        table.execute("UPDATE found SET record = '{\"width\": 9}' WHERE sha256 = ?", (A,))
    table.close()
    with validation_cache.Memo(tmp_path / "memo", "1") as known:
        assert known.get(A) is None
        assert known.get(B) == {"width": 2}


@pytest.mark.parametrize("where", ["head", "middle"])
def test_a_damaged_memo_is_told_removed_and_made_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    path = tmp_path / "memo"
    write(path, {f"{number:064}": {"width": number} for number in range(2000)})
    data = bytearray(path.read_bytes())
    start = 0 if where == "head" else 4096
    data[start : start + 8192] = b"\xaa" * 8192
    path.write_bytes(data)
    with validation_cache.Memo(path, "1") as table:
        found = [table.get(f"{number:064}") for number in range(2000)]
        table.put(A, {"width": 1})
    assert all(record is None or record == {"width": number} for number, record in enumerate(found))
    assert None in found
    assert "expected the cache of validated images" in capsys.readouterr().err
    write(path, {A: {"width": 1}})
    with validation_cache.Memo(path, "1") as table:
        assert table.get(A) == {"width": 1}


def test_where_no_memo_can_be_kept_it_is_told_and_the_work_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    write(tmp_path / "file" / "memo", {A: {"width": 1}})
    assert "it is not used, all are decoded" in capsys.readouterr().err


def test_threads_and_two_processes_write_at_once(tmp_path: Path) -> None:
    with validation_cache.Memo(tmp_path / "memo", "1") as one, validation_cache.Memo(tmp_path / "memo", "1") as other:

        def fill(table: validation_cache.Memo, first: int) -> None:
            for number in range(first, first + 700):
                table.put(f"{number:064}", {"width": number})
                table.get(f"{number - 1:064}")

        threads = [threading.Thread(target=fill, args=(table, 300 * n)) for n, table in enumerate((one, other, one))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with validation_cache.Memo(tmp_path / "memo", "1") as table:
        assert all(table.get(f"{number:064}") == {"width": number} for number in range(1300))


def test_what_a_killed_process_had_written_stays_and_nothing_else_is_lost(tmp_path: Path) -> None:
    table = validation_cache.Memo(tmp_path / "memo", "1")
    for number in range(
        validation_cache.BATCH + 10
    ):  # the last ten are still in memory, and the table is never closed
        table.put(f"{number:064}", {"width": number})
    with validation_cache.Memo(tmp_path / "memo", "1") as other:
        assert [number for number in range(validation_cache.BATCH + 10) if other.get(f"{number:064}")] == list(
            range(validation_cache.BATCH)
        )
    table.__exit__()
