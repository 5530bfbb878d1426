"""Place images before any split is drawn: what is bound to a split by earlier runs or given images, and what is free.

Images that belong together are one unit. A unit that belongs to images of one split joins them there, one that belongs
to images of several is left out, and any other is free to be drawn by ``thaw.data.stratified``.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thaw.data import clusters, split_memory, text_columns
from thaw.paths import SPLITS

HELD_OUT = ("test", "val")
LEFT_OUT = ""  # instead of a split
# The numbers of splits, of what is left out, and of what has none yet.
NUMBERS = {**{split: number for number, split in enumerate(SPLITS)}, LEFT_OUT: len(SPLITS)}
NAMES = (*SPLITS, LEFT_OUT)
FREE = -1
HELD_OUT_NUMBERS = [NUMBERS[split] for split in HELD_OUT]

Placed = NDArray[np.int8]  # of each image the number of its split, or FREE
Sides = NDArray[np.uint8]  # sets of splits: of each one a bit


@dataclass(frozen=True)
class Images:
    """What placing needs to know of images, as numbers: (n,) each, the same for equal ones, and -1 for nothing."""

    contents: Sequence[str]  # sha256, hex, by which they are ordered
    content: NDArray[np.int32]
    label: NDArray[np.int32]  # an index into ``labels``
    labels: Sequence[str]
    links: NDArray[np.int64]  # (pairs, 2) that belong together
    keys: Sequence[NDArray[np.int32]]  # in each, those of one number belong together

    def __len__(self) -> int:
        return len(self.content)

    def joined(self, among: NDArray[np.bool_] | None = None) -> NDArray[np.int32]:
        """Return the cluster of each image by the number of its first, see ``clusters.joined``."""
        return clusters.joined(len(self), self.links, self.keys, among)

    def take(self, places: NDArray[np.int64]) -> "Images":
        """Return some of the images, and the links between them."""
        place = np.full(len(self), -1, np.int64)
        place[places] = np.arange(len(places))
        links = place[self.links]
        return Images(
            [self.contents[index] for index in places.tolist()],
            self.content[places],
            self.label[places],
            self.labels,
            links[(links >= 0).all(axis=1)],
            [numbers[places] for numbers in self.keys],
        )


@dataclass(frozen=True)
class Units:
    """New images that go to one split together. Of unit u they are ``images[start[u] : start[u + 1]]``."""

    images: NDArray[np.int32]
    start: NDArray[np.int64]  # (units + 1,)
    place: NDArray[np.uint64]  # (units,), in the order of their classes

    def __len__(self) -> int:
        return len(self.place)


def images(contents: Sequence[str], labels: Sequence[str], links: clusters.Links, keys: clusters.Keys) -> Images:
    """Return images as numbers; those with the same content belong together too."""
    content, label = text_columns.numbers(contents), text_columns.words(labels)
    numbers = [content, *(text_columns.numbers(words) for words in keys)]
    return Images(contents, content, label.codes, label.values, clusters.pairs(links), numbers)


def splits(names: Iterable[str], *, none: int) -> Placed:
    """Return the numbers of splits, (n,).

    Args:
        none: the number of an empty name.
    """
    numbers = NUMBERS | {LEFT_OUT: none}
    if isinstance(names, text_columns.Words):
        return np.array([numbers[name] for name in names.values], np.int8)[names.codes]
    return np.fromiter((numbers[name] for name in names), np.int8)


def names(placed: Placed) -> list[str]:
    """Return splits by name."""
    return [NAMES[number] for number in placed.tolist()]


def held_out(placed: Placed) -> NDArray[np.bool_]:
    """Return which images are in one of the splits that nothing is learnt from, (n,)."""
    return np.isin(placed, HELD_OUT_NUMBERS)


def before(contents: Sequence[str], known: Mapping[str, str]) -> Placed:
    """Return the splits that contents had in earlier runs, (n,)."""
    if isinstance(known, split_memory.Remembered):
        return known.of(split_memory.numbers(contents), FREE)
    if not known:
        return np.full(len(contents), FREE, np.int8)
    return np.fromiter((NUMBERS.get(known.get(content, "none"), FREE) for content in contents), np.int8, len(contents))


def kept(own: Images, given: Placed) -> NDArray[np.bool_]:
    """Return which images may stay in training since they were given to it, (n,).

    Others of their class came without a split, and are drawn from in their place. A class that has none, as where all
    images came in a folder ``train``, is drawn from as a whole.

    Args:
        given: the split that each came with, or FREE.
    """
    without = np.bincount(own.label[given == FREE], minlength=len(own.labels))
    kept: NDArray[np.bool_] = (given == NUMBERS["train"]) & (without > 0)[own.label]
    return kept


def settled(
    own: Images,
    whole: NDArray[np.int32],
    given: Placed,
    old: Placed,
    parts: Sequence[str],
    trained: NDArray[np.bool_],
) -> tuple[Placed, Sides]:
    """Return each image's split before any is drawn; and all splits of its cluster.

    Their company are the images that they belong with by way of others that are somewhere already.

    Args:
        whole: the cluster of each image.
        given: the split that each came with, or FREE.
        old: the one that it had in earlier runs, or FREE.
        parts: the splits that are wanted; an old image of another one counts as new.
        trained: the images that are ``kept`` in training, whatever they were before.
    """
    held = held_out(given)
    beside, taught = np.zeros((2, len(own)), np.bool_)
    beside[whole[held]], taught[whole[trained]] = True, True
    old = np.where(np.isin(old, [NUMBERS[split] for split in parts]), old, np.int8(FREE))
    # Nobody held them out, and what they belong to is trained on: they go there with it.
    old[held_out(old) & (taught & ~beside)[whole]] = FREE
    old[trained] = NUMBERS["train"]
    stays = (given == NUMBERS["train"]) & (beside[whole] | (len(parts) == 1)) | trained
    # A leak is no smaller where it goes from one held-out split to two.
    placed = np.where(held, given, np.where(stays & (old == FREE), given, old))
    company = own.joined(placed != FREE)
    several = _many(_sides(company, placed))[company] & ~(held | stays)
    placed[several] = FREE  # old images that now turn out to be one
    return placed, _sides(company, placed)[company]


def _bits(placed: Placed) -> Sides:
    """Return the set that holds the split of each image alone."""
    return np.where(placed == FREE, 0, 1 << np.maximum(placed, 0)).astype(np.uint8)


def _sides(company: NDArray[np.int32], placed: Placed) -> Sides:
    sides = np.zeros(len(company), np.uint8)
    np.bitwise_or.at(sides, company, _bits(placed))
    return sides


def _many(sides: Sides) -> NDArray[np.bool_]:
    return (sides & (sides - np.uint8(1))) > 0


def units(own: Images, placed: Placed, sides: Sides, barred: NDArray[np.bool_], seed: int) -> Units:
    """Return the units that are free to go anywhere; those that belong to images in a split are put in ``placed``."""
    free = placed == FREE
    owner = own.joined(free)
    beside = _beside(owner, own, placed, sides)[owner]
    bound = free & (beside > 0)
    alone = np.log2(np.maximum(beside, 1)).astype(np.int8)
    able = bound & ~barred
    placed[able] = np.where(_many(beside), NUMBERS[LEFT_OUT], alone)[able]
    images = np.flatnonzero(free & ~bound & ~barred).astype(np.int32)
    images = images[np.argsort(owner[images], kind="stable")]
    start = np.flatnonzero(np.diff(owner[images], prepend=-1))
    digests = (hashlib.sha256(f"{seed} {own.contents[index]}".encode()).digest() for index in images.tolist())
    # Of 256 bits the first 64: two are equal once in thirty million times a million images.
    each = np.fromiter((int.from_bytes(digest[:8], "big") for digest in digests), np.uint64, len(images))
    return Units(images, np.append(start, len(images)), np.minimum.reduceat(each, start) if len(start) else each)


def short(own: Images, units: Units, placed: Placed, wanted: Sequence[str]) -> NDArray[np.bool_]:
    """Return which classes have fewer units that are free than splits that they have no image in, (classes,)."""
    unit = np.repeat(np.arange(len(units)), np.diff(units.start))
    classes = np.unique(unit * len(own.labels) + own.label[units.images]) % max(len(own.labels), 1)
    lacking = np.zeros(len(own.labels), np.int64)
    for split in wanted:
        lacking += np.bincount(own.label[placed == NUMBERS[split]], minlength=len(lacking)) == 0
    few: NDArray[np.bool_] = np.bincount(classes, minlength=len(lacking)) < lacking
    return few


def _beside(owner: NDArray[np.int32], own: Images, placed: Placed, sides: Sides) -> Sides:
    """Return the splits that each cluster of free images is held to by images that are in one, by its first image."""
    beside, free = np.zeros(len(own), np.uint8), placed == FREE
    for ones, others in (own.links.T, own.links.T[::-1]):
        held = free[ones] & ~free[others]
        np.bitwise_or.at(beside, owner[ones[held]], sides[others[held]])
    for numbers in own.keys:
        of = np.zeros(int(numbers.max(initial=-1)) + 1, np.uint8)
        there = ~free & (numbers >= 0)
        np.bitwise_or.at(of, numbers[there], sides[there])
        new = free & (numbers >= 0)
        np.bitwise_or.at(beside, owner[new], of[numbers[new]])
    return beside
