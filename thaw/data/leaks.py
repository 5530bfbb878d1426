"""Leaks between splits: the same bytes, near-duplicates or a group in two of them; none where all is drawn at once."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from thaw.data import units
from thaw.data.clusters import Links
from thaw.data.placement import LEFT_OUT


def contents(hashes: Sequence[str], divided: Sequence[str]) -> dict[str, int]:
    """Return how many contents each pair of splits has in common; 0 unless the splits came with the images."""
    held: dict[str, set[str]] = {"train": set(), "val": set(), "test": set()}
    for content, split in zip(hashes, divided, strict=True):
        if split != LEFT_OUT:
            held[split].add(content)
    return {f"{one}_{other}": len(held[one] & held[other]) for one, other in combinations(held, 2)}


def pairs(divided: Sequence[str], links: Links = (), keys: Sequence[Sequence[str]] = ()) -> list[tuple[int, int]]:
    """Return the pairs of images in two splits that belong together.

    Of those with the same word each is named with the first of every other split, or a large group would fill a disk.
    """
    found = {link for link in links if LEFT_OUT != divided[link[0]] != divided[link[1]] != LEFT_OUT}
    for words in keys:
        first: dict[str, dict[str, int]] = {}
        for index, (word, split) in enumerate(zip(words, divided, strict=True)):
            if word and split != LEFT_OUT:
                first.setdefault(word, {}).setdefault(split, index)
        for index, (word, split) in enumerate(zip(words, divided, strict=True)):
            if word and split != LEFT_OUT:
                others = (place for other, place in first[word].items() if other != split)
                found.update((min(index, place), max(index, place)) for place in others)
    return sorted(found)


def linked(unit: Sequence[int], divided: Sequence[str], listed: Links) -> list[tuple[int, int]]:
    """Return a pair for each leaked image that the others do not name: with the first image that it leaks from.

    Both belong together by way of other images alone, such as one in no split.

    Args:
        unit: of each image.
        listed: the pairs of ``pairs``.
    """
    named = {
        held
        for pair in listed
        for held, other in (pair, pair[::-1])
        if divided[other] in units.LEARNT_FROM.get(divided[held], ())
    }
    first: dict[tuple[int, str], int] = {}
    for index, place in enumerate(zip(unit, divided, strict=True)):
        first.setdefault(place, index)
    found = []
    for index, leaked in enumerate(units.leaked(unit, divided)):
        if leaked and index not in named:
            sources = ((unit[index], split) for split in units.LEARNT_FROM[divided[index]])
            other = next(first[place] for place in sources if place in first)
            found.append((min(index, other), max(index, other)))
    return found


def expected(whole: Sequence[int], *, val: float, test: float) -> float:
    """Return how many held-out images would on average have a copy in training if each image were drawn by itself.

    Args:
        whole: the cluster of each image.
        val, test: shares of the images.
    """
    sizes = Counter(Counter(whole).values())
    return sum(
        number * size * (val + test) * (1 - (val + test) ** (size - 1)) for size, number in sorted(sizes.items())
    )
