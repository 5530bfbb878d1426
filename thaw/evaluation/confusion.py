"""The confusion matrix for the page: a table, a picture where there are too many classes for one, and always pairs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

TABLED, DRAWN = 24, 150  # classes: up to these a table with all counts is read, and a picture
CELLS = 3000  # mistaken cells of a picture, those of the most images: what a browser draws at once
PAIRS = 40
LEVELS = 5  # shades
CELL = 12  # of a picture, in pixels: a name fits beside its row
LONGEST = 24  # characters of a name beside a picture


@dataclass
class Matrix:
    """What the page shows of a confusion matrix."""

    cells: list[tuple[str, list[tuple[int, str]]]] = field(default_factory=list)  # class, its counts and their shades
    picture: str = ""  # SVG
    left_out: int = 0  # cells that the picture leaves out
    rows: list[dict[str, Any]] = field(default_factory=list)  # by class: images, right, and what it was taken for
    pairs: list[dict[str, Any]] = field(default_factory=list)


def counts(labels: Sequence[str], predicted: Sequence[str], classes: Sequence[str]) -> NDArray[np.int64]:
    """Return the confusion matrix, (classes, classes): rows actual, columns predicted."""
    number = {name: index for index, name in enumerate(classes)}
    found = np.zeros((len(classes),) * 2, np.int64)
    np.add.at(found, ([number[name] for name in labels], [number[name] for name in predicted]), 1)
    return found


def confused(counts: NDArray[np.integer[Any]], most: int) -> list[dict[str, int]]:
    """Return the pairs of classes most confused, those of the most images first.

    Args:
        counts: (classes, classes), rows actual, columns predicted.
        most: pairs at most.

    Returns:
        Rows of ``actual``, ``predicted``, ``images``, ``of``: the test images of the actual class, and ``reverse``:
        how many are confused the other way round.
    """
    actual, predicted = np.nonzero(counts)
    apart = actual != predicted
    actual, predicted = actual[apart], predicted[apart]
    first = np.argsort(-counts[actual, predicted], kind="stable")[:most]
    of = counts.sum(axis=1)
    return [
        {
            "actual": int(a),
            "predicted": int(p),
            "images": int(counts[a, p]),
            "of": int(of[a]),
            "reverse": int(counts[p, a]),
        }
        for a, p in zip(actual[first], predicted[first], strict=True)
    ]


def matrix(table: NDArray[np.int64], classes: Sequence[str], name: str) -> Matrix:
    """Return what the page shows: a table or a picture if there are not too many classes, and always rows and pairs.

    Args:
        table: (classes, classes), rows actual, columns predicted.
        classes: names.
        name: of the picture, for those who don't see it.
    """
    shades = _shades(table)
    found = Matrix(rows=_rows(table, classes), pairs=_pairs(table, classes))
    if len(classes) <= TABLED:
        for label, values, own in zip(classes, table.tolist(), shades, strict=True):
            found.cells.append((label, list(zip(values, own, strict=True))))
    elif len(classes) <= DRAWN:
        found.picture, found.left_out = _picture(table, shades, classes, name)
    return found


def _shades(table: NDArray[np.int64]) -> list[list[str]]:
    """Return the class of the style sheet for each cell: r right, w wrong, 1 to 5 by the root of its share."""
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    levels = np.ceil(np.sqrt(shares) * LEVELS).astype(int)
    return [
        [f"{'r' if row == column else 'w'}{level}" if level else "" for column, level in enumerate(own)]
        for row, own in enumerate(levels.tolist())
    ]


def _picture(
    table: NDArray[np.int64], shades: list[list[str]], classes: Sequence[str], name: str
) -> tuple[Markup, int]:
    actual, predicted = np.nonzero(table)
    wrong = actual != predicted
    order = np.lexsort((-table[actual, predicted], wrong))  # those that are right first
    shown = order[: int((~wrong).sum()) + CELLS]
    n, margin = len(classes), 9 + 6 * min(LONGEST, max(map(len, classes)))
    side = margin + CELL * n
    of = table.sum(axis=1)
    parts = [Markup('<rect class="plate" x="{0}" y="{0}" width="{1}" height="{1}"/>').format(margin, CELL * n)]
    for number, label in enumerate(classes):
        text, at = _short(label), margin + CELL * number + CELL - 3
        parts.append(Markup('<text class="class end" x="{}" y="{}">{}</text>').format(margin - 4, at, text))
        turned = Markup('<text class="class" transform="translate({} {})rotate(-90)">{}</text>')
        parts.append(turned.format(at, margin - 4, text))
        if number % 10 == 0 and number:
            line = margin + CELL * number
            parts.append(Markup('<path class="grid" d="M{0} {1}H{2}M{1} {0}V{2}"/>').format(margin, line, side))
    for cell in np.sort(shown):
        a, p = int(actual[cell]), int(predicted[cell])
        parts.append(
            Markup(
                '<rect class="{}" x="{}" y="{}" width="{}" height="{}"><title>{} → {}: {} of {}</title></rect>'
            ).format(
                shades[a][p],
                margin + CELL * p,
                margin + CELL * a,
                CELL,
                CELL,
                classes[a],
                classes[p],
                table[a, p],
                of[a],
            )
        )
    head = Markup('<svg class="matrix" width="{0}" height="{0}" viewBox="0 0 {0} {0}" role="img" aria-label="{1}">')
    return head.format(side, name) + Markup("").join(parts) + Markup("</svg>"), len(order) - len(shown)


def _rows(table: NDArray[np.int64], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return for each class with test images how many, how many are right, and what the others were taken for."""
    found = []
    for number, own in enumerate(table):
        others = [int(p) for p in np.argsort(-own, kind="stable") if own[p] and p != number]
        if own.sum():
            taken = [(classes[p], int(own[p])) for p in others]
            found.append(
                {"name": classes[number], "images": int(own.sum()), "right": int(own[number]), "taken": taken}
            )
    return found


def _pairs(table: NDArray[np.int64], classes: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {**pair, "actual": classes[pair["actual"]], "predicted": classes[pair["predicted"]]}
        for pair in confused(table, PAIRS)
    ]


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
