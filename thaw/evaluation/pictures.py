"""Draw pictures with matplotlib, for MLflow and for sweeps: training curves and the confusion matrix."""

import base64
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from thaw import records
from thaw.evaluation.confusion import Cells, Table, cells, shortened

PHASES = {"phase1": "Phase 1", "phase2": "Phase 2"}
PICTURED_CLASSES = 100  # above this the pairs most confused are shown: a matrix would be all pixels, and huge
COUNTED_CLASSES = 30  # above this a cell is too small for its count
PAIRS = 30
LONGEST_LABEL = 28  # characters of a class name on a picture
DPI = 120
TRAIN, VALIDATION = "#8a94a6", "#2563a8"

# What differs from matplotlib's defaults. Any: matplotlib's stubs allow only the names of their own version.
STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],  # matplotlib ships it
    "font.size": 9.0,
    "text.parse_math": False,  # a class may have a $ in its name
    "axes.edgecolor": "#9aa3b0",
    "axes.labelcolor": "#3b4350",
    "xtick.color": "#3b4350",
    "ytick.color": "#3b4350",
    "text.color": "#1c2430",
    "axes.linewidth": 0.8,
}


def curves_picture(histories: Mapping[str, Sequence[Mapping[str, Any]]], path: Path, *, kept: str = "") -> None:
    """Draw loss and accuracy of both phases on one epoch axis as a PNG.

    Args:
        histories: by phase in order of time, a row per epoch: ``epoch`` from 1 in each phase, ``loss``, ``accuracy``,
            ``val_loss``, ``val_accuracy``; numbers or their text as read from CSV. A missing value leaves a gap.
        path: of the PNG; its folder is made if missing.
        kept: why phase 2's model is phase 1's, if it is; then the picture says that phase 2 was not kept.
    """
    with plain_style():
        figure = Figure(figsize=(9, 3.2), dpi=DPI, layout="constrained")
        for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            before = 0
            for phase, rows in histories.items():
                if not rows:
                    continue
                epochs = [before + int(row["epoch"]) for row in rows]
                for key, label, colour in ((name, "train", TRAIN), (f"val_{name}", "validation", VALIDATION)):
                    values = [_number(row.get(key)) for row in rows]
                    first = label if before == 0 else None  # one entry in the legend for both phases
                    axes.plot(epochs, values, color=colour, label=first, linewidth=1.6, marker="o", markersize=2.8)
                if before:
                    axes.axvline(before + 0.5, color="#b0482f", linewidth=1, linestyle=(0, (4, 3)))
                place, title = (before + 0.5, 1.02), PHASES.get(phase, phase)
                title += ", not kept" if kept and phase == "phase2" else ""
                axes.text(*place, title, transform=axes.get_xaxis_transform(), fontsize=8)
                before = max(epochs)
            axes.set_xlim(0.5, max(before, 1) + 0.5)
            axes.set_xlabel("epoch")
            axes.set_ylabel(name)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="#e4e7ec", linewidth=0.7)
            axes.set_axisbelow(True)
            if before:
                axes.legend(frameon=False, fontsize=8)
        save(figure, path)


def confusion_picture(confusion: Table, classes: Sequence[str], title: str, path: Path) -> None:
    """Draw a confusion matrix as a PNG: the colour is the share of the row, the number the images.

    The colour goes with the square root of the share, so that a mistake made once in a hundred can be seen. Counts
    are written up to ``COUNTED_CLASSES`` classes; an empty cell is a zero. Above ``PICTURED_CLASSES`` the picture has
    the ``PAIRS`` pairs most confused instead, so its size does not grow with the classes.

    Args:
        confusion: counts, rows actual, columns predicted.
        classes: names, in the order of the rows.
        title: above the picture.
        path: of the PNG; its folder is made if missing.
    """
    n = len(classes)
    shape = (confusion.classes,) * 2 if isinstance(confusion, Cells) else np.asarray(confusion).shape
    if n == 0 or shape != (n, n):
        raise ValueError(f"confusion: expected shape ({n}, {n}) for {n} classes, received {shape}")
    if n > PICTURED_CLASSES or isinstance(confusion, Cells):
        return _pairs_picture(cells(confusion), classes, title, path)
    counts = np.asarray(confusion)
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


def _pairs_picture(counts: Cells, classes: Sequence[str], title: str, path: Path) -> None:
    """Draw the pairs of classes most confused as bars, those of the most images first."""
    mistaken = counts.actual != counts.predicted
    actual, predicted, images = (each[mistaken] for each in (counts.actual, counts.predicted, counts.images))
    first = np.argsort(-images, kind="stable")[:PAIRS]
    names = [f"{_short(classes[actual[i]])} → {_short(classes[predicted[i]])}" for i in first]
    with plain_style():
        figure = Figure(figsize=(5, 0.6 + 0.22 * max(len(names), 1)), dpi=DPI)
        axes = figure.add_axes((0, 0, 1, 1))
        bars = axes.barh(range(len(names)), images[first], color=VALIDATION, height=0.6)
        shares = images[first] / np.maximum(counts.of()[actual[first]], 1)
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
    return shortened(name, LONGEST_LABEL)


def _write_counts(axes: Axes, counts: NDArray[np.integer[Any]], colours: NDArray[np.float64]) -> None:
    """Write every count but zero, in black or white, whichever stands out more from its cell (sRGB luminance)."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    luminance = linear[..., :3] @ np.array([0.2126, 0.7152, 0.0722])
    size = 8.5 if counts.max() < 10_000 else 6.0
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if luminance[row, column] < 0.179 else "#10161f"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=size)


def _number(value: Any) -> float:
    return math.nan if value is None or value == "" else float(value)


def inline(picture: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode("ascii")


@contextmanager
def plain_style() -> Iterator[None]:
    # A glyph that the font lacks is drawn as a box; the page beside the picture has the name in full.
    with warnings.catch_warnings(), matplotlib.rc_context():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()  # a user's own settings must not change the bytes
        matplotlib.rcParams.update(STYLE)
        yield


def save(figure: Figure, path: Path) -> None:
    with records.replaced(path) as part:
        figure.savefig(part, format="png", bbox_inches="tight", pad_inches=0.1, metadata={"Software": None})
