"""Place images before any split is drawn: what is bound to a split by earlier runs or given images, and what is free.

Images that belong together are one unit. A unit that belongs to images of one split joins them there, one that belongs
to images of several is left out, and any other is free to be drawn by ``thaw.data.stratified``.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thaw.data import clusters
from thaw.data.clusters import Links

HELD_OUT = ("test", "val")
LEFT_OUT = ""  # instead of a split


@dataclass
class Unit:
    """New images that go to one split together."""

    place: bytes  # in the order of its classes
    images: list[int]
    labels: Counter[str]


def settled(
    contents: Sequence[str],
    whole: Sequence[int],
    links: Links,
    keys: Sequence[Sequence[str]],
    given: Sequence[str],
    known: Mapping[str, str],
    parts: Sequence[str],
) -> tuple[list[str | None], list[set[str]]]:
    """Return each image's split before any is drawn, None where it has none; and all splits of its cluster.

    Their company are the images that they belong with by way of others that are somewhere already.

    Args:
        whole: the cluster of each image.
        parts: the splits that are wanted; an old image of another one counts as new.
    """
    held_out = {cluster for cluster, split in zip(whole, given, strict=True) if split in HELD_OUT}
    old = [split if (split := known.get(content)) in parts else None for content in contents]
    placed, firm = list(old), [bool(split) for split in given]
    for index, split in enumerate(given):
        if split in HELD_OUT:
            placed[index] = split
        elif split and (len(parts) == 1 or whole[index] in held_out):
            placed[index] = old[index] or split  # a leak is no smaller where it goes from one held-out split to two
        elif split:
            firm[index] = False
    company = clusters.joined(len(contents), links, keys, [split is not None for split in placed])
    sides = _sides(company, placed)
    for index, cluster in enumerate(company):
        if not firm[index] and len(sides.get(cluster, ())) > 1:
            placed[index] = None  # old images that now turn out to be one
    sides = _sides(company, placed)
    return placed, [sides.get(cluster, set()) for cluster in company]


def _sides(company: Sequence[int], placed: Sequence[str | None]) -> dict[int, set[str]]:
    sides: dict[int, set[str]] = {}
    for cluster, split in zip(company, placed, strict=True):
        if split is not None:
            sides.setdefault(cluster, set()).add(split)
    return sides


def units(
    contents: Sequence[str],
    labels: Sequence[str],
    links: Links,
    keys: Sequence[Sequence[str]],
    placed: list[str | None],
    sides: Sequence[set[str]],
    barred: set[int],
    seed: int,
) -> list[Unit]:
    """Return the units that are free to go anywhere; those that belong to images in a split are put in ``placed``."""
    owner = clusters.joined(len(contents), links, keys, [split is None for split in placed])
    beside = _beside(owner, links, keys, placed, sides)
    members: dict[int, list[int]] = {}
    for index, split in enumerate(placed):
        if split is None:
            members.setdefault(owner[index], []).append(index)
    units = []
    for number, images in members.items():
        able = [index for index in images if index not in barred]
        if found := beside.get(number):
            for index in able:
                placed[index] = min(found) if len(found) == 1 else LEFT_OUT
        elif able:
            place = min(hashlib.sha256(f"{seed} {contents[index]}".encode()).digest() for index in able)
            units.append(Unit(place, able, Counter(labels[index] for index in able)))
    return units


def _beside(
    owner: Sequence[int],
    links: Links,
    keys: Sequence[Sequence[str]],
    placed: Sequence[str | None],
    sides: Sequence[set[str]],
) -> dict[int, set[str]]:
    """Return the splits that each cluster of free images is held to by images that are in one."""
    beside: dict[int, set[str]] = {}
    for link in links:
        for one, other in (link, link[::-1]):
            if placed[one] is None and placed[other] is not None:
                beside.setdefault(owner[one], set()).update(sides[other])
    for words in keys:
        held: dict[str, set[str]] = {}
        for word, split, own in zip(words, placed, sides, strict=True):
            if word and split is not None:
                held.setdefault(word, set()).update(own)
        for index, word in enumerate(words):
            if placed[index] is None and word in held:
                beside.setdefault(owner[index], set()).update(held[word])
    return beside
