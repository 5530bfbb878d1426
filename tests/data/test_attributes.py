"""The user's own columns of a table: which are taken, as what, and which are left out."""

from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thaw.data import attributes, table

COUNT = 60


@pytest.fixture
def columns(tmp_path: Path) -> dict[str, list[object]]:
    for number in range(COUNT):
        (tmp_path / f"{number}.png").write_bytes(b"x")
    return {
        "path": [f"./{number}.png" for number in range(COUNT)],
        "label": ["a", "b"] * 30,
        "camera": ["north", "south", ""] * 20,
        "age": list(range(COUNT)),
        "stars": [number % 5 for number in range(COUNT)],
        "note": [f"text {number}" for number in range(COUNT)],
        "same": ["x"] * COUNT,
        "width": ["wide", "narrow"] * 30,
    }


def written(folder: Path, columns: dict[str, list[object]], kind: str) -> Path:
    path = folder / f"images.{kind}"
    if kind == "parquet":
        cells = {name: [value if value != "" else None for value in values] for name, values in columns.items()}
        pq.write_table(pa.table(cells), path)
    else:
        rows = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_text_is_taken_many_numbers_become_ranges_and_what_names_images_is_left_out(
    tmp_path: Path, columns: dict[str, list[object]], kind: str
) -> None:
    path = written(tmp_path, columns, kind)
    found = attributes.read(str(path))
    assert found.columns == ["camera", "age", "stars", "width"] and found.ranged == ["age"]
    assert found.left_out == {"note": "more than 50 values", "same": "one value"}
    entries, _ = table.read(path)
    rows = [found.row(entry.path) for entry in entries]
    assert rows[0] == {
        "table:camera": "north",
        "table:age": "0 to 14",
        "table:stars": "0",
        "table:width": "wide",
    }
    assert [rows[number]["table:age"] for number in (14, 15, 44, 59)] == [
        "0 to 14",
        "15 to 29",
        "30 to 44",
        "45 to 59",
    ]
    assert rows[2]["table:camera"] == ""
    assert found.row("unknown.png") == dict.fromkeys(found.names, "")
    for name in ("camera", "age", "note", "same"):
        assert name in found.describe()


@pytest.mark.parametrize("text", ["path;label;camera\n{};a;north\n", 'path, "label", "camera"\n{}, a, north\n'])
def test_columns_are_found_however_they_are_separated(tmp_path: Path, text: str) -> None:
    names = ["0.png", "1.png"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    first = text.format(names[0])
    path = tmp_path / "images.csv"
    path.write_text(
        first + first.splitlines()[1].replace(names[0], names[1]).replace("north", "south") + "\n", encoding="utf-8"
    )
    assert attributes.read(str(path)).columns == ["camera"]


def test_equal_numbers_are_in_one_range() -> None:
    assert attributes.ranges([1.0] * 50 + [2.0] * 10 + [3.5] * 40) == [(1.0, 1.0), (2.0, 3.5)]
    assert attributes.ranges([0.0] * 99 + [7.0]) == [(0.0, 0.0), (7.0, 7.0)]
    assert len(attributes.ranges([0.0] * 80 + [float(n) for n in range(1, 21)])) == attributes.RANGES
    for numbers in ([0.1 * n for n in range(100)], [-5.0, 3.0, 3.0, 8.0, 9.0]):
        found = attributes.ranges(numbers)
        assert found[0][0] == min(numbers) and found[-1][1] == max(numbers)
        assert all(before[1] < after[0] for before, after in pairwise(found))


def test_a_folder_has_none_and_neither_has_a_table_without(tmp_path: Path, columns: dict[str, list[object]]) -> None:
    assert attributes.read(str(tmp_path)) == attributes.Attributes()
    path = written(tmp_path, {name: columns[name] for name in ("path", "label")}, "csv")
    assert attributes.read(str(path)) == attributes.Attributes() and attributes.read(str(path)).describe() == ""


def test_a_column_is_taken_with_as_many_values_as_slices_are_shown_of(
    tmp_path: Path, columns: dict[str, list[object]]
) -> None:
    """An empty cell is a value too: with it there would be one more than are shown."""
    full = [f"v{number % attributes.MOST}" for number in range(60)]
    own: dict[str, list[object]] = {"full": [*full], "more": [*full[:-1], ""]}
    found = attributes.read(str(written(tmp_path, {"path": columns["path"], "label": columns["label"], **own}, "csv")))
    assert found.columns == ["full"] and list(found.left_out) == ["more"]


def test_ranges_of_large_numbers_are_told_apart(tmp_path: Path, columns: dict[str, list[object]]) -> None:
    taken: dict[str, list[object]] = {"time": [1_700_000_000 + number for number in range(60)]}
    path = written(tmp_path, {"path": columns["path"], "label": columns["label"], **taken}, "csv")
    found = attributes.read(str(path))
    values = [found.row(entry.path)["table:time"] for entry in table.read(path)[0]]
    assert len(set(values)) == attributes.RANGES and values[0] == "1700000000 to 1700000014"


def test_too_many_columns_and_long_values_are_left_out(tmp_path: Path, columns: dict[str, list[object]]) -> None:
    many: dict[str, list[object]] = {f"c{number}": ["x", "y"] * 30 for number in range(attributes.MOST_COLUMNS + 1)}
    many["c0"] = ["x" * 101, "y"] * 30
    found = attributes.read(
        str(written(tmp_path, {"path": columns["path"], "label": columns["label"], **many}, "csv"))
    )
    assert found.columns == [f"c{number}" for number in range(1, attributes.MOST_COLUMNS)]
    assert set(found.left_out) == {"c0", f"c{attributes.MOST_COLUMNS}"}
