"""The table that ``python -m benchmarks.hostile`` prints, held: what becomes of each bad or odd file."""

from pathlib import Path

import pytest

from benchmarks import hostile


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """Raises if the stage stops, or if a byte of the user's files is not what it was."""
    return hostile.run(tmp_path_factory.mktemp("hostile"))


def test_every_file_ends_as_it_should(rows: list[dict[str, str]]) -> None:
    assert {row["file"]: row["became"] for row in rows} == {row["file"]: row["expected"] for row in rows}
    assert len({row["file"] for row in rows}) == len(rows) > 50


def test_a_file_that_changes_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    before = hostile.state(tmp_path)
    assert hostile.state(tmp_path) == before
    (tmp_path / "a").write_bytes(b"2")
    assert hostile.state(tmp_path) != before
