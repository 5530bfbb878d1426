"""Json and csv, in and out, in deterministic bytes: sorted keys, fixed number format, LF at line ends.

A file is there as a whole or not at all, also if the process is killed while it writes.
"""

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO
from uuid import uuid4


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
        writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="raise")
        writer.writeheader()
        writer.writerows(rows)


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
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def made_from(paths: Iterable[Path]) -> list[dict[str, str]]:
    """What a record was made from: path and sha256 of each file. A list, which ``dvc metrics show`` leaves out."""
    return [{"path": path.as_posix(), "sha256": sha256(path)} for path in paths]


def sha256(path: Path) -> str:
    """Hex digest of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
