"""Read the cells of a table of images as text, CSV or Parquet alike.

The columns that mean something here are known by their names whatever the case and with blanks around, since ``Split``
would else be a column of the user's own, and its test images trained on.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

NEEDED = ("path", "label")
OPTIONAL = ("split", "group", "weight")
# Of a .csv file's columns. Excel writes semicolons where a comma is part of numbers.
SEPARATORS = (",", ";", "\t")
# What the columns that must be there are called elsewhere: a table that has them is told which to rename.
ELSEWHERE = {
    "path": ("file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "img_path"),
    "label": ("class", "class_name", "category", "labels", "target"),
}
# What people call a column that may be meant for one of these. It is the user's own, and slices the test only.
MEANT = {
    **dict.fromkeys(("splits", "fold", "folds", "subset", "set", "partition"), "split"),
    "groups": "group",
    **dict.fromkeys(("weights", "sample_weight", "sample_weights"), "weight"),
}
EXACT = 2**53  # up to which a float holds every whole number


def rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of each row and its cells as text: path, label, and of ``columns`` those that are there.

    A CSV file has all of them. What is nothing in a Parquet file, null or NaN, is an empty cell, and a whole number is
    written as one though its column is of floats, as pandas makes it where a cell is empty.

    Raises:
        ValueError: the table cannot be read.
    """
    return _csv(path) if _is_csv(path) else _parquet(path, columns)


def heads(path: Path) -> list[str]:
    """Return the names of the columns of a table that ``table.read`` has taken, as ``rows`` has them."""
    if _is_csv(path):
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _reader(file)[1]
    import pyarrow.parquet  # noqa: PLC0415

    return list(map(_name, pyarrow.parquet.ParquetFile(path).schema_arrow.names))


def misnamed(names: Sequence[str]) -> dict[str, str]:
    """Return the columns that may be meant for one that is not there, and that one's name."""
    meant = {name: MEANT.get(name.casefold(), "") for name in names}
    return {name: column for name, column in meant.items() if column and column not in names}


def _is_csv(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def _name(head: str) -> str:
    """Return the name of a column from its head."""
    name = head.strip()
    return folded if (folded := name.casefold()) in (*NEEDED, *OPTIONAL) else name


def _csv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows as text, with the number of their line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows, names = _reader(file)
            _check_columns(path, names)
            for values in rows:
                if None in values or None in values.values():
                    raise ValueError(
                        f"{path}, row {rows.line_num}: expected {len(names)} cells, received another "
                        "number; put names that hold a comma in double quotes"
                    )
                yield rows.line_num, values
    except UnicodeDecodeError:
        raise ValueError(f"{path}: expected UTF-8, received another encoding; save it as UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{path}: expected separated values, received {error}; correct the quotes") from None


def _reader(file: TextIO) -> tuple["csv.DictReader[str]", list[str]]:
    """Return what reads the rows of an open file, and the names of its columns."""
    separator = _separator(file.readline())
    file.seek(0)
    heads = next(csv.reader(file, strict=True, delimiter=separator), [])
    # A blank after each comma belongs to the comma, in the rows as in the heads; quotes may follow it.
    spaced = any(head.startswith(" ") for head in heads[1:])
    file.seek(0)
    rows = csv.DictReader(file, strict=True, skipinitialspace=spaced, delimiter=separator)
    names = [_name(head) for head in rows.fieldnames or []]
    rows.fieldnames = names
    return rows, names


def _separator(line: str) -> str:
    """Return what separates the columns that must be there in a table's first line, or else the most of any."""
    for each in SEPARATORS:
        if set(NEEDED) <= {_name(head.strip().strip('"')) for head in line.split(each)}:
            return each
    return max(SEPARATORS, key=line.count)  # the first of those that separate none


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows as text, counted from 1."""
    import pyarrow  # noqa: PLC0415 -- half a second, which only those wait who have such a table
    import pyarrow.parquet  # noqa: PLC0415

    try:
        table = pyarrow.parquet.ParquetFile(path)
        heads = table.schema_arrow.names
        _check_columns(path, list(map(_name, heads)))
        names = {head: name for head in heads if (name := _name(head)) in (*NEEDED, *columns)}
        row = 0
        for batch in table.iter_batches(columns=list(names)):
            for values in batch.to_pylist():
                row += 1
                yield row, {names[head]: _text(value) for head, value in values.items()}
    except (pyarrow.ArrowException, OSError, OverflowError, UnicodeDecodeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: expected a Parquet file, received {reason}; write it again") from None


def is_nothing(value: Any) -> bool:
    """Return whether a value is missing: None, NaN, or NA of pandas, which is neither true nor false."""
    try:
        return value is None or bool(value != value)  # noqa: PLR0124 -- NaN is not itself
    except TypeError:
        return True


def _text(value: Any) -> str:
    if is_nothing(value):
        return ""
    return str(int(value) if isinstance(value, float) and value.is_integer() and abs(value) < EXACT else value)


def _check_columns(path: Path, names: list[str] | Any) -> None:
    lacking = [name for name in NEEDED if name not in names]
    if lacking:
        called = {name.casefold().replace(" ", "_"): name for name in reversed(names)}
        meant = {
            name: next((called[each] for each in (name, *ELSEWHERE[name]) if each in called), "") for name in lacking
        }
        remedies = [f"rename {meant[name]} to {name}" if meant[name] else f"add {name}" for name in lacking]
        raise ValueError(
            f"{path}: expected the columns {', '.join(NEEDED)} and perhaps {', '.join(OPTIONAL)}, "
            f"received {', '.join(names) or 'none'}; {' and '.join(remedies)}"
        )
    if len(set(names)) < len(names):
        raise ValueError(
            f"{path}: expected each column once, whatever the case, received {', '.join(names)}; rename one"
        )
