"""Slices of the test images: the accuracy by source folder, size, kind of finding, and any column of the manifest,
the user's own ones of a table (``thaw.data.attributes``) among them.

A model may be right on the whole and wrong for one camera, one site or all small pictures. A slice with few
independent images tells little; it is said to be too small where its interval is wide.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from thaw import paths, records
from thaw.data import attributes
from thaw.evaluation import intervals
from thaw.images import columns

COLUMNS = ("slice", "value", "images", "units", "accuracy", "low", "high", "enough")
# What says nothing of a picture, and what has tables of its own: the label, the size, what units are made of.
LEFT_OUT = ("path", "sha256", "label", "split", "width", "height", "fingerprint", "unit", "converted")
MOST = attributes.MOST  # values of a column; one with more names images rather than kinds of them
EMPTY = "(empty)"  # a cell of the user's own column
WIDEST = 0.2  # of the interval of a slice that tells something: ten points to either side


def write(
    rows: Sequence[Mapping[str, str]], right: intervals.Bools, confidence: float, units: intervals.Units
) -> None:
    """Write ``paths.SLICES``.

    Args:
        rows: of the manifest, one for each test image, in their order.
        right: (images,) bool, whether the model to ship is right.
        confidence: of the intervals.
        units: (images,) integer, which images are not independent.
    """
    findings = records.read_csv(paths.QUARANTINE) if paths.QUARANTINE.is_file() else []
    found = (
        {"slice": kind, "value": value, **figures(right[chosen], confidence, units[chosen])}
        for kind, value, chosen in slices(rows, findings)
    )
    records.write_csv(paths.SLICES, COLUMNS, found)


def figures(right: intervals.Bools, confidence: float, units: intervals.Units) -> dict[str, object]:
    """Return the figures of one slice; ``enough`` is yes or no."""
    low, high = intervals.accuracy(right, confidence, units)
    return {
        "images": len(right),
        "units": len(np.unique(units)),
        "accuracy": float(right.mean()),
        "low": low,
        "high": high,
        "enough": "yes" if high - low <= WIDEST else "no",
    }


def slices(
    rows: Sequence[Mapping[str, str]], findings: Sequence[Mapping[str, str]] = ()
) -> Iterator[tuple[str, str, intervals.Bools]]:
    """Yield each slice: its kind, its value, and which images are in it, (images,) bool.

    A kind of which all images have the same value is left out, as is a column with more than ``MOST`` values.

    Args:
        rows: of the manifest, of the test images.
        findings: about files that are used all the same, or not, with ``path`` and ``kind``.
    """
    if not len(rows):
        return
    table = columns.of(rows)
    kinds: dict[str, Sequence[str]] = {"folder": [_folder(row) for row in rows], "size": [_size(row) for row in rows]}
    kinds["near-duplicates"] = ["some" if row["unit"] else "none" for row in rows]
    given = [name for name in table.table.column_names if name.startswith(attributes.PREFIX)]
    kinds |= {name: table.strings(name) for name in table.table.column_names if name not in (*LEFT_OUT, *given)}
    for name in given:
        short = name.removeprefix(attributes.PREFIX)
        taken = short in kinds or short == "finding"  # a name that the slices have for something else
        kinds[name if taken else short] = [value or EMPTY for value in table.strings(name)]
    for kind, values in kinds.items():
        if 1 < len(set(values)) <= MOST:
            for value in sorted(set(values), key=_natural):
                yield kind, value, np.array([each == value for each in values])
    by_kind: dict[str, set[str]] = defaultdict(set)
    for each in findings:
        by_kind[each["kind"]].add(each["path"])
    for kind, found in sorted(by_kind.items()):
        chosen = np.array([path in found for path in table.strings("path")])
        if chosen.any():
            yield "finding", kind, chosen


def _folder(row: Mapping[str, str]) -> str:
    """Return the folder of an image, without the folder that is its class."""
    parent = f"/{PurePosixPath(row['path']).parent.as_posix()}"
    return parent.removesuffix(f"/{row['label']}")[1:] or "."  # a site10 is not a site1 of the class 0


def _size(row: Mapping[str, str]) -> str:
    """Return the range of the shorter side: from a power of two to the next."""
    low = 2 ** (max(min(int(row["width"]), int(row["height"])), 1).bit_length() - 1)
    return f"{low} to {2 * low - 1} px"


def _natural(value: str) -> tuple[float, str]:
    """Sort numbers and ranges of numbers by their size, and all else as text after them."""
    try:
        number = float(value.partition(" ")[0])
    except ValueError:
        number = math.inf
    return (math.inf if math.isnan(number) else number), value  # a NaN is in no order to anything
