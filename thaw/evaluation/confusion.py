"""The confusion matrix for the page: a table, a picture where there are too many classes for one, and always pairs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

TABLED, DRAWN = 24, 150  # classes: up to these a table with all counts is read, and a picture
CELLS = 3000  # mistaken cells of a picture, those of the most images: what a browser draws at once
PAIRS = 40
DENSE = 500  # classes above which only cells that are not empty are held: a matrix of 10,000 takes 800 MB
LEVELS = 5  # shades
CELL = 12  # of a picture, in pixels: a name fits beside its row
LONGEST = 24  # characters of a name beside a picture


@dataclass
class Cells:
    """The cells of a confusion matrix that are not empty, by row and column: at most as many as there are images."""

    actual: NDArray[np.int64]
    predicted: NDArray[np.int64]
    images: NDArray[np.int64]
    classes: int

    def of(self) -> NDArray[np.int64]:
        """Return the test images of each class, (classes,)."""
        return np.bincount(self.actual, self.images, self.classes).astype(np.int64)

    def at(self, actual: NDArray[np.int64], predicted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the images of some cells."""
        keys, wanted = self.actual * self.classes + self.predicted, actual * self.classes + predicted
        if not len(keys):
            return np.zeros(len(wanted), np.int64)
        places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[places] == wanted, self.images[places], 0)


Table = NDArray[np.integer[Any]] | Cells


@dataclass
class Matrix:
    """What the page shows of a confusion matrix."""

    cells: list[tuple[str, list[tuple[int, str]]]] = field(default_factory=list)  # class, its counts and their shades
    picture: str = ""  # SVG
    left_out: int = 0  # cells that the picture leaves out
    rows: list[dict[str, Any]] = field(default_factory=list)  # by class: images, right, and what it was taken for
    pairs: list[dict[str, Any]] = field(default_factory=list)


def counts(labels: Sequence[str], predicted: Sequence[str], classes: Sequence[str]) -> Table:
    """Return the confusion matrix: rows actual, columns predicted.

    Returns:
        (classes, classes), or the cells that are not empty, where there are more than ``DENSE`` classes.
    """
    number = {name: index for index, name in enumerate(classes)}
    actual, guessed = (np.array([number[name] for name in names], np.int64) for names in (labels, predicted))
    return counted(actual, guessed, len(classes))


def counted(labels: NDArray[np.integer[Any]], predicted: NDArray[np.integer[Any]], classes: int) -> Table:
    """Return the same of (images,) numbers of classes."""
    keys, images = np.unique(labels.astype(np.int64) * classes + predicted, return_counts=True)
    actual, guessed = np.divmod(keys, classes)
    if classes > DENSE:
        return Cells(actual, guessed, images.astype(np.int64), classes)
    found = np.zeros((classes, classes), np.int64)
    found[actual, guessed] = images
    return found


def cells(table: Table) -> Cells:
    """Return the cells that are not empty."""
    if isinstance(table, Cells):
        return table
    actual, predicted = np.nonzero(table)
    return Cells(actual, predicted, np.asarray(table)[actual, predicted].astype(np.int64), len(table))


def confused(counts: Table, most: int) -> list[dict[str, int]]:
    """Return the pairs of classes most confused, those of the most images first.

    Args:
        counts: rows actual, columns predicted.
        most: pairs at most.

    Returns:
        Rows of ``actual``, ``predicted``, ``images``, ``of``: the test images of the actual class, and ``reverse``:
        how many are confused the other way round.
    """
    found = cells(counts)
    apart = np.flatnonzero(found.actual != found.predicted)
    first = apart[np.argsort(-found.images[apart], kind="stable")[:most]]
    actual, predicted, of = found.actual[first], found.predicted[first], found.of()
    each = zip(actual, predicted, found.images[first], found.at(predicted, actual), strict=True)
    return [
        {"actual": int(a), "predicted": int(p), "images": int(images), "of": int(of[a]), "reverse": int(reverse)}
        for a, p, images, reverse in each
    ]


def matrix(table: Table, classes: Sequence[str], name: str) -> Matrix:
    """Return what the page shows: a table or a picture if there are not too many classes, and always rows and pairs.

    Args:
        table: rows actual, columns predicted.
        classes: names.
        name: of the picture, for those who don't see it.
    """
    found = Matrix(rows=_rows(table, classes), pairs=_pairs(table, classes))
    if isinstance(table, Cells) or len(classes) > DRAWN:
        return found
    shades = _shades(table)
    if len(classes) <= TABLED:
        for label, values, own in zip(classes, table.tolist(), shades, strict=True):
            found.cells.append((label, list(zip(values, own, strict=True))))
    else:
        found.picture, found.left_out = _picture(table, shades, classes, name)
    return found


def _shades(table: NDArray[np.integer[Any]]) -> list[list[str]]:
    """Return the class of the style sheet for each cell: r right, w wrong, 1 to 5 by the root of its share."""
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    levels = np.ceil(np.sqrt(shares) * LEVELS).astype(int)
    return [
        [f"{'r' if row == column else 'w'}{level}" if level else "" for column, level in enumerate(own)]
        for row, own in enumerate(levels.tolist())
    ]


def _picture(
    table: NDArray[np.integer[Any]], shades: list[list[str]], classes: Sequence[str], name: str
) -> tuple[Markup, int]:
    """Return the names of rows and columns and the cells as three drawings, so that names stay where cells scroll."""
    actual, predicted = np.nonzero(table)
    wrong = actual != predicted
    order = np.lexsort((-table[actual, predicted], wrong))  # those that are right first
    shown = order[: int((~wrong).sum()) + CELLS]
    of, side, margin = table.sum(axis=1), CELL * len(classes), 9 + 6 * min(LONGEST, max(map(len, classes)))
    rows, columns = [], []
    parts = [Markup('<rect class="plate" width="{0}" height="{0}"/>').format(side)]
    for number, label in enumerate(classes):
        text, at = shortened(label, LONGEST), CELL * number + CELL - 3
        written = escape(text) + (Markup("<title>{}</title>").format(label) if text != label else "")
        rows.append(Markup('<text class="end" x="{}" y="{}">{}</text>').format(margin - 4, at, written))
        turned = Markup('<text transform="translate({} {})rotate(-90)">{}</text>')
        columns.append(turned.format(at, margin - 4, written))
        if number % 10 == 0 and number:
            parts.append(Markup('<path class="grid" d="M0 {0}H{1}M{0} 0V{1}"/>').format(CELL * number, side))
    cell = Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"><title>{} → {}: {} of {}</title></rect>')
    for place in np.sort(shown):
        a, p = int(actual[place]), int(predicted[place])
        told = (classes[a], classes[p], table[a, p], of[a])
        parts.append(cell.format(shades[a][p], CELL * p, CELL * a, CELL, CELL, *told))
    drawing = Markup('<svg class="{}" aria-hidden="true" viewBox="0 0 {} {}">{}</svg>')
    sizes = {"columns": (side, margin, columns), "rows": (margin, side, rows), "plates": (side, side, parts)}
    drawings = [drawing.format(kind, *size, Markup("").join(own)) for kind, (*size, own) in sizes.items()]
    frame = Markup(
        '<div class="matrix" role="img" aria-label="{}" style="width:{}px;grid-template-columns:{}fr {}fr">'
    )
    head = frame.format(name, margin + side, margin, side) + Markup('<span class="corner"></span>')
    return head + Markup("").join(drawings) + Markup("</div>"), len(order) - len(shown)


def _rows(table: Table, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return for each class with test images how many, how many are right, and what the others were taken for."""
    found, whole = [], cells(table)
    ends = np.searchsorted(whole.actual, np.arange(len(classes) + 1))
    for number, (first, last) in enumerate(pairwise(ends.tolist())):
        taken_for, images = whole.predicted[first:last], whole.images[first:last]
        order = np.argsort(-images, kind="stable")
        if len(images):
            own = zip(taken_for[order].tolist(), images[order].tolist(), strict=True)
            found.append(
                {
                    "name": classes[number],
                    "images": int(images.sum()),
                    "right": int(images[taken_for == number].sum()),
                    "taken": [(classes[p], count) for p, count in own if p != number],
                }
            )
    return found


def most_mistaken(rows: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """Return the rows of the classes with the most mistakes, at most so many, in the order they have."""
    worst = sorted(range(len(rows)), key=lambda place: rows[place]["right"] - rows[place]["images"])[:most]
    return [rows[place] for place in sorted(worst)]


def _pairs(table: Table, classes: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {**pair, "actual": classes[pair["actual"]], "predicted": classes[pair["predicted"]]}
        for pair in confused(table, PAIRS)
    ]


def shortened(name: str, most: int) -> str:
    """Return a name of at most so many characters, without its middle: names of classes often begin alike."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-((most - 1) // 2) :]}"
