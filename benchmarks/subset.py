"""Fewer images of a set than there are, as a table for ``data.raw``: for benchmarks that must end within the hour."""

import csv
from pathlib import Path

import numpy as np

from thaw import paths
from thaw.data import folders
from thaw.data.table import Entry

MOST_TESTED = 1500  # images, which tell differences of two points apart


def fewer(data: Path, images: int, table: Path) -> list[str]:
    """Write a table of a set with about so many images to train on, and return the overrides that make it the data.

    A quarter as many are for validation. A set with a ready-made ``test`` keeps its splits, and each loses images. Of
    any other, what is left over is the test; at most half of it is trained on. Of each class the same share is drawn.
    """
    found = folders.find(str(data), nested=False)
    ready = any(entry.split == "test" for entry in found.entries)
    pools: dict[tuple[str, str], list[Entry]] = {}
    for entry in sorted(found.entries, key=lambda entry: entry.path):
        pools.setdefault((entry.split if ready else "", entry.label), []).append(entry)
    trained = images if ready else min(images, len(found.entries) // 2)
    wanted = dict(zip(paths.SPLITS, (trained, trained // 4, MOST_TESTED), strict=True))
    draw, rows = np.random.default_rng(0), []
    for (split, label), pool in pools.items():
        size = sum(len(of) for (other, _), of in pools.items() if other == split)
        order, taken = draw.permutation(len(pool)), 0
        for each in [split] if ready else paths.SPLITS:
            count = max(1, round(len(pool) * min(1.0, wanted[each] / size)))
            # What is trained on is given to no split, so that what is alike to an image of the test goes there.
            given = each if ready or each != "train" else ""
            rows += [(found.root / pool[at].path, label, given) for at in order[taken : taken + count]]
            taken += count
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *((path.resolve(), *rest) for path, *rest in rows)])
    return [f"data.raw={table.resolve()}"]
