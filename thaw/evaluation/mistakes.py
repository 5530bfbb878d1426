"""The mistakes of the test: which images to look at first, and which of them look like wrong labels."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw import paths, records

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]

MISTAKES, HITS = 24, 8  # images shown
PAIRS, IN_A_PAIR = 6, 3  # pairs of classes that are shown with examples, and examples of each class
# Of the table of all mistakes. A twin is a near-duplicate with another label.
COLUMNS = ("path", "label", "predicted", "probability", "label_probability", "suspect", "twin")


def confident(probabilities: Floats, labels: Labels, count: int = MISTAKES) -> list[int]:
    """Return the images answered wrongly, the surest answer first, at most ``count``.

    Args:
        probabilities: (images, classes).
        labels: (images,).
    """
    sure = probabilities.max(axis=1)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return [int(image) for image in wrong[np.argsort(-sure[wrong], kind="stable")][:count]]


def hits(probabilities: Floats, labels: Labels, count: int = HITS) -> list[int]:
    """Return some images answered rightly, from the surest to the least sure, evenly spread between these two."""
    sure = probabilities.max(axis=1)
    right = np.flatnonzero(probabilities.argmax(axis=1) == labels)
    ordered = right[np.argsort(-sure[right], kind="stable")]
    places = np.unique(np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int))
    return [int(image) for image in ordered[places]]


def examples(probabilities: Floats, labels: Labels, pair: Mapping[str, int]) -> dict[str, list[int]]:
    """Return images of a pair, the surest answers first.

    They are ``mistaken``, of the actual class and answered as the other, and ``right``, of the other and answered so.
    """
    answers, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    found = {}
    for name, actual in (("mistaken", pair["actual"]), ("right", pair["predicted"])):
        images = np.flatnonzero((labels == actual) & (answers == pair["predicted"]))
        found[name] = [int(image) for image in images[np.argsort(-sure[images], kind="stable")][:IN_A_PAIR]]
    return found


def twins(copies: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return for each image that has a near-duplicate with another label the path of that one, by the image's path."""
    members: dict[str, list[Mapping[str, str]]] = {}
    for row in copies:
        members.setdefault(row["cluster"], []).append(row)
    found = {}
    for own in members.values():
        for row in own:
            others = [other["path"] for other in own if other["label"] != row["label"]]
            if others:
                found[row["path"]] = others[0]
    return found


def table(
    names: Sequence[str],
    labels: Labels,
    probabilities: Floats,
    classes: Sequence[str],
    suspects: Collection[str],
    copies: Sequence[Mapping[str, str]],
) -> list[dict[str, Any]]:
    """Return each test image answered wrongly, the surest answer first: a row under ``COLUMNS``.

    Args:
        names: paths of the test images.
        labels: (images,).
        probabilities: (images, classes).
        classes: names.
        suspects: paths of the images whose label is probably wrong (``thaw.evaluation.label_errors``).
        copies: near-duplicates as ``prepare`` wrote them.
    """
    other = twins(copies)
    answers = probabilities.argmax(axis=1)
    return [
        {
            "path": names[image],
            "label": classes[labels[image]],
            "predicted": classes[answers[image]],
            "probability": round(float(probabilities[image].max()), 4),
            "label_probability": round(float(probabilities[image, labels[image]]), 4),
            "suspect": "yes" if names[image] in suspects else "no",
            "twin": other.get(names[image], ""),
        }
        for image in confident(probabilities, labels, len(labels))
    ]


def write(rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the table of mistakes."""
    records.write_csv(paths.MISTAKES, COLUMNS, rows)
