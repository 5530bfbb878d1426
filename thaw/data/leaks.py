"""Leaks between splits: the same bytes, near-duplicates or a group in two of them; none where all was drawn."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from thaw.data.clusters import Links
from thaw.data.stratified import LEFT_OUT


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
