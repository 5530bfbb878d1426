"""Json and csv, in and out, in deterministic bytes: sorted keys, fixed number format, LF at line ends.

A file is there as a whole or not at all, also if the process is killed while it writes. People open the CSV files in
spreadsheets, which run a cell that begins like a formula, and names of files and classes are anybody's. So text that
begins like one is written with an apostrophe in front, which spreadsheets take for "this is text"; ``read_csv`` takes
it off again.
"""

import csv
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO
from uuid import uuid4

# Text that a spreadsheet would run, and text that reading would take for such text with its apostrophe.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write ``record`` with sorted keys; the folder is made if missing."""
    text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with _whole(path) as file:
        file.write(text + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """What ``write_json`` has written.

    Raises:
        ValueError: the file is none that it has.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # also of bytes that are no UTF-8
        cut = f"{path}: expected JSON, received what cannot be read ({error})"
        raise ValueError(f"{cut}; delete the file and give the command again") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path}: expected a JSON object, received {type(record).__name__}")
    return record


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write ``rows`` under ``columns``; floats in their shortest exact form, so that reading gives the same bits."""
    with _whole(path) as file:
        # It quotes only those ends of lines that are its own, and a reader takes either for one.
        writer = csv.DictWriter(_LineFeeds(file), columns, lineterminator="\r\n", extrasaction="raise")
        writer.writeheader()
        writer.writerows({name: _guarded(value) for name, value in row.items()} for row in rows)


class _LineFeeds:
    """Ends with LF each row that a csv writer ends with CRLF."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, row: str) -> int:
        return self.file.write(row.removesuffix("\r\n") + "\n")


def _guarded(value: Any) -> Any:
    is_formula = isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value)
    return f"'{value}" if is_formula else value


@contextmanager
def _whole(path: Path) -> Iterator[TextIO]:
    """A file that takes its place once all is written, and leaves nothing if that fails: DVC would keep it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, since only there it can be moved at once; no name that is looked for, nor one too long.
    part = path.with_name(f".{uuid4().hex}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            yield file
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows that ``write_csv`` has written."""
    with path.open(encoding="utf-8", newline="") as file:
        return rows(file)


def rows(lines: Iterable[str]) -> list[dict[str, str]]:
    """Return the rows of an opened CSV file that ``write_csv`` has written."""
    return [{name: _text(cell) for name, cell in row.items()} for row in csv.DictReader(lines)]


def _text(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def made_from(paths: Iterable[Path]) -> list[dict[str, str]]:
    """What a record was made from: path and sha256 of each file. A list, which ``dvc metrics show`` leaves out."""
    return [{"path": path.as_posix(), "sha256": sha256(path)} for path in paths]


def sha256(path: Path) -> str:
    """Hex digest of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
