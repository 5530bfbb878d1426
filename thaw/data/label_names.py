"""Whether the names of the classes can be told apart, and whether each is one label."""

import unicodedata
from collections import Counter
from collections.abc import Sequence

from thaw import console

NAMED = 5  # pairs of labels in a line
SEPARATORS = ",;|"  # between several labels, as tables write them
# What programs write where they have no value.
NOTHING = {"nan", "none", "null", "n/a", "#n/a", "<na>", "nil", "undefined"}


def check(raw: str, labels: Sequence[str]) -> None:
    """Stop where labels are surely not one class each, and warn where they may be the same.

    Args:
        raw: what the labels were read from.
        labels: distinct, in any order.

    Raises:
        ValueError: one is blanks, two differ by what nobody sees, or they are lists of several labels.
    """
    if blank := [label for label in labels if not label.strip()]:
        raise ValueError(f"{raw}: expected labels that can be read, received {blank[0]!r}; give the class a name")
    if nothing := [label for label in sorted(labels) if label.strip().casefold() in NOTHING]:
        console.warn(
            f"{raw}: labels that may stand for a missing one are classes like any other: "
            f"{', '.join(map(repr, nothing))}; give these images a label or take them out if it is missing"
        )
    unseen, spelt, doubtful = dict[str, str](), dict[str, str](), list[str]()
    for label in sorted(labels):
        plain = " ".join(unicodedata.normalize("NFC", label).split())
        if (other := unseen.setdefault(plain, label)) != label:
            raise ValueError(
                f"{raw}: expected labels that can be told apart, received {other!r} and {label!r}, which differ only "
                "by blanks or the coding of accents; spell them alike"
            )
        word = " ".join(plain.casefold().replace("_", " ").replace("-", " ").split())
        if word and (other := spelt.setdefault(word, label)) != label:
            doubtful.append(f"{other!r} and {label!r}")
    if doubtful:
        shown = ", ".join(doubtful[:NAMED]) + f" and {len(doubtful) - NAMED:,} more" * (len(doubtful) > NAMED)
        console.warn(
            f"{raw}: labels differ only by case, blanks, hyphens or underscores: {shown}; each is a class of its own: "
            "spell them alike if they mean the same"
        )
    words = Counter(word for label in labels for word in _words(label))
    lists = {label: found for label in labels if len(found := _words(label)) > 1}
    # A name may hold a comma; words that come again, alone or in other lists, are labels.
    again = [label for label, found in lists.items() if all(words[word] > 1 for word in found)]
    if again and 2 * len(again) >= len(lists):
        first = min(again)
        raise ValueError(
            f"{raw}: expected one label an image, received {first!r}, which looks like {len(lists[first])} labels "
            f"({len(again):,} such); several labels an image are not supported: keep one of them, or write the "
            f"combination without {' '.join(SEPARATORS)} if it is a class of its own"
        )


def _words(label: str) -> set[str]:
    for separator in SEPARATORS[1:]:
        label = label.replace(separator, SEPARATORS[0])
    return {word for part in label.split(SEPARATORS[0]) if (word := part.strip(" []()'\""))}
