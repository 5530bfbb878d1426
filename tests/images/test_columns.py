import hashlib
import io
import tracemalloc
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from thaw import paths, records
from thaw.data.samples import Sample
from thaw.images import columns

NAMES = [
    "a b.jpg",
    "=1+1.png",
    "'=quoted.png",
    "'plain.png",
    'say "hi", twice.jpg',
    "two\nlines.png",
    "ä/ö,ü.webp",
    "-5",
]
HEADS = [field.name for field in fields(Sample)]


def sample(number: int, name: str = "") -> dict[str, str]:
    sha256 = hashlib.sha256(b"%d" % number).hexdigest()
    return {
        "path": name or f"class_{number % 100:03d}/image_{number:07d}.jpg",
        "sha256": sha256,
        "label": ["=cat", "dog", "'=x"][number % 3],
        "split": ["train", "val", "test", ""][number % 4],
        "width": str(20 + number % 7),
        "height": "20",
        "fingerprint": (sha256 * 4)[:240],
        "group": "",
        "weight": "1.0",
        "converted": sha256 if number % 5 == 0 else "",
        "unit": str(number // 2) if number < 4 else "",
    }


def written(rows: list[dict[str, str]]) -> bytes:
    records.write_csv(paths.MANIFEST, HEADS, rows)
    return paths.MANIFEST.read_bytes()


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_columns_hold_what_the_rows_do_whatever_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [sample(number, name) for number, name in enumerate(NAMES * 5)]
    monkeypatch.setattr(columns, "BLOCK", 2000)  # several parts, as of a large file
    found = columns.parsed(io.BytesIO(written(rows)))
    plain = [{name: cell for name, cell in row.items() if name != "fingerprint"} for row in rows]
    assert plain == [dict(row) for row in found] and len(found) == len(rows)
    assert [{k: v for k, v in row.items() if k != "fingerprint"} for row in records.read_csv(paths.MANIFEST)] == plain
    assert dict(found[-1]) == plain[-1] and [dict(row) for row in found[3:9:2]] == plain[3:9:2]
    for name in plain[0]:
        assert found.strings(name) == [row[name] for row in plain]
        codes, values = found.codes(name)
        assert [values[code] for code in codes] == [row[name] for row in plain]
    assert found.numbers("width").tolist() == [int(row["width"]) for row in plain]
    val = found.take(found.are("split", "val"))
    assert [dict(row) for row in val] == [row for row in plain if row["split"] == "val"]
    assert not found.are("split", "other").any()
    assert [dict(row) for row in columns.of(plain)] == plain and columns.of(found) is found


def test_a_head_of_the_users_own_may_be_any_text() -> None:
    rows = [
        {"path": "a.jpg", 'taken, "when"': "=1", "two\nlines": "x"},
        {"path": "b.jpg", 'taken, "when"': "", "two\nlines": ""},
    ]
    records.write_csv(paths.MANIFEST, list(rows[0]), rows)
    assert [dict(row) for row in columns.parsed(io.BytesIO(paths.MANIFEST.read_bytes()))] == rows


def test_strings_are_read_like_a_list() -> None:
    texts = [f"{number}" for number in range(10_000)]
    found = columns.Strings(pa.array(texts), "<", ">")
    assert found == [f"<{text}>" for text in texts] and found[:3] == ["<0>", "<1>", "<2>"]
    assert found[-1] == "<9999>" and found[np.int64(5)] == "<5>" and np.array(found)[7] == "<7>"
    assert "<77>" in found and found != texts and columns.strings(texts[:2]) == texts[:2]


def test_what_is_asked_of_an_image_is_found_by_its_path() -> None:
    found = columns.of([sample(number) for number in range(20)])
    converted = columns.ByPath(found, lambda row: row["converted"] or None)
    assert converted[found[5]["path"]] == found[5]["converted"] and found[6]["path"] not in converted
    assert "nowhere.jpg" not in converted and len(converted) == 4 and next(iter(converted)) == found[0]["path"]


def test_the_manifest_is_read_once_while_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    columns._read.cache_clear()
    written([sample(0), sample(1)])
    first = columns.read()
    assert columns.read() is first
    written([sample(0), sample(2)])
    assert columns.read()[1]["sha256"] == sample(2)["sha256"]


def test_an_image_takes_less_than_200_bytes() -> None:
    count = 50_000
    text = written([sample(number) | {"converted": ""} for number in range(count)])
    found = columns.parsed(io.BytesIO(text))
    assert found.table.nbytes / count < 200
    tracemalloc.start()
    try:
        assert sum(1 for _ in found) == count
        assert np.bincount(found.codes("label")[0]).sum() == count
        assert tracemalloc.get_traced_memory()[1] / count < 200, "what is made Python's is some rows at a time"
    finally:
        tracemalloc.stop()


def test_what_is_no_manifest_is_an_error_in_one_line() -> None:
    with pytest.raises(ValueError, match="expected the manifest, received"):
        columns.parsed(io.BytesIO(b"path,sha256\na,b\nc\n"))
