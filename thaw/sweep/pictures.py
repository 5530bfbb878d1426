"""The pictures of a sweep's page: the effect of each parameter, the surface of rate × depth, cost against accuracy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from thaw.evaluation import pictures
from thaw.sweep.ranking import Ranked, Ranking

RATE, DEPTH = "phase2.learning_rate", "phase2.unfreeze"
MOST_CHARACTERS = 40  # of all names beside each other under a picture
NOISE, BEYOND, PROPOSED = "#2563a8", "#b9c4d3", "#b0482f"


def effects(ranked: Ranking, swept: Sequence[str], given: Sequence[dict[str, str]], path: Path) -> bool:
    """Draw each trial's accuracy by the values of each parameter, and the mean of those that share a value."""
    varied = [key for key in swept if len({values.get(key) for values in given}) > 1]
    if not varied:
        return False
    with pictures.plain_style():
        figure = Figure(figsize=(4.2 * len(varied), 3.2), dpi=pictures.DPI, layout="constrained")
        for axes, key in zip(np.atleast_1d(figure.subplots(1, len(varied), sharey=True)), varied, strict=True):
            names = _ordered([values.get(key, "") for values in given])
            numbers = [number for name in names if (number := _number(name)) is not None]
            places = numbers if len(numbers) == len(names) > 6 else list(range(len(names)))
            at = dict(zip(names, places, strict=True))
            for each, values in zip(ranked.trials, given, strict=True):
                axes.plot(at[values.get(key, "")], each.accuracy, "o", color=_colour(each, ranked), markersize=5)
            means = [
                np.mean([e.accuracy for e, v in zip(ranked.trials, given, strict=True) if v.get(key, "") == name])
                for name in names
            ]
            if places is numbers:
                _numbers(axes, numbers)
            else:
                axes.plot(places, means, color=pictures.TRAIN, linewidth=1.4, zorder=0)
                _names(axes, names)
            axes.set_xlabel(key)
            _plain(axes)
        figure.axes[0].set_ylabel("validation accuracy")
        pictures.save(figure, path)
    return True


def surface(ranked: Ranking, swept: Sequence[str], given: Sequence[dict[str, str]], path: Path) -> bool:
    """Draw the accuracy over rate × depth: a table of colours for a grid, points where a sampler chose."""
    if not {RATE, DEPTH} <= set(swept):
        return False
    rates, depths = (_ordered([values[key] for values in given]) for key in (RATE, DEPTH))
    cells: dict[tuple[int, int], list[float]] = {}
    for each, values in zip(ranked.trials, given, strict=True):
        cells.setdefault((depths.index(values[DEPTH]), rates.index(values[RATE])), []).append(each.accuracy)
    with pictures.plain_style():
        figure = Figure(figsize=(6.4, 3.6), dpi=pictures.DPI, layout="constrained")
        axes = figure.subplots()
        if len(cells) * 2 >= len(rates) * len(depths):
            table = np.full((len(depths), len(rates)), np.nan)
            for cell, found in cells.items():
                table[cell] = np.mean(found)
                axes.text(cell[1], cell[0], f"{table[cell]:.1%}", ha="center", va="center", fontsize=8)
            drawn: Any = axes.imshow(table, cmap="Blues", aspect="auto", alpha=0.5, origin="lower")
            _names(axes, rates)
        else:
            places = [float(values[RATE]) for values in given]
            rows = [depths.index(values[DEPTH]) for values in given]
            drawn = axes.scatter(places, rows, c=[each.accuracy for each in ranked.trials], cmap="viridis", s=45)
            _numbers(axes, places)
        axes.set_yticks(range(len(depths)), depths)
        axes.set_xlabel(RATE)
        axes.set_ylabel(DEPTH)
        figure.colorbar(drawn, label="validation accuracy").outline.set_visible(False)
        pictures.save(figure, path)
    return True


def cost(ranked: Ranking, swept: Sequence[str], given: Sequence[dict[str, str]], path: Path) -> bool:
    """Draw the accuracy with its interval against the trial's seconds."""
    timed = [each for each in ranked.trials if each.seconds < float("inf")]
    if not timed:
        return False
    with pictures.plain_style():
        figure = Figure(figsize=(6.4, 3.4), dpi=pictures.DPI, layout="constrained")
        axes = figure.subplots()
        for each in timed:
            colour = _colour(each, ranked)
            axes.plot([each.seconds] * 2, [each.low, each.high], color=colour, linewidth=1, alpha=0.6)
            axes.plot(each.seconds, each.accuracy, "o", color=colour, markersize=6)
        for colour, label in ((PROPOSED, "proposed"), (NOISE, "within noise of the most accurate"), (BEYOND, "worse")):
            axes.plot([], [], "o", color=colour, label=label)
        axes.legend(frameon=False, fontsize=8)
        axes.set_xlabel("seconds of the trial")
        axes.set_ylabel("validation accuracy")
        _plain(axes)
        pictures.save(figure, path)
    return True


def _colour(each: Ranked, ranked: Ranking) -> str:
    return PROPOSED if each is ranked.proposed else NOISE if each.within_noise else BEYOND


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e7ec", linewidth=0.7)
    axes.set_axisbelow(True)


def _numbers(axes: Axes, places: Sequence[float]) -> None:
    """Make room for numbers of any size, and write them as people do: math is not parsed, since names may hold a $."""
    wide = 0 < 10 * min(places) <= max(places)  # on a logarithmic axis zero has no place
    axes.set_xscale("log" if wide else "linear")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)) if wide else MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _names(axes: Axes, names: Sequence[str]) -> None:
    """Return one place for each, slanted where they would touch."""
    slanted = sum(map(len, names)) > MOST_CHARACTERS
    axes.set_xticks(range(len(names)), names, rotation=30 if slanted else 0, ha="right" if slanted else "center")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _ordered(values: Sequence[str]) -> list[str]:
    """Return each value once: numbers by size, then words."""

    def place(text: str) -> tuple[bool, float, str]:
        number = _number(text)
        return number is None, number or 0.0, text

    return sorted(set(values), key=place)
