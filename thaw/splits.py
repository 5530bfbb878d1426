"""Which image is for training, which for validation, which for the test: decided by content, class by class.

An image's place depends on the hash of its bytes and the seed, never on its name or on the order of files. Equal bytes
always go together, so no image is tested that was trained on.

How: within a class the distinct contents are ordered by ``sha256(seed, content)``. The test takes its share from the
low end, validation from the high end, training keeps the middle. Each class is so divided exactly, to half an image,
and each split holds every class. The price, against comparing the hash with fixed limits: when images are added, some
next to the two borders change between training and another split (of 200, 7 when 200 more come). None changes between
validation and test, unless its class is tiny.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

HELD_OUT = ("test", "val")


def draw(contents: Sequence[str], labels: Sequence[str], *, val: float, test: float, seed: int) -> list[str]:
    """A stratified split.

    Args:
        contents: for each image, what it shares with images that must go with it (the sha256 of its bytes).
        labels: the class of each image, as many.
        val: share of each class's images for validation, 0 to 0.5; 0 for none.
        test: share of each class's images for the test, 0 to 0.5; 0 for none.
        seed: another one, another split.

    Returns:
        "train", "val" or "test" for each image. A content with several labels goes to train.

    Raises:
        ValueError: a class has too few distinct images to have one in every split.
    """
    torn = conflicts(contents, labels)
    parts = 1 + (val > 0) + (test > 0)
    chosen: dict[str, str] = {}
    for label in sorted(set(labels)):
        images = Counter(content for content, own in zip(contents, labels, strict=True) if own == label)
        clean = sorted(images.keys() - torn, key=lambda content: _place(content, seed))
        if len(clean) < parts:
            apart = f" and {len(images) - len(clean)} that other classes have too" if len(images) > len(clean) else ""
            raise ValueError(
                f"class {label}: expected at least {parts} distinct images, one for each split, "
                f"received {len(clean)}{apart}; add images or remove the class"
            )
        total = images.total()
        tested = _take(clean, images, test * total, len(clean) - parts + 1)
        rest = [content for content in reversed(clean) if content not in tested]
        validated = _take(rest, images, val * total, len(rest) - 1)
        chosen |= dict.fromkeys(tested, "test") | dict.fromkeys(validated, "val")
    return [chosen.get(content, "train") for content in contents]


def complete(
    contents: Sequence[str], labels: Sequence[str], given: Sequence[str], *, val: float, test: float, seed: int
) -> tuple[list[str], dict[str, str]]:
    """Keep the splits that came with the images and draw the missing ones from train.

    Args:
        given: "train", "val" or "test" for each image, or "" for all of them.
        contents, labels, val, test, seed: as for ``draw``.

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
        drawn = draw([contents[i] for i in drawn_from], [labels[i] for i in drawn_from], **shares, seed=seed)
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
        held[split].add(content)
    return {f"{one}_{other}": len(held[one] & held[other]) for one, other in combinations(held, 2)}


def _place(content: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {content}".encode()).digest()


def _take(ordered: Sequence[str], images: Counter[str], quota: float, most: int) -> set[str]:
    """Contents from the front, their images nearest to ``quota``: one at least if any is wanted, ``most`` at most."""
    taken: set[str] = set()
    count = 0
    for content in ordered:
        # Rounds to the nearest: taken if half of its images still fit. One with many copies may be passed over.
        if len(taken) < most and count + images[content] / 2 <= quota:
            taken.add(content)
            count += images[content]
    if quota > 0 and not taken:
        taken.add(min(ordered, key=images.__getitem__))
    return taken
