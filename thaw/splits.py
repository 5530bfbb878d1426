"""Which image is for training, which for validation, which for the test: decided by content, and kept for good.

Images that belong together (the same bytes, alike, one group) are one unit, which goes to one split. A first division
depends on the hashes of the images and the seed, never on names or the order of files: within a class the units are
ordered by ``sha256(seed, content)``; the test takes its share from the low end, validation from the high end, training
keeps the middle. So each class is divided exactly, to half a unit.

What was divided before is remembered, as a file beside the images. When images are added, the old ones stay where they
are, and the new ones fill each class's shares up, by the same rule. Without a memory this cannot be had: a limit for
the hash leaves the shares to chance, an exact share moves old images, and of two images that are alike nobody can say
which was there first. With it both hold: no old image changes its split because others came, and each class's shares
are exact as long as enough new units come.

- New images that belong to old ones of one split join them there.
- New images that belong to old ones of several splits would leak whichever way they went: they are left out.
- Images with two labels for the same bytes go to training with all that belongs to them. If an old one of these is
  held out, they are left out instead, so that nothing is trained on that was tested on before.

Only links between old images that were not known before (another threshold, new groups) can move an old image.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

HELD_OUT = ("test", "val")
LEFT_OUT = ""  # instead of a split
Links = Sequence[tuple[int, int]]  # indices of images that belong together


@dataclass
class Unit:
    """New images that go to one split together."""

    place: bytes  # in the order of its classes
    images: list[int]
    labels: Counter[str]


def draw(
    contents: Sequence[str],
    labels: Sequence[str],
    *,
    val: float,
    test: float,
    seed: int,
    links: Links = (),
    known: Mapping[str, str] | None = None,
) -> list[str]:
    """A stratified split.

    Args:
        contents: the sha256 of each image's bytes, hex. Equal ones belong together.
        labels: the class of each image, as many.
        val: share of each class's images for validation, 0 to 0.5; 0 for none.
        test: share of each class's images for the test, 0 to 0.5; 0 for none.
        seed: another one, another split.
        links: images that belong together for another reason.
        known: the split of contents that were divided before.

    Returns:
        "train", "val" or "test" for each image, or ``LEFT_OUT``.

    Raises:
        ValueError: a class has too few units to have one in every split.
    """
    shares = {split: share for split, share in (("test", test), ("val", val)) if share > 0}
    links = [*links, *same(contents)]
    whole = clusters(len(contents), links)
    torn = conflicts(contents, labels)
    divided = _remembered(contents, links, whole, known or {}, ("train", *shares))
    held_out = {cluster for cluster, split in zip(whole, divided, strict=True) if split in HELD_OUT}
    for_training = {whole[index] for index, content in enumerate(contents) if content in torn} - held_out
    for index, (content, cluster) in enumerate(zip(contents, whole, strict=True)):
        if cluster in for_training:
            divided[index] = "train"
        elif content in torn and divided[index] != "train":
            divided[index] = LEFT_OUT
    units = _units(contents, labels, links, divided, seed)
    tally = Counter(zip(labels, divided, strict=True))
    totals = Counter(label for label, split in zip(labels, divided, strict=True) if split != LEFT_OUT)
    by_label: dict[str, list[Unit]] = {label: [] for label in totals}
    for unit in units:
        for label in unit.labels:
            by_label[label].append(unit)
    clean = Counter(
        (label, split)
        for label, split, cluster in zip(labels, divided, whole, strict=True)
        if cluster not in for_training
    )

    def put(unit: Unit, split: str) -> None:
        for index in unit.images:
            divided[index] = split
        tally.update({(label, split): count for label, count in unit.labels.items()})
        clean.update({(label, split): count for label, count in unit.labels.items()})

    for label in sorted(by_label):
        free = sorted((u for u in by_label[label] if divided[u.images[0]] is None), key=lambda unit: unit.place)
        lacking = [split for split in ("train", *shares) if not clean[label, split]]
        if len(free) < len(lacking):
            own = {cluster for name, cluster in zip(labels, whole, strict=True) if name == label}
            sizes = len(own - for_training), len(own & for_training)
            raise ValueError(_too_few(label, 1 + len(shares), *sizes, again=bool(known)))
        for split, share in shares.items():
            waiting = sum(other != split for other in lacking)
            taken: set[int] = set()
            for number, unit in list(enumerate(free))[:: -1 if split == "val" else 1]:
                # One with many images may be passed over; smaller ones fill the share up to half an image.
                fits = all(tally[own, split] + n <= share * totals[own] + 0.5 for own, n in unit.labels.items())
                if fits and len(free) - len(taken) > waiting:
                    put(unit, split)
                    taken.add(number)
            if not clean[label, split]:
                number = min(range(len(free)), key=lambda index: len(free[index].images))
                put(free[number], split)
                taken.add(number)
            free = [unit for number, unit in enumerate(free) if number not in taken]
            lacking = [other for other in lacking if other != split]
        for unit in free:
            put(unit, "train")
    return [split or LEFT_OUT for split in divided]


def complete(
    contents: Sequence[str],
    labels: Sequence[str],
    given: Sequence[str],
    *,
    val: float,
    test: float,
    seed: int,
    links: Links = (),
    known: Mapping[str, str] | None = None,
) -> tuple[list[str], dict[str, str]]:
    """Keep the splits that came with the images and draw the missing ones from train.

    Args:
        given: "train", "val" or "test" for each image, or "" for all of them.
        contents, labels, val, test, seed, links, known: as for ``draw``.

    Returns:
        The split of each image, and for "train", "val" and "test" where it comes from: "folder" or "drawn".

    Raises:
        ValueError: as for ``draw``.
    """
    sources = {split: "folder" if split in given else "drawn" for split in ("train", *HELD_OUT)}
    divided = [split or "train" for split in given]
    drawn_from = [index for index, split in enumerate(divided) if split == "train"]
    shares = {split: {"val": val, "test": test}[split] if sources[split] == "drawn" else 0.0 for split in HELD_OUT}
    if any(shares.values()):
        place = {index: number for number, index in enumerate(drawn_from)}
        drawn = draw(
            [contents[i] for i in drawn_from],
            [labels[i] for i in drawn_from],
            **shares,
            seed=seed,
            links=[(place[one], place[other]) for one, other in links if one in place and other in place],
            known=known,
        )
        for index, split in zip(drawn_from, drawn, strict=True):
            divided[index] = split
    return divided, sources


def conflicts(contents: Sequence[str], labels: Sequence[str]) -> set[str]:
    """The contents that carry more than one label."""
    first: dict[str, str] = {}
    return {
        content for content, label in zip(contents, labels, strict=True) if first.setdefault(content, label) != label
    }


def leaks(contents: Sequence[str], splits: Sequence[str]) -> dict[str, int]:
    """How many distinct contents two splits have in common, for each two of them; 0 unless folders came that way."""
    held: dict[str, set[str]] = {"train": set(), "val": set(), "test": set()}
    for content, split in zip(contents, splits, strict=True):
        if split != LEFT_OUT:
            held[split].add(content)
    return {f"{one}_{other}": len(held[one] & held[other]) for one, other in combinations(held, 2)}


def across(links: Links, splits: Sequence[str]) -> list[tuple[int, int]]:
    """The links between two splits."""
    return [link for link in links if LEFT_OUT != splits[link[0]] != splits[link[1]] != LEFT_OUT]


def expected_leaks(whole: Sequence[int], *, val: float, test: float) -> float:
    """How many held-out images would have a copy in training if each image were drawn by itself, on average.

    Args:
        whole: the cluster of each image.
        val, test: shares of the images.
    """
    sizes = Counter(Counter(whole).values())
    return sum(
        number * size * (val + test) * (1 - (val + test) ** (size - 1)) for size, number in sorted(sizes.items())
    )


def clusters(count: int, links: Links) -> list[int]:
    """Who belongs together: for each of ``count`` images the index of the first image of its cluster."""
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for one, other in links:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return [root(index) for index in range(count)]


def same(keys: Sequence[str]) -> list[tuple[int, int]]:
    """Links of each image with the first that has the same key; an empty key is none."""
    first: dict[str, int] = {}
    return [(first[key], index) for index, key in enumerate(keys) if key and first.setdefault(key, index) != index]


def _remembered(
    contents: Sequence[str], links: Links, whole: Sequence[int], known: Mapping[str, str], parts: Sequence[str]
) -> list[str | None]:
    """Where each image was put before; None if it is new, or in a cluster whose old images now turn out a leak."""
    divided = [split if (split := known.get(content)) in parts else None for content in contents]
    leaking = {whole[one] for one, other in links if None is not divided[one] != divided[other] is not None}
    return [None if cluster in leaking else split for cluster, split in zip(whole, divided, strict=True)]


def _units(
    contents: Sequence[str], labels: Sequence[str], links: Links, divided: list[str | None], seed: int
) -> list[Unit]:
    """The units that are free to go anywhere; those that belong to old images are put in ``divided``."""
    inner = [link for link in links if divided[link[0]] is divided[link[1]] is None]
    owner = clusters(len(contents), inner)
    beside: dict[int, set[str]] = {}
    for link in links:
        for one, other in (link, link[::-1]):
            if divided[one] is None and (split := divided[other]):
                beside.setdefault(owner[one], set()).add(split)
    members: dict[int, list[int]] = {}
    for index, split in enumerate(divided):
        if split is None:
            members.setdefault(owner[index], []).append(index)
    units = []
    for number, images in members.items():
        if sides := beside.get(number):
            for index in images:
                divided[index] = min(sides) if len(sides) == 1 else LEFT_OUT
        else:
            place = min(hashlib.sha256(f"{seed} {contents[index]}".encode()).digest() for index in images)
            units.append(Unit(place, images, Counter(labels[index] for index in images)))
    return units


def _too_few(label: str, parts: int, distinct: int, torn: int, *, again: bool) -> str:
    apart = f" and {torn} that other classes have too" if torn else ""
    anew = ", or divide anew without data/splits.json" if again else ""
    return (
        f"class {label}: expected at least {parts} distinct images, one for each split, received {distinct}{apart}; "
        f"add images or remove the class{anew}"
    )
