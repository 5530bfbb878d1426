"""Draw the confusion matrix as a picture whose size stays bounded, however many classes there are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from thaw.evaluation.report import DPI, PICTURED_CLASSES, VALIDATION, plain_style, save

COUNTED_CLASSES = 30  # above this a cell is too small for its count
PAIRS = 30
LONGEST_LABEL = 28  # characters of a class name on a picture


def confusion_picture(confusion: NDArray[np.integer[Any]], classes: Sequence[str], title: str, path: Path) -> None:
    """Draw a confusion matrix as a PNG: the colour is the share of the row, the number the images.

    The colour goes with the square root of the share, so that a mistake made once in a hundred can be seen. Counts
    are written up to ``COUNTED_CLASSES`` classes; an empty cell is a zero. Above ``PICTURED_CLASSES`` the picture has
    the ``PAIRS`` pairs most confused instead, so its size does not grow with the classes.

    Args:
        confusion: (classes, classes) counts, rows actual, columns predicted.
        classes: names, in the order of the rows.
        title: above the picture.
        path: of the PNG; its folder is made if missing.
    """
    counts = np.asarray(confusion)
    n = len(classes)
    if n == 0 or counts.shape != (n, n):
        raise ValueError(f"confusion: expected shape ({n}, {n}) for {n} classes, received {counts.shape}")
    if n > PICTURED_CLASSES:
        return _pairs_picture(counts, classes, title, path)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    labels = [_short(name) for name in classes]
    side = max(3.0, n * (0.44 if n <= COUNTED_CLASSES else 0.12))  # inches
    size = 9.0 if n <= COUNTED_CLASSES else 6.5  # points, so that neighbouring labels don't touch
    with plain_style():
        figure = Figure(figsize=(side, side), dpi=DPI)
        axes = figure.add_axes((0, 0, 1, 1))
        image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
        axes.set_xticks(range(n), labels, rotation=45 if n <= COUNTED_CLASSES else 90, fontsize=size)
        axes.set_yticks(range(n), labels, fontsize=size)
        if n <= COUNTED_CLASSES:
            for label in axes.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
            _write_counts(axes, counts, image.to_rgba(shares))
        axes.tick_params(length=0)
        axes.set_xlabel("predicted")
        axes.set_ylabel("actual")
        axes.set_title(title, fontsize=11, loc="left", pad=10)
        bar = figure.add_axes((1 + 0.2 / side, 0, 0.12 / side, 1))
        figure.colorbar(image, cax=bar, label="share of the actual class").outline.set_visible(False)
        save(figure, path)
    return None


def _pairs_picture(counts: NDArray[np.integer[Any]], classes: Sequence[str], title: str, path: Path) -> None:
    """Draw the pairs of classes most confused as bars, those of the most images first."""
    actual, predicted = np.nonzero(counts)
    mistaken = actual != predicted
    actual, predicted = actual[mistaken], predicted[mistaken]
    images = counts[actual, predicted]
    first = np.argsort(-images, kind="stable")[:PAIRS]
    names = [f"{_short(classes[actual[i]])} → {_short(classes[predicted[i]])}" for i in first]
    with plain_style():
        figure = Figure(figsize=(5, 0.6 + 0.22 * max(len(names), 1)), dpi=DPI)
        axes = figure.add_axes((0, 0, 1, 1))
        bars = axes.barh(range(len(names)), images[first], color=VALIDATION, height=0.6)
        shares = images[first] / np.maximum(counts[actual[first]].sum(axis=1), 1)
        texts = [f"{count} ({share:.0%})" for count, share in zip(images[first], shares, strict=True)]
        axes.bar_label(bars, texts, padding=3)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
        axes.set_xlim(0, 1.25 * max(images[first], default=1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.tick_params(length=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("images (share of the actual class)" if names else "no mistakes")
        axes.set_title(f"{title}: actual → predicted, the most confused", fontsize=11, loc="left", pad=10)
        save(figure, path)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…"


def _write_counts(axes: Axes, counts: NDArray[np.integer[Any]], colours: NDArray[np.float64]) -> None:
    """Write every count but zero, in black or white, whichever stands out more from its cell (sRGB luminance)."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    luminance = linear[..., :3] @ np.array([0.2126, 0.7152, 0.0722])
    size = 8.5 if counts.max() < 10_000 else 6.0
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if luminance[row, column] < 0.179 else "#10161f"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=size)
