"""The images divided: who belongs together, where each goes, what would leak, and the memory of it.

The memory is a file in git, for the reason that ``thaw.splits`` gives. It holds for one seed and one pair of shares;
with others all is divided anew, and so it is without the file.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from thaw import layout, likeness, records, schema, splits
from thaw.splits import Links

HEX = 16  # digits of a content in the memory: 64 bits


class Sample(Protocol):
    """What is known of an image."""

    path: str
    sha256: str
    label: str
    split: str  # that it came with, or empty
    fingerprint: str
    group: str  # what it shares with images that must go with it, or empty


@dataclass
class Division:
    """Where the images go, in their order."""

    splits: list[str]  # train, val or test, or splits.LEFT_OUT
    sources: dict[str, str]  # of each split: folder or drawn
    clusters: list[int]  # for each image the first one that is the same picture
    copies: Links  # pairs that are the same picture: the same bytes, or alike
    random_leaks: float  # held-out images that would have a copy in training if all were drawn one by one

    def repeated(self) -> dict[str, int]:
        """Pictures that are there more than once: how many, in how many images, and the most of one."""
        sizes = [size for size in Counter(self.clusters).values() if size > 1]
        return {"clusters": len(sizes), "images": sum(sizes), "largest": max(sizes, default=0)}


def divide(samples: Sequence[Sample], data: schema.Data, known: Mapping[str, str]) -> Division:
    """Find who belongs together and divide.

    Args:
        known: from ``remembered``.

    Raises:
        ValueError: a class has too few images.
    """
    contents = [sample.sha256[:HEX] for sample in samples]
    labels = [sample.label for sample in samples]
    alike = likeness.alike([s.fingerprint for s in samples], data.near_threshold) if data.near_duplicates else []
    copies = sorted({*alike, *splits.same(contents)})
    links = [*copies, *splits.same([sample.group for sample in samples])]
    given = [sample.split for sample in samples]
    divided, sources = splits.complete(
        contents, labels, given, val=data.val, test=data.test, seed=data.seed, links=links, known=known
    )
    whole = splits.clusters(len(samples), copies)
    shares = {split: divided.count(split) / max(len(divided), 1) for split in splits.HELD_OUT}
    return Division(divided, sources, whole, copies, round(splits.expected_leaks(whole, **shares), 1))


def leaks(samples: Sequence[Sample], division: Division) -> list[dict[str, str]]:
    """The pairs that are one picture in two splits; none unless folders came that way."""
    rows = []
    for pair in splits.across(division.copies, division.splits):
        one, other = sorted(pair, key=lambda index: (division.splits[index], samples[index].path))
        kind = "same bytes" if samples[one].sha256 == samples[other].sha256 else "alike"
        row = {"split": division.splits[one], "path": samples[one].path, "kind": kind}
        rows.append(row | {"other_split": division.splits[other], "other_path": samples[other].path})
    return rows


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
    records.write_csv(layout.COPIES, ["cluster", "path", "label", "split", "sha256"], rows)
    leaking = leaks(samples, division)
    records.write_csv(layout.LEAKS, ["split", "path", "kind", "other_split", "other_path"], leaking)
    known = remembered(data)
    drawn: dict[str, set[str]] = {split: set() for split in layout.SPLITS}
    for sample, split in zip(samples, division.splits, strict=True):
        # What is left out this time keeps its place in the memory, or it could be trained on the next time.
        place = split or known.get(sample.sha256[:HEX], splits.LEFT_OUT)
        if place != splits.LEFT_OUT and not sample.split == place != "train":
            drawn[place].add(sample.sha256[:HEX])
    images = {split: sorted(contents) for split, contents in drawn.items()}
    records.write_json(layout.MEMORY, {"drawn_with": _drawn_with(data), "images": images})


def remembered(data: schema.Data) -> dict[str, str]:
    """Where images were put before, by the beginning of their sha256; empty if they were divided in another way.

    Raises:
        ValueError: the file was damaged.
    """
    if not layout.MEMORY.exists():
        return {}
    try:
        record = records.read_json(layout.MEMORY)
        if record["drawn_with"] != _drawn_with(data):
            return {}
        return {content: split for split, contents in record["images"].items() for content in contents}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{layout.MEMORY}: expected the splits of images as prepare wrote them, received other things ({error}); "
            "take it from git, or delete it to divide all images anew"
        ) from error


def _drawn_with(data: schema.Data) -> dict[str, float]:
    return {"seed": data.seed, "val": data.val, "test": data.test}
