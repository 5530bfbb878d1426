"""Records are the same bytes on every machine, and give back what was put in."""

import csv
import hashlib
import math
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from thaw import records

FLOATS = [0.1, 1 / 3, -0.0, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, math.nextafter(1, 2), 1e22]


def bits(values: list[float]) -> bytes:
    return np.array(values, np.float64).tobytes()


def test_json_is_sorted_and_indented_in_fixed_bytes(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "record.json"
    records.write_json(path, {"b": [1, 2.5], "a": {"z": True, "y": None}})
    expected = b'{\n  "a": {\n    "y": null,\n    "z": true\n  },\n  "b": [\n    1,\n    2.5\n  ]\n}\n'
    assert path.read_bytes() == expected


def test_json_bytes_do_not_depend_on_the_order_of_the_keys(tmp_path: Path) -> None:
    one, two = tmp_path / "1.json", tmp_path / "2.json"
    records.write_json(one, {"x": {"a": 1, "b": 2}, "y": 3})
    records.write_json(two, {"y": 3, "x": {"b": 2, "a": 1}})
    assert one.read_bytes() == two.read_bytes()
    assert records.sha256(one) == records.sha256(two)


def test_floats_keep_their_bits_through_json(tmp_path: Path) -> None:
    random = np.random.default_rng(0).normal(size=500).tolist()
    path = tmp_path / "floats.json"
    records.write_json(path, {"values": FLOATS + random})
    assert bits(records.read_json(path)["values"]) == bits(FLOATS + random)


def test_floats_keep_their_bits_through_csv(tmp_path: Path) -> None:
    values = FLOATS + np.random.default_rng(1).normal(size=500).tolist()
    path = tmp_path / "floats.csv"
    records.write_csv(path, ["value"], ({"value": value} for value in values))
    assert bits([float(row["value"]) for row in records.read_csv(path)]) == bits(values)


def test_numpy_floats_keep_their_bits_through_csv(tmp_path: Path) -> None:
    path = tmp_path / "floats.csv"
    single = np.random.default_rng(2).normal(size=100).astype(np.float32)
    double = np.random.default_rng(3).normal(size=100)
    rows = ({"single": one, "double": two} for one, two in zip(single, double, strict=True))
    records.write_csv(path, ["single", "double"], rows)
    back = records.read_csv(path)
    assert np.array([row["single"] for row in back]).astype(np.float32).tobytes() == single.tobytes()
    assert bits([float(row["double"]) for row in back]) == double.tobytes()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_refuses_what_json_has_no_word_for_and_writes_no_file(tmp_path: Path, value: float) -> None:
    path = tmp_path / "record.json"
    with pytest.raises(ValueError, match="JSON"):
        records.write_json(path, {"loss": {"deep": [value]}})
    assert not path.exists()


def test_csv_has_its_header_and_lf_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.csv"
    records.write_csv(path, ["name", "count"], [{"count": 1, "name": "a"}, {"name": "b", "count": 2}])
    assert path.read_bytes() == b"name,count\na,1\nb,2\n"


def test_csv_without_rows_still_has_its_header(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    records.write_csv(path, ["name", "count"], [])
    assert path.read_bytes() == b"name,count\n"
    assert records.read_csv(path) == []


def test_unicode_commas_quotes_and_line_breaks_come_back(tmp_path: Path) -> None:
    names = ["Fuß/äpfel.jpg", "写真,1.png", 'say "cheese".png', "two\nlines.png", "two\r\nlines.png", " space ", "🍎"]
    table, record = tmp_path / "rows.csv", tmp_path / "record.json"
    records.write_csv(table, ["path"], ({"path": name} for name in names))
    assert [row["path"] for row in records.read_csv(table)] == names
    records.write_json(record, {"paths": names, "ключ": "значение"})
    assert records.read_json(record) == {"paths": names, "ключ": "значение"}
    assert "写真" in table.read_text(encoding="utf-8")
    assert "写真" in record.read_text(encoding="utf-8")


ENDS = ["a\rb.png", "\r", "\n", "a\r", "\r\n\r", "a\u2028b\x85c", "a\tb", "\x1b[31mred", '"', "'", ""]


def test_no_end_of_line_in_a_name_ends_a_row(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    rows = [{"path": name, "label": f"{number}"} for number, name in enumerate(ENDS)]
    records.write_csv(table, ["path", "label"], rows)
    assert records.read_csv(table) == rows
    with table.open(encoding="utf-8", newline="") as file:  # others find the same rows
        assert [row["label"] for row in csv.DictReader(file)] == [row["label"] for row in rows]


FORMULAS = [
    "=cmd|' /C calc'!A0",
    "@SUM(1)",
    "+cmd",
    "-x",
    "\t=1+1",
    "\r=1+1",
    "\n=1",
    "'=1",
    "''-1",
    "'-1",
    "\uff1d1",
    "-1+2",
]


def test_no_name_is_a_formula_to_a_spreadsheet_and_each_comes_back(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    names = [*FORMULAS, "cat", "'quoted'", "-1", "-0.5", "1e-05", "+1.5e+20"]
    records.write_csv(table, ["path"], ({"path": name} for name in names))
    with table.open(encoding="utf-8", newline="") as file:
        cells = [row["path"] for row in csv.DictReader(file)]
    assert cells == [f"'{name}" for name in FORMULAS] + names[len(FORMULAS) :]
    assert [row["path"] for row in records.read_csv(table)] == names


def test_numbers_stay_numbers(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    records.write_csv(table, ["a", "b"], [{"a": -0.5, "b": -math.inf}, {"a": np.float32(-1), "b": -3}])
    assert table.read_bytes() == b"a,b\n-0.5,-inf\n-1.0,-3\n"


def test_csv_refuses_a_column_it_was_not_told_of(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="extra"):
        records.write_csv(tmp_path / "rows.csv", ["a"], [{"a": 1, "extra": 2}])


def test_reading_json_that_is_no_object_says_so(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(ValueError, match=r"list\.json: expected a JSON object, received list"):
        records.read_json(path)


def test_a_file_that_cannot_be_read_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "trial.json"
    for data in (b'{"name": "a', b"", b"\xff\xfe"):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"trial\.json: expected JSON, .*; delete the file and give the command"):
            records.read_json(path)


def test_what_is_cut_off_leaves_the_file_that_was_there_and_no_other(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, int]]:
        yield {"a": 2}
        raise KeyboardInterrupt

    table = tmp_path / "rows.csv"
    records.write_csv(table, ["a"], [{"a": 1}])
    with pytest.raises(KeyboardInterrupt):
        records.write_csv(table, ["a"], rows())
    assert table.read_bytes() == b"a\n1\n"
    assert list(tmp_path.iterdir()) == [table]


def test_who_reads_while_another_writes_sees_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    records.write_json(path, {"values": [0] * 9000})

    def write() -> None:
        for number in range(100):
            records.write_json(path, {"values": [number] * 9000})

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        assert len(records.read_json(path)["values"]) == 9000
    writer.join()
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_has_the_rights_that_any_other_has_and_takes_the_place_of_a_protected_one(tmp_path: Path) -> None:
    path, other = tmp_path / "record.json", tmp_path / "other"
    other.touch()
    records.write_json(path, {})
    assert path.stat().st_mode == other.stat().st_mode
    kept = tmp_path / "kept"
    kept.hardlink_to(path)  # as DVC's cache may be
    records.write_json(path, {"a": 1})
    assert kept.read_bytes() == b"{}\n"


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(bytes(range(256)) * 9000)  # more than one buffer
    assert records.sha256(path) == hashlib.sha256(bytes(range(256)) * 9000).hexdigest()


def test_texts_bytes_and_arrays_take_the_place_of_a_file_without_changing_what_is_linked_to_it(tmp_path: Path) -> None:
    writers: dict[str, Callable[[Path, int], None]] = {
        "page.html": lambda path, number: records.write_text(path, f"{number}\n"),
        "model.keras": lambda path, number: records.write_bytes(path, bytes([number])),
        "rows.npy": lambda path, number: records.write_array(path, np.full(3, number)),
    }
    for name, write in writers.items():
        path, link = tmp_path / "new" / name, tmp_path / name
        write(path, 1)
        link.hardlink_to(path)
        before = link.read_bytes()
        write(path, 2)
        assert link.read_bytes() == before != path.read_bytes()
    assert np.load(tmp_path / "new" / "rows.npy").tolist() == [2, 2, 2]
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(writers)


def test_what_fails_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "model.weights.h5"
    path.write_bytes(b"before")

    def fail(part: Path) -> None:
        assert part.name.endswith(".weights.h5")  # by which Keras chooses the format
        part.write_bytes(b"half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"), records.replaced(path) as part:
        fail(part)
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_a_new_folder_is_empty_and_what_a_link_led_to_stays(tmp_path: Path) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "models" / "folder"
    elsewhere.mkdir()
    (elsewhere / "kept").write_bytes(b"kept")
    records.make_new(folder)
    (folder / "below").mkdir()
    records.make_new(folder)
    assert list(folder.iterdir()) == []
    folder.rmdir()
    folder.symlink_to(elsewhere)
    records.make_new(folder)
    assert list(folder.iterdir()) == [] and not folder.is_symlink()
    assert (elsewhere / "kept").read_bytes() == b"kept"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full")
def test_a_full_disk_is_said_with_the_file_and_other_errors_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with pytest.raises(OSError, match=r"rows\.csv: expected room .* \(.*No space left"), records.room_said(path):
        Path("/dev/full").write_bytes(b"x")
    with pytest.raises(FileNotFoundError), records.room_said(path):
        path.read_bytes()


def test_arrays_come_back_by_name_and_have_the_same_bytes_each_time(tmp_path: Path) -> None:
    whole = {"rows": np.arange(6, dtype=np.float16).reshape(2, 3), "images": np.array([4, 9])}
    for name in ("a.npz", "b.npz"):
        records.write_arrays(tmp_path / name, **whole)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as kept:
        assert {name: kept[name].tolist() for name in kept.files} == {
            name: rows.tolist() for name, rows in whole.items()
        }
        assert kept["rows"].dtype == np.float16
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:  # nothing that goes by Python's version, nor by the time
        assert {(entry.extra, entry.date_time) for entry in archive.infolist()} == {(b"", (1980, 1, 1, 0, 0, 0))}
    # A local header as it was before there were 64 bits: 30 bytes and the name, then the array.
    assert (tmp_path / "a.npz").read_bytes()[30 : 30 + 14] == b"rows.npy\x93NUMPY"
