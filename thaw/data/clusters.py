"""Clusters of images: images joined by pairs and by words that they share, such as near-duplicates and groups."""

from collections.abc import Sequence

Links = Sequence[tuple[int, int]]  # indices of images that belong together


def joined(
    count: int, links: Links = (), keys: Sequence[Sequence[str]] = (), among: Sequence[bool] | None = None
) -> list[int]:
    """Return for each of ``count`` images the index of the first image of its cluster.

    Args:
        links: pairs that belong together.
        keys: lists with a word for each image; those with the same word belong together, an empty one says nothing.
        among: which images count, (count,). The others are clusters of their own, and hold nobody together.
    """
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    def join(one: int, other: int) -> None:
        low, high = sorted((root(one), root(other)))
        parent[high] = low

    for one, other in links:
        if among is None or (among[one] and among[other]):
            join(one, other)
    for words in keys:
        first: dict[str, int] = {}
        for index, word in enumerate(words):
            if word and (among is None or among[index]):
                join(first.setdefault(word, index), index)
    return [root(index) for index in range(count)]


def conflicts(contents: Sequence[str], labels: Sequence[str]) -> set[str]:
    """Return the contents that carry more than one label."""
    first: dict[str, str] = {}
    return {
        content for content, label in zip(contents, labels, strict=True) if first.setdefault(content, label) != label
    }
