"""Keep by batches what a killed stage has done, and go on from it."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from thaw import paths, records
from thaw.tracking import unfinished

TOTAL, BATCH = 25, 4


def batches(start: int, computed: list[int], stop: int = TOTAL) -> Iterator[dict[str, np.ndarray]]:
    for first in range(start, TOTAL, BATCH):
        if first >= stop:
            raise KeyboardInterrupt
        numbers = np.arange(first, min(first + BATCH, TOTAL))
        computed.extend(numbers)
        yield {"squares": numbers**2, "rows": np.stack([numbers, -numbers], axis=1).astype(np.float16)}


def compute(folder: Path | None, stop: int = TOTAL, clock: float = 0.0) -> tuple[dict[str, np.ndarray], list[int]]:
    """Go as far as ``stop``, with a clock that goes on by so many seconds each time it is looked at."""
    computed: list[int] = []
    times = iter(np.arange(10_000) * clock)
    try:
        found = unfinished.rows(folder, "rows", lambda start: batches(start, computed, stop), lambda: next(times))
    except KeyboardInterrupt:
        found = {}
    return found, computed


def test_only_what_is_missing_is_computed_again_and_the_rows_are_the_same(tmp_path: Path) -> None:
    expected, everything = compute(None)
    assert len(everything) == TOTAL and list(tmp_path.iterdir()) == []
    _, first = compute(tmp_path, stop=8, clock=11.0)
    found, second = compute(tmp_path, clock=11.0)
    assert first + second == everything and len(first) == 8
    assert found.keys() == expected.keys()
    assert all(
        np.array_equal(found[name], rows) and found[name].dtype == rows.dtype for name, rows in expected.items()
    )
    again, computed = compute(tmp_path)
    assert computed == [] and np.array_equal(again["rows"], expected["rows"])


def test_little_work_is_not_written_before_its_end(tmp_path: Path) -> None:
    compute(tmp_path, stop=20, clock=1.0)
    assert [file.name for file in tmp_path.iterdir()] == []
    compute(tmp_path, clock=1.0)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "empty"])
def test_what_is_damaged_is_computed_again_and_all_that_follows_it(damage: str, tmp_path: Path) -> None:
    expected, _ = compute(tmp_path, clock=11.0)
    file = sorted(tmp_path.iterdir())[2]
    data = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        at = len(data) // 2
        flipped = data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]
        file.write_bytes({"cut": data[:at], "flipped": flipped, "empty": b""}[damage])
    found, computed = compute(tmp_path)
    assert computed == list(range(2 * BATCH, TOTAL))
    assert all(np.array_equal(found[name], rows) for name, rows in expected.items())


def test_a_full_disk_costs_what_would_be_kept_and_not_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, **_: np.ndarray) -> None:
        raise OSError(28, os.strerror(28), str(path))

    monkeypatch.setattr(records, "write_arrays", full)
    found, _ = compute(tmp_path, clock=11.0)
    assert len(found["rows"]) == TOTAL
    assert "".join(capsys.readouterr()).count("nothing more is kept") == 1


@pytest.mark.usefixtures("project")
def test_the_folder_goes_at_the_end_and_stays_after_an_error() -> None:
    folder = unfinished.place("evaluate")

    def ended() -> None:
        with unfinished.results("evaluate") as given:
            (given / "rows").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ended()
    assert folder.parent == Path.cwd() / paths.CHECKPOINTS and (folder / "rows").exists()
    with unfinished.results("evaluate") as same:
        assert same == folder and (folder / "rows").exists()
    assert not folder.exists()
    with pytest.raises(KeyboardInterrupt):
        ended()
    with unfinished.results("evaluate", "another input"):
        assert not folder.exists()


@pytest.mark.usefixtures("project")
def test_two_runs_of_the_same_inputs_may_end_at_the_same_time() -> None:
    with unfinished.results("evaluate") as first, unfinished.results("evaluate") as second:
        assert first == second and compute(first)[1]
    assert not first.exists()
