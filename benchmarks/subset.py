"""Fewer images of a set than there are, as a table for ``data.raw``: for benchmarks that must end within the hour."""

import csv
import math
from pathlib import Path

import numpy as np

from thaw.data import folders
from thaw.data.table import Entry

# Shares of what is kept, of sets without a test split of their own. The rest is trained on.
VAL, TEST = 0.1, 0.5


def fewer(data: Path, images: int, table: Path) -> list[str]:
    """Write a table of a set with at most so many images to train on, and return the overrides that make it the data.

    A set with a ready-made ``test`` keeps its splits, and ``train`` and ``val`` lose images. Of any other, images are
    drawn from each class alike, and half of them are for the test.
    """
    found = folders.find(str(data), nested=False)
    ready = any(entry.split == "test" for entry in found.entries)
    most = {"train": images, "val": images // 4} if ready else {"": round(images / (1 - VAL - TEST))}
    by_class: dict[tuple[str, str], list[Entry]] = {}
    for entry in sorted(found.entries, key=lambda entry: entry.path):
        by_class.setdefault((entry.split if ready else "", entry.label), []).append(entry)
    sizes: dict[str, int] = {}
    for (split, _), of in by_class.items():
        sizes[split] = sizes.get(split, 0) + len(of)
    draw = np.random.default_rng(0)
    rows = []
    for (split, label), of in by_class.items():
        count = math.ceil(len(of) * min(1.0, most.get(split, len(of)) / sizes[split])) if split in most else len(of)
        rows += [(found.root / of[each].path, label, split) for each in sorted(draw.permutation(len(of))[:count])]
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *((p.resolve(), *more) for p, *more in rows)])
    return [f"data.raw={table.resolve()}", f"data.val={VAL}", f"data.test={TEST}"]
