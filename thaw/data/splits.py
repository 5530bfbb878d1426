"""Split the images: keep together what belongs together, remember where each image went, report leaks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw import paths, records
from thaw.config import schema
from thaw.data import (
    clusters,
    fingerprints,
    given_splits,
    leaks,
    near_duplicates,
    packed,
    placement,
    split_memory,
    stratified,
    text_columns,
    units,
)
from thaw.data.packed import Rows
from thaw.data.placement import LEFT_OUT, NUMBERS
from thaw.data.samples import Sample
from thaw.data.split_memory import HEX, Remembered


@dataclass
class Leaks:
    """Pairs of images in two splits that belong together, in the order of the table of them."""

    pairs: NDArray[np.int64]  # (pairs, 2) images, the one in the split whose name comes first before the other
    kinds: list[str]  # of each: same bytes, alike, group or linked

    def rows(self, samples: Sequence[Sample], splits: Sequence[str]) -> Iterator[dict[str, str]]:
        """Yield the rows of ``paths.LEAKS``."""
        for (one, other), kind in zip(self.pairs.tolist(), self.kinds, strict=True):
            row = {"split": splits[one], "path": samples[one].path, "kind": kind}
            yield row | {"other_split": splits[other], "other_path": samples[other].path}


@dataclass
class Division:
    """The split of each image, in the order of the images, and how it came about."""

    splits: list[str]  # train, val or test, or splits.LEFT_OUT
    sources: dict[str, str]  # of each split: folder or drawn
    clusters: NDArray[np.int32]  # for each image the first one that is the same picture
    units: NDArray[np.int32]  # for each image the first one that it must go with: the same picture, or of its group
    leaks: Leaks  # none unless given splits came that way
    random_leaks: float  # held-out images that would have a copy in training if all were drawn one by one

    def repeated(self) -> dict[str, int]:
        """Count the pictures that are there more than once: how many, in how many images, and the most of one."""
        sizes = np.bincount(self.clusters)
        sizes = sizes[sizes > 1]
        return {"clusters": len(sizes), "images": int(sizes.sum()), "largest": int(sizes.max(initial=0))}


def divide(samples: Sequence[Sample], data: schema.Data, known: Mapping[str, str]) -> Division:
    """Find the images that belong together, and split all images.

    Args:
        known: from ``remembered``.

    Raises:
        ValueError: a class has too few images, or none to train on.
    """
    found = packed.rows(Sample, samples)
    contents = found.columns["sha256"].beginning(HEX // 2)
    groups = text_columns.numbers(found.columns["group"])
    keys = []
    alike = np.empty((0, 2), np.int64)
    if data.near_duplicates:
        prints = found.columns["fingerprint"]
        keys = [fingerprints.numbers(prints)]
        alike = near_duplicates.alike(prints, data.near_threshold, keys[0])
    given = found.columns["split"]
    rule: dict[str, Any] = {"val": data.val, "test": data.test, "seed": data.seed}
    rule["known"] = split_memory.among(known, contents)  # not other data's
    divided, sources = stratified.complete(
        contents, found.columns["label"], given, **rule, links=alike, keys=[*keys, groups]
    )
    _check_training(found, divided)
    copies = [text_columns.numbers(contents), *keys]
    whole = clusters.joined(len(found), alike, copies)
    joined = clusters.joined(len(found), alike, [*copies, groups])
    shares = {split: divided.count(split) / max(len(divided), 1) for split in placement.HELD_OUT}
    leaking = _leaks(found, divided, alike, copies, groups, joined)
    return Division(divided, sources, whole, joined, leaking, round(leaks.expected(whole, **shares), 1))


def _check_training(samples: Rows[Sample], divided: Sequence[str]) -> None:
    """Stop where a class has no training image; splits that come with the images may lack one."""
    cells = _cells(samples, divided)
    labels: text_columns.Words = samples.columns["label"]
    placed = placement.splits(divided, none=NUMBERS[LEFT_OUT])
    learned = np.zeros(len(labels.values), np.bool_)
    learned[labels.codes[(placed == NUMBERS["train"]) & (np.array(samples.columns["weight"]) > 0)]] = True
    there = cells.sum(axis=0) > 0
    missing = sorted(labels.values[kind] for kind in np.flatnonzero(there & ~learned).tolist())
    if missing:
        first = missing[0]
        sizes = {split: int(cells[number, labels.values.index(first)]) for split, number in NUMBERS.items()}
        where = [f"{sizes[split]} in {split}" for split in paths.SPLITS if sizes[split]]
        where += [f"{sizes[LEFT_OUT]} left out"] if sizes[LEFT_OUT] else []
        weightless = " of weight 0" if sizes["train"] else ""
        others = f" (and {', '.join(missing[1:4])}{'…' * (len(missing) > 4)} too)" if len(missing) > 1 else ""
        raise ValueError(
            f"class {first}{others}: expected training images of every class, received {', '.join(where)}{weightless}"
            f"; give some of its images to train, or remove the class; {paths.QUARANTINE} lists files left out"
        )


def _cells(samples: Rows[Sample], divided: Sequence[str]) -> NDArray[np.int64]:
    """Return how many images are in each split, by number, and of each class: (splits and left out, classes)."""
    labels: text_columns.Words = samples.columns["label"]
    placed = placement.splits(divided, none=NUMBERS[LEFT_OUT])
    shape = len(NUMBERS), len(labels.values)
    return np.bincount(placed * np.int64(shape[1]) + labels.codes, minlength=shape[0] * shape[1]).reshape(shape)


def _leaks(
    samples: Rows[Sample],
    divided: Sequence[str],
    alike: NDArray[np.int64],
    copies: Sequence[NDArray[np.int32]],
    groups: NDArray[np.int32],
    joined: NDArray[np.int32],
) -> Leaks:
    pictures, grouped = leaks.pairs(divided, alike, copies), leaks.pairs(divided, keys=[groups])
    linked = leaks.linked(joined, divided, np.concatenate([pictures, grouped]))
    count = np.int64(len(samples))
    only = ~np.isin(grouped @ [count, 1], pictures @ [count, 1])
    every = np.concatenate([pictures, grouped[only], linked])
    kinds = ["alike"] * len(pictures) + ["group"] * int(only.sum()) + ["linked"] * len(linked)
    contents, names = samples.columns["sha256"], samples.columns["path"]
    for place, pair in enumerate(every.tolist()):
        every[place] = sorted(pair, key=lambda index: (divided[index], names[index]))
        same = contents[pair[0]] == contents[pair[1]]
        kinds[place] = "same bytes" if kinds[place] == "alike" and same else kinds[place]
    return Leaks(every, kinds)


def warnings(samples: Sequence[Sample], division: Division) -> Iterator[str]:
    """Yield what a person should know of the division before a result is trusted, a line each."""
    if leaking := units.warning(units.leaks(division.units, division.splits), division.splits):
        yield f"{leaking}; take one of each pair out of the data, or give both the same split, or figures are too good"
    found = packed.rows(Sample, samples)
    yield from given_splits.warnings(found, division.splits, division.sources, _cells(found, division.splits))
    if left_out := division.splits.count(LEFT_OUT):
        yield (
            f"{left_out:,} images are in no split, since they belong to images of several splits or have two labels; "
            f"their split in {paths.MANIFEST} is empty"
        )


def figures(samples: Sequence[Sample], classes: Sequence[str], division: Division) -> dict[str, Any]:
    """Return what ``prepare`` records of the division."""
    found = packed.rows(Sample, samples)
    labels: text_columns.Words = found.columns["label"]
    contents, cells = text_columns.numbers(found.columns["sha256"]), _cells(found, division.splits)
    torn = contents[clusters.torn(contents, labels.codes)]
    kinds, place = division.leaks.kinds, {name: number for number, name in enumerate(labels.values)}
    sizes = {split: division.splits.count(split) for split in NUMBERS}
    return {
        "images": len(found),
        "classes": len(classes),
        "duplicates": len(found) - len(np.unique(contents)),
        "label_conflicts": len(np.unique(torn)),
        "near_duplicates": division.repeated(),
        "left_out_of_splits": sizes[LEFT_OUT],
        "leaks": leaks.contents(found.columns["sha256"], division.splits),
        "near_leaks": kinds.count("same bytes") + kinds.count("alike"),
        "group_leaks": kinds.count("group"),
        "linked_leaks": kinds.count("linked"),
        "leaked_images": units.leaks(division.units, division.splits),
        "random_split_leaks": division.random_leaks,
        "splits": {name: {"images": sizes[name], "source": division.sources[name]} for name in paths.SPLITS},
        # A list, which DVC leaves out of its tables: a column for each class would bury the rest.
        "per_class": [
            {"class": name}
            | {split: int(cells[NUMBERS[split], place[name]]) if name in place else 0 for split in paths.SPLITS}
            for name in classes
        ],
    }


def assign(samples: Rows[Sample], division: Division) -> None:
    """Set each image's split and the number of its unit, to be written to the manifest."""
    numbers = _numbered(division.units)
    samples.put("split", text_columns.Words(division.splits))
    samples.put("unit", text_columns.Numbers(numbers))


def _numbered(clusters: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return for each image the number of its cluster, from 1 on in the order of their first images; 0 if alone."""
    several = np.bincount(clusters, minlength=len(clusters)) > 1
    return np.where(several, np.cumsum(several), 0).astype(np.int32)[clusters]


def write(samples: Sequence[Sample], division: Division, data: schema.Data) -> None:
    """Write the clusters and the leaks as tables, and the memory of what was drawn."""
    found = packed.rows(Sample, samples)
    numbers = _numbered(division.clusters)
    members = np.flatnonzero(numbers)
    members = members[np.argsort(numbers[members], kind="stable")]
    kept = {name: found.columns[name] for name in ("path", "label", "sha256")}
    rows = (
        {"cluster": numbers[index], "split": division.splits[index]} | {name: of[index] for name, of in kept.items()}
        for index in members.tolist()
    )
    records.write_csv(paths.COPIES, ["cluster", "path", "label", "split", "sha256"], rows)
    columns = ["split", "path", "kind", "other_split", "other_path"]
    records.write_csv(paths.LEAKS, columns, division.leaks.rows(found, division.splits))
    _remember(found, division, data)


def remembered(data: schema.Data) -> Remembered:
    """Return the split of each image in earlier runs; empty if the settings were others."""
    return split_memory.read(data)


def _remember(samples: Rows[Sample], division: Division, data: schema.Data) -> None:
    """Add to the memory where images were drawn. What is absent or left out this time keeps its place in it."""
    contents, before = split_memory.numbers(samples.columns["sha256"]), split_memory.read(data)
    placed = placement.splits(division.splits, none=NUMBERS[LEFT_OUT])
    # Held out by the person who gave it, who may take that back.
    own = np.isin(placed, [NUMBERS[s] for s in placement.HELD_OUT if division.sources[s] == "folder"])
    kept, drawn = ~np.isin(before.contents, contents[own]), ~own & (placed != NUMBERS[LEFT_OUT])
    every = np.concatenate([before.contents[kept], contents[drawn]])
    split_memory.write(split_memory.made(every, np.concatenate([before.splits[kept], placed[drawn]])), data)
