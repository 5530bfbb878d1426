import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thaw.data import cells, table
from thaw.data.table import Entry


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with four files, one of them below it."""
    for name in ("a.jpg", "b, c.jpg", "sub/ü.png", "d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def csv(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    (folder / "images.csv").write_text(text, encoding=encoding)
    return folder / "images.csv"


def parquet(folder: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), folder / "images.parquet")
    return folder / "images.parquet"


def test_a_csv_file_gives_an_entry_a_row(folder: Path) -> None:
    text = (
        'label,path,weight,group,split,note\n01,a.jpg,2.5,anna,train,x\nNA,"b, c.jpg",,,,\n3,./sub/ü.png,0,bob,test,\n'
    )
    entries, findings = table.read(csv(folder, text))
    assert entries == [
        Entry("a.jpg", "01", "train", "anna", 2.5),
        Entry("b, c.jpg", "NA", "", "", 1.0),
        Entry("sub/ü.png", "3", "test", "bob", 0.0),
    ]
    assert findings == []


def test_path_and_label_are_enough_and_a_mark_of_the_encoding_does_no_harm(folder: Path) -> None:
    entries, _ = table.read(csv(folder, "path,label\r\na.jpg,cat\r\n", "utf-8-sig"))
    assert entries == [Entry("a.jpg", "cat")]


def test_a_parquet_file_gives_the_same_whatever_its_types(folder: Path) -> None:
    labels = pa.array(["x", "y", "x"]).dictionary_encode()
    path = parquet(
        folder,
        path=["a.jpg", "d.jpg", "sub/ü.png"],
        label=labels,
        split=["train", None, "val"],
        group=[7, 8, None],
        weight=[0.5, math.nan, 2],
    )
    assert table.read(path)[0] == [
        Entry("a.jpg", "x", "train", "7", 0.5),
        Entry("d.jpg", "y", "", "8", 1.0),
        Entry("sub/ü.png", "x", "val", "", 2.0),
    ]
    assert [each.label for each in table.read(parquet(folder, path=["a.jpg"], label=[3]))[0]] == ["3"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_columns_that_mean_something_are_known_whatever_the_case_and_with_blanks_around(
    folder: Path, kind: str
) -> None:
    def made(**columns: Any) -> Path:
        if kind == "parquet":
            return parquet(folder, **columns)
        rows = [columns, *zip(*columns.values(), strict=True)]
        return csv(folder, "\n".join(",".join(map(str, row)) for row in rows))

    own = {"Path": ["a.jpg", "d.jpg"], "LABEL": ["cat", "dog"], " Split": ["train", "test"], "GROUP ": ["p", "q"]}
    path = made(**own, Weight=[0, 2], Camera=["n", "s"])
    assert list(table.read(path)[0]) == [Entry("a.jpg", "cat", "train", "p", 0), Entry("d.jpg", "dog", "test", "q", 2)]
    assert cells.heads(path) == ["path", "label", "split", "group", "weight", "Camera"]
    with pytest.raises(ValueError, match="expected each column once"):
        table.read(made(**own, split=["val", "val"]))


def test_columns_that_may_be_meant_for_another_are_told() -> None:
    names = ["path", "label", "Groups", "fold", "sample_weight", "camera"]
    assert cells.misnamed(names) == {"Groups": "group", "fold": "split", "sample_weight": "weight"}
    assert cells.misnamed([*names, "group", "split", "weight"]) == {}


def test_a_label_that_is_missing_is_an_error_with_its_row_and_a_whole_number_is_no_float(folder: Path) -> None:
    for labels in (["x", None], [1.0, math.nan], ["x", " "]):
        with pytest.raises(ValueError, match="row 2: label: expected one in every row"):
            table.read(parquet(folder, path=["a.jpg", "d.jpg"], label=labels))
    with pytest.raises(ValueError, match="row 3: label: expected one in every row"):
        table.read(csv(folder, "path,label\na.jpg,x\nd.jpg,  \n"))
    path = parquet(folder, path=["a.jpg", "d.jpg"], label=[1.0, 2.5], group=[7.0, math.nan])
    assert list(table.read(path)[0]) == [Entry("a.jpg", "1", group="7"), Entry("d.jpg", "2.5")]


def test_blanks_after_the_commas_belong_to_no_cell(folder: Path) -> None:
    entries, findings = table.read(csv(folder, 'path, label, split\na.jpg, cat, train\n"b, c.jpg", "dog, wild", \n'))
    assert list(entries) == [Entry("a.jpg", "cat", "train"), Entry("b, c.jpg", "dog, wild")] and not findings
    entries, _ = table.read(csv(folder, " path ,label\t,group \na.jpg, cat ,7\n"))
    assert entries == [Entry("a.jpg", " cat ", group="7")]  # a label is taken as it is written


@pytest.mark.parametrize("separator", [";", "\t"])
def test_columns_may_be_separated_as_excel_does_where_a_comma_is_part_of_numbers(folder: Path, separator: str) -> None:
    text = '"path",label,split\na.jpg,"cat",train\nd.jpg,dog|wild,\n'.replace(",", separator).replace("|", ",")
    assert table.read(csv(folder, text))[0] == [Entry("a.jpg", "cat", "train"), Entry("d.jpg", "dog,wild")]
    with pytest.raises(ValueError, match="received path, label;x; add label"):
        table.read(csv(folder, "path,label;x\na.jpg,cat\n"))


def test_paths_of_windows_and_with_blanks_around_are_found_unless_they_are_there_as_written(folder: Path) -> None:
    text = 'path,label\nsub\\ü.png,x\n a.jpg,x\n"b, c.jpg ",x\n .\\d.jpg ,x\n'
    entries, findings = table.read(csv(folder, text))
    assert [entry.path for entry in entries] == ["sub/ü.png", "a.jpg", "b, c.jpg", "d.jpg"]
    assert findings == []
    for name in ("sub\\ü.png", " a.jpg"):
        (folder / name).write_bytes(b"y")
    assert [entry.path for entry in table.read(csv(folder, text))[0]][:2] == ["sub\\ü.png", " a.jpg"]
    with pytest.raises(ValueError, match=r"row 3: path: expected each file once, received d\.jpg as in row 2"):
        table.read(csv(folder, "path,label\nd.jpg,x\n.\\d.jpg,x\n"))
    parquet(folder, path=["sub\\ü.png", "d.jpg "], label=["x", "y"])
    assert [entry.path for entry in table.read(folder / "images.parquet")[0]] == ["sub\\ü.png", "d.jpg"]


def test_a_file_that_is_not_there_is_a_finding_with_its_row(folder: Path) -> None:
    entries, findings = table.read(csv(folder, "path,label\na.jpg,cat\ngone.jpg,cat\n"))
    assert [entry.path for entry in entries] == ["a.jpg"]
    assert [(each.kind, each.path, each.reason) for each in findings] == [
        ("missing", "gone.jpg", "named in row 3, and not there")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the columns path, label and perhaps split, group, weight, received none; add path"),
        ("path,class\na.jpg,cat\n", "received path, class; rename class to label"),
        (
            "Image Path;Class\na.jpg;cat\n",
            "received Image Path, Class; rename Image Path to path and rename Class to label",
        ),
        ("path,kind\na.jpg,cat\n", "received path, kind; add label"),
        ("path,label,label\na.jpg,cat,dog\n", "expected each column once"),
        ("path,label\n", "expected images, received no rows"),
        (
            "path,label\ngone.jpg,cat\n",
            r"received 1 rows, the files of which are not there \(the first was looked for at .*gone\.jpg\)",
        ),
        (
            "path,label\nC:\\Users\\me\\a.jpg,cat\n",
            r"the first is C:\\Users\\me\\a\.jpg, a path of Windows\); paths are relative to the table's folder",
        ),
        ("path,label\na.jpg,cat\n./a.jpg,dog\n", r"row 3: path: expected each file once, received a\.jpg as in row 2"),
        ("path,label\na.jpg,\n", "row 2: label: expected one in every row, received an empty cell"),
        ("path,label\n,cat\n", "row 2: path: expected one in every row, received an empty cell"),
        (
            "path,label,split\na.jpg,cat,dev\n",
            "row 2: split: expected train, val, test or an empty cell, received 'dev'",
        ),
        ("path,label,weight\na.jpg,cat,-1\n", "row 2: weight: expected a number from 0, received '-1'"),
        ("path,label,weight\na.jpg,cat,much\n", "row 2: weight: expected a number from 0, received 'much'"),
        ("path,label,weight\na.jpg,cat,inf\n", "row 2: weight: expected a number from 0, received 'inf'"),
        (
            "path,label\nb, c.jpg,cat\n",
            "row 2: expected 2 cells, received another number; put names that hold a comma",
        ),
        ("path,label\na.jpg\n", "row 2: expected 2 cells, received another number"),
        ('path,label\n"a.jpg,cat\n', "expected separated values"),
    ],
)
def test_a_table_that_makes_no_sense_is_an_error_that_says_where(folder: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        table.read(csv(folder, text))
    assert "images.csv" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_table_that_is_not_there_or_not_what_it_says_is_an_error(folder: Path) -> None:
    with pytest.raises(
        ValueError, match=r"none\.csv: expected a table of images, received no such file; set data\.raw"
    ):
        table.read(folder / "none.csv")
    with pytest.raises(ValueError, match="expected UTF-8, received another encoding"):
        table.read(csv(folder, "path,label\nü.jpg,cat\n", "latin-1"))
    (folder / "bad.parquet").write_bytes(b"no table")
    with pytest.raises(ValueError, match=r"bad\.parquet: expected a Parquet file, received .*; write it again"):
        table.read(folder / "bad.parquet")
    with pytest.raises(ValueError, match="received path; add label"):
        table.read(parquet(folder, path=["a.jpg"]))
