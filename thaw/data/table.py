"""Read a table of images, CSV or Parquet: a row an image, with its path and label, and perhaps split, group and
weight.

| column | holds |
|---|---|
| path | of the file, relative to the table's folder |
| label | text; numbers are taken as they are written |
| split | optional: train, val or test; empty where it is to be drawn |
| group | optional: images of one group, such as a person, stay in one split; empty for none |
| weight | optional: 0 or more; empty for 1 |

Other columns are the user's own: ``thaw.data.attributes``. Cells are read by ``thaw.data.cells``.
"""

import math
import os.path
import unicodedata
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from thaw.data import cells, packed, text_columns
from thaw.data.issues import Finding
from thaw.data.packed import Rows
from thaw.paths import SPLITS

NEEDED, OPTIONAL = cells.NEEDED, cells.OPTIONAL


@dataclass(slots=True)
class Entry:
    """A file that is meant to be an image."""

    path: str = field(metadata=packed.TEXT)  # POSIX, relative to the folder of images
    label: str = field(metadata=packed.WORD)
    # train, val or test if that is settled; empty if it is to be drawn
    split: str = field(default="", metadata=packed.WORD)
    group: str = field(default="", metadata=packed.WORD)  # what must stay in one split; empty for none
    weight: float = field(default=1.0, metadata=packed.FLOAT)


def read(path: Path) -> tuple[Rows[Entry], Rows[Finding]]:
    """Read the rows of a table, and find the files that it names and that are not there.

    Args:
        path: a ``.csv`` (UTF-8, a line of heads, columns separated by one of ``cells.SEPARATORS``) or
            ``.parquet`` file.

    Raises:
        ValueError: the table cannot be read, or a row makes no sense; with the row's number.
    """
    if not path.is_file():
        raise ValueError(f"{path}: expected a table of images, received no such file; set data.raw")
    entries, findings = Rows(Entry), Rows(Finding)
    places = text_columns.Texts()
    lines = array("q")  # the row of each place
    try:
        for row, values in cells.rows(path, OPTIONAL):
            try:
                entry = _entry(values | {"path": _as_it_is_there(path.parent, values["path"])})
            except ValueError as error:
                raise ValueError(f"{path}, row {row}: {error}") from None
            places.append(os.path.normpath(entry.path))
            lines.append(row)
            if os.path.lexists(path.parent / entry.path):
                entries.append(entry)
            else:
                findings.append(Finding("missing", entry.path, f"named in row {row}, and not there"))
    except ValueError:
        _check_once(path, places, lines)  # which row comes first is said
        raise
    _check_once(path, places, lines)
    if not entries:
        what = "no rows"
        if findings:
            first, where = findings[0].path, (path.parent / findings[0].path).resolve()
            looked = f"is {first}, a path of Windows" if _is_of_windows(first) else f"was looked for at {where}"
            what = f"{len(findings)} rows, the files of which are not there (the first {looked})"
        raise ValueError(f"{path}: expected images, received {what}; paths are relative to the table's folder")
    return entries, findings


def _is_of_windows(name: str) -> bool:
    """Return whether a path begins with a drive or a share of Windows, and this is another system."""
    return PureWindowsPath(name).is_absolute() and not PurePosixPath(name).is_absolute() and os.name != "nt"


def _check_once(path: Path, places: Sequence[str], lines: Sequence[int]) -> None:
    """Require that no two rows name the same file.

    Args:
        path: of the table.
        places: where the file of each row is.
        lines: the number of each row.
    """
    hashes = np.fromiter((hash(place) for place in places), np.int64, len(places))
    order = np.argsort(hashes, kind="stable")
    equal = np.flatnonzero(np.diff(hashes[order]) == 0)
    # Those that may be the same are few, and are compared as they are.
    first: dict[str, int] = {}
    for index in np.unique(np.concatenate([order[equal], order[equal + 1]])).tolist():
        before = first.setdefault(places[index], index)
        if before != index:
            raise ValueError(
                f"{path}, row {lines[index]}: path: expected each file once, received {places[index]} as in row "
                f"{lines[before]}"
            )


def labels(path: Path) -> set[str]:
    """Return the labels of all rows of a table that ``read`` has taken, also of files that are not there."""
    return {values["label"] for _, values in cells.rows(path, ())}


def place(path: Path, name: str) -> str:
    """Return the path of an image as its ``Entry`` has it, from its cell in the table."""
    return Path(_as_it_is_there(path.parent, name)).as_posix()


def _as_it_is_there(root: Path, name: str) -> str:
    """Return a path as written, or, where nothing lies there, without blanks around it or with / for Windows's \\."""
    for each in (name, name.strip(), name.replace("\\", "/"), name.strip().replace("\\", "/")):
        if each and os.path.lexists(root / each):
            return each
    return name


def _entry(values: dict[str, str]) -> Entry:
    label, split, weight = values["label"], values.get("split", "").strip(), values.get("weight", "")
    for name in NEEDED:
        if not values[name].strip():
            raise ValueError(f"{name}: expected one in every row, received an empty cell; fill it or remove the row")
    if split and split not in SPLITS:
        raise ValueError(f"split: expected {', '.join(SPLITS)} or an empty cell, received {split!r}; rename it")
    try:
        number = float(weight) if weight else 1.0
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"weight: expected a number from 0, received {weight!r}; leave it empty for 1")
    return Entry(Path(values["path"]).as_posix(), label, split, _group(values), number)


def _group(values: dict[str, str]) -> str:
    """Return the group, the same of all that look the same: otherwise a blank would tear it."""
    return unicodedata.normalize("NFC", values.get("group", "").strip())
