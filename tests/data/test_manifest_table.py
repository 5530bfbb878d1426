"""The manifest by column says what the CSV file says, and holds for that one only."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from thaw import paths, records
from thaw.data import manifest_table, packed
from thaw.data.attributes import Attributes
from thaw.data.samples import Sample
from thaw.images import columns

ODD = ("=1+1.png", "'=x.png", 'a, "b".jpg', "two\nlines.png", "-5", "ü/日本.png")


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    columns._read.cache_clear()


def sample(number: int) -> Sample:
    content = hashlib.sha256(b"%d" % number).hexdigest()
    name = ODD[number] if number < len(ODD) else f"class_{number % 9}/{number:06}.jpg"
    given = ("=cat", "dog", "'x")[number % 3], ("train", "val", "test", "")[number % 4]
    group, converted = ("", "one, person")[number % 2], content if number % 5 == 0 else ""
    unit = str(number // 2 + 1) if number < 4 else ""
    return Sample(name, content, *given, 7 + number % 3, 5, content[::-1], group, number / 3, converted, unit)


def write(count: int) -> list[dict[str, str]]:
    """Write a manifest and return the rows of the CSV file but for the fingerprints."""
    found = packed.Rows(Sample, map(sample, range(count)))
    own = Attributes({each.path: (f"cam {place % 2}",) for place, each in enumerate(found)}, ["camera"])
    manifest_table.write(found, own)
    rows = records.read_csv(paths.MANIFEST)
    return [{name: cell for name, cell in row.items() if name != "fingerprint"} for row in rows]


def test_stages_read_the_same_from_either_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_table, "AT_ONCE", 16)  # several parts, with other values in each
    rows = write(50)
    by_column = columns.read()
    assert [dict(row) for row in by_column] == rows and len(rows) == 50
    assert rows[2]["weight"] == str(2 / 3) and rows[9]["table:camera"] == "cam 1"
    paths.MANIFEST_COLUMNS.unlink()
    columns._read.cache_clear()
    by_row = columns.read()
    assert by_row is not by_column and by_row.table.schema == by_column.table.schema
    for name in rows[0]:
        assert by_row.strings(name) == by_column.strings(name)
        (codes, values), (others, same) = by_row.codes(name), by_column.codes(name)
        assert [values[code] for code in codes] == [same[code] for code in others]


def test_the_csv_file_that_a_person_has_edited_is_what_holds() -> None:
    rows = write(20)
    text = paths.MANIFEST.read_text(encoding="utf-8")
    paths.MANIFEST.write_text(text.replace(",test,", ",val,"), encoding="utf-8")
    changed = columns.read()
    assert not changed.are("split", "test").any() and sum(row["split"] == "test" for row in rows) == 5
    assert changed.are("split", "val").sum() == sum(row["split"] in ("test", "val") for row in rows)


def test_the_same_images_give_the_same_bytes_wherever_they_are(tmp_path: Path) -> None:
    write(40)
    first = paths.MANIFEST_COLUMNS.read_bytes()
    shutil.rmtree(paths.PREPARED)
    write(40)
    assert paths.MANIFEST_COLUMNS.read_bytes() == first and str(tmp_path).encode() not in first


def test_other_programs_read_it_with_numbers_as_numbers() -> None:
    rows = write(30)
    table = pyarrow.parquet.read_table(paths.MANIFEST_COLUMNS)
    assert table.column("width").to_pylist() == [int(row["width"]) for row in rows]
    assert table.column("weight").to_pylist() == [float(row["weight"]) for row in rows]
    assert table.column("path").to_pylist() == [row["path"] for row in rows], "without apostrophes before formulas"
    assert "fingerprint" not in table.column_names


def test_a_damaged_file_is_an_error_in_one_line() -> None:
    write(20)
    data = bytearray(paths.MANIFEST_COLUMNS.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 40] = np.random.default_rng(0).bytes(40)
    for damaged in (bytes(data), bytes(data[:-30]), b""):
        paths.MANIFEST_COLUMNS.write_bytes(damaged)
        columns._read.cache_clear()
        with pytest.raises(
            ValueError, match=r"manifest\.parquet: expected the manifest by column, received"
        ) as caught:
            columns.read()
        assert "\n" not in str(caught.value) and "dvc repro" in str(caught.value)
