"""Split the images: keep together what belongs together, remember where each image went, report leaks.

The memory is a file in git, for the reason that ``thaw.data.stratified`` gives. With another seed or other shares all
is divided anew, and so it is without the file. Each such way has its part of it, in which images of any data set stay.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from thaw import paths, records
from thaw.config import schema
from thaw.data import clusters, leaks, near_duplicates, placement, stratified, units

HEX = 16  # digits of a content in the memory: 64 bits


class Sample(Protocol):
    """The part of an image's record that splitting needs."""

    path: str
    sha256: str
    label: str
    split: str  # that it came with, or empty
    fingerprint: str
    group: str  # what it shares with images that must go with it, or empty
    weight: float
    unit: str  # as the manifest has it: which images are one picture or of one group, by number; empty if it is alone


@dataclass
class Division:
    """The split of each image, in the order of the images, and how it came about."""

    splits: list[str]  # train, val or test, or splits.LEFT_OUT
    sources: dict[str, str]  # of each split: folder or drawn
    clusters: list[int]  # for each image the first one that is the same picture
    units: list[int]  # for each image the first one that it must go with: the same picture, or of the same group
    leaks: list[dict[str, str]]  # pairs in two splits; none unless given splits came that way
    random_leaks: float  # held-out images that would have a copy in training if all were drawn one by one

    def repeated(self) -> dict[str, int]:
        """Count the pictures that are there more than once: how many, in how many images, and the most of one."""
        sizes = [size for size in Counter(self.clusters).values() if size > 1]
        return {"clusters": len(sizes), "images": sum(sizes), "largest": max(sizes, default=0)}


def divide(samples: Sequence[Sample], data: schema.Data, known: Mapping[str, str]) -> Division:
    """Find the images that belong together, and split all images.

    Args:
        known: from ``remembered``.

    Raises:
        ValueError: a class has too few images, or none to train on.
    """
    contents = [sample.sha256[:HEX] for sample in samples]
    labels, groups = [sample.label for sample in samples], [sample.group for sample in samples]
    prints = [sample.fingerprint if sample.fingerprint.strip("0") else "" for sample in samples]
    alike = (
        near_duplicates.alike([s.fingerprint for s in samples], data.near_threshold) if data.near_duplicates else []
    )
    copies = [contents, prints] if data.near_duplicates else [contents]
    given = [sample.split for sample in samples]
    rule: dict[str, Any] = {"val": data.val, "test": data.test, "seed": data.seed}
    rule["known"] = {content: known[content] for content in contents if content in known}  # not other data's
    divided, sources = stratified.complete(contents, labels, given, **rule, links=alike, keys=[*copies, groups])
    _check_training(samples, divided)
    whole = clusters.joined(len(samples), alike, copies)
    joined = clusters.joined(len(samples), alike, [*copies, groups])
    shares = {split: divided.count(split) / max(len(divided), 1) for split in placement.HELD_OUT}
    pictures, grouped = leaks.pairs(divided, alike, copies), leaks.pairs(divided, keys=[groups])
    found = _leaks(samples, divided, pictures, grouped, leaks.linked(joined, divided, [*pictures, *grouped]))
    return Division(divided, sources, whole, joined, found, round(leaks.expected(whole, **shares), 1))


def _check_training(samples: Sequence[Sample], divided: Sequence[str]) -> None:
    """Stop where a class has no training image; splits that come with the images may lack one."""
    sizes = Counter((sample.label, split) for sample, split in zip(samples, divided, strict=True))
    learned = {
        sample.label for sample, split in zip(samples, divided, strict=True) if split == "train" and sample.weight > 0
    }
    missing = sorted({sample.label for sample in samples} - learned)
    if missing:
        first = missing[0]
        where = [f"{sizes[first, split]} in {split}" for split in paths.SPLITS if sizes[first, split]]
        where += [f"{sizes[first, placement.LEFT_OUT]} left out"] if sizes[first, placement.LEFT_OUT] else []
        weightless = " of weight 0" if sizes[first, "train"] else ""
        others = f" (and {', '.join(missing[1:4])}{'…' * (len(missing) > 4)} too)" if len(missing) > 1 else ""
        raise ValueError(
            f"class {first}{others}: expected training images of every class, received {', '.join(where)}{weightless}"
            f"; give some of its images to train, or remove the class; {paths.QUARANTINE} lists files left out"
        )


def _leaks(
    samples: Sequence[Sample],
    divided: Sequence[str],
    copies: clusters.Links,
    groups: clusters.Links,
    linked: clusters.Links,
) -> list[dict[str, str]]:
    rows, pictures, distant = [], set(copies), set(linked)
    for pair in [*copies, *(pair for pair in groups if pair not in pictures), *linked]:
        one, other = sorted(pair, key=lambda index: (divided[index], samples[index].path))
        same = "same bytes" if samples[one].sha256 == samples[other].sha256 else "alike"
        kind = same if pair in pictures else "linked" if pair in distant else "group"
        row = {"split": divided[one], "path": samples[one].path, "kind": kind}
        rows.append(row | {"other_split": divided[other], "other_path": samples[other].path})
    return rows


def warnings(samples: Sequence[Sample], division: Division) -> Iterator[str]:
    """Yield what a person should know of the division before a result is trusted, a line each."""
    if found := units.warning(units.leaks(division.units, division.splits), division.splits):
        yield f"{found}; take one of each pair out of the data, or give both the same split, or figures are too good"
    placed = list(zip(samples, division.splits, strict=True))
    for split in placement.HELD_OUT:
        joined = sum(not sample.split and place == split for sample, place in placed)
        if joined and division.sources[split] == "folder":
            yield (
                f"{joined:,} images without a split went to {split}, since they are one picture or of one group with "
                f"images that were given to {split}; give them a split of their own if that is wrong"
            )
    if left_out := division.splits.count(placement.LEFT_OUT):
        yield (
            f"{left_out:,} images are in no split, since they belong to images of several splits or have two labels; "
            f"their split in {paths.MANIFEST} is empty"
        )


def figures(samples: Sequence[Sample], classes: Sequence[str], division: Division) -> dict[str, Any]:
    """Return what ``prepare`` records of the division."""
    labels, contents = [sample.label for sample in samples], [sample.sha256 for sample in samples]
    sizes, cells = Counter(division.splits), Counter(zip(labels, division.splits, strict=True))
    kinds = Counter(row["kind"] for row in division.leaks)
    return {
        "images": len(samples),
        "classes": len(classes),
        "duplicates": len(contents) - len(set(contents)),
        "label_conflicts": len(clusters.conflicts(contents, labels)),
        "near_duplicates": division.repeated(),
        "left_out_of_splits": sizes[placement.LEFT_OUT],
        "leaks": leaks.contents(contents, division.splits),
        "near_leaks": kinds["same bytes"] + kinds["alike"],
        "group_leaks": kinds["group"],
        "linked_leaks": kinds["linked"],
        "leaked_images": units.leaks(division.units, division.splits),
        "random_split_leaks": division.random_leaks,
        "splits": {name: {"images": sizes[name], "source": division.sources[name]} for name in paths.SPLITS},
        # A list, which DVC leaves out of its tables: a column for each class would bury the rest.
        "per_class": [{"class": name} | {split: cells[name, split] for split in paths.SPLITS} for name in classes],
    }


def assign(samples: Sequence[Sample], division: Division) -> None:
    """Set each image's split and the number of its unit, to be written to the manifest."""
    sizes = Counter(division.units)
    numbers = {unit: str(number) for number, unit in enumerate((u for u in sizes if sizes[u] > 1), start=1)}
    for sample, split, unit in zip(samples, division.splits, division.units, strict=True):
        sample.split, sample.unit = split, numbers.get(unit, "")


def write(samples: Sequence[Sample], division: Division, data: schema.Data) -> None:
    """Write the clusters and the leaks as tables, and the memory of what was drawn."""
    sizes = Counter(division.clusters)
    numbers = {cluster: number for number, cluster in enumerate((c for c in sizes if sizes[c] > 1), start=1)}
    members = [index for index, cluster in enumerate(division.clusters) if cluster in numbers]
    members.sort(key=division.clusters.__getitem__)
    rows = (
        {
            "cluster": numbers[division.clusters[index]],
            "path": samples[index].path,
            "label": samples[index].label,
            "split": division.splits[index],
            "sha256": samples[index].sha256,
        }
        for index in members
    )
    records.write_csv(paths.COPIES, ["cluster", "path", "label", "split", "sha256"], rows)
    records.write_csv(paths.LEAKS, ["split", "path", "kind", "other_split", "other_path"], division.leaks)
    _remember(samples, division, data)


def _remember(samples: Sequence[Sample], division: Division, data: schema.Data) -> None:
    """Add to the memory where images were drawn. What is absent or left out this time keeps its place in it."""
    places = remembered(data)
    drawn = {}
    for sample, split in zip(samples, division.splits, strict=True):
        content = sample.sha256[:HEX]
        if split in placement.HELD_OUT and division.sources[split] == "folder":
            places.pop(content, None)  # held out by the person who gave it, who may take that back
        elif split != placement.LEFT_OUT:
            drawn[content] = split
    images: dict[str, list[str]] = {split: [] for split in paths.SPLITS}
    for content, split in sorted((places | drawn).items()):
        images[split].append(content)
    written: dict[str, Any] = {"drawn_with": _drawn_with(data), "images": images}
    others = [memory for memory in _memories() if memory["drawn_with"] != _drawn_with(data)]
    records.write_json(paths.MEMORY, written | ({"others": others} if others else {}))


def remembered(data: schema.Data) -> dict[str, str]:
    """Return the split of each image in earlier runs, by the beginning of its sha256; empty if the settings were
    others.

    Raises:
        ValueError: the file was damaged.
    """
    try:
        found = [each["images"] for each in _memories() if each["drawn_with"] == _drawn_with(data)]
        return {content: split for images in found for split, contents in images.items() for content in contents}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{paths.MEMORY}: expected the splits of images as prepare wrote them, received other things ({error}); "
            "take it from git, or delete it to divide all images anew"
        ) from error


def _memories() -> list[dict[str, Any]]:
    """Return all that is remembered, what was used last before the others: one for each way to divide."""
    if not paths.MEMORY.exists():
        return []
    record = records.read_json(paths.MEMORY)
    return [{key: record[key] for key in ("drawn_with", "images")}, *record.get("others", [])]


def _drawn_with(data: schema.Data) -> dict[str, float]:
    return {"seed": data.seed, "val": data.val, "test": data.test}
