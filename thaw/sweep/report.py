"""``thaw sweep-report``: compare the trials of a sweep, as text and as one HTML page.

Intervals, the effect of each parameter, the surface of rate × depth, cost against accuracy, and what is proposed.
"""

import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from thaw import console, paths, records
from thaw.evaluation import report
from thaw.sweep import ranking, results
from thaw.sweep.ranking import Ranked, Ranking

FILE = "report.html"
RATE, DEPTH = "phase2.learning_rate", "phase2.unfreeze"
MOST_CHARACTERS = 40  # of all names beside each other under a picture
NOISE, BEYOND, PROPOSED = "#2563a8", "#b9c4d3", "#b0482f"


def add(commands: Any) -> None:
    """Add ``sweep-report`` to the command ``thaw``."""
    command = commands.add_parser("sweep-report", help="compare the trials of a sweep, and propose one")
    command.add_argument("sweep", nargs="?", type=Path, help="its folder (default: the sweep that ran last)")
    command.add_argument(
        "--margin",
        type=float,
        default=ranking.MARGIN,
        help="accuracy that a simpler trial may lose to be proposed (default: %(default)s, which is a point)",
    )
    command.set_defaults(run=lambda options: _show(options.sweep or latest(), options.margin))


def latest() -> Path:
    """Return the folder of the sweep that ran last.

    Raises:
        ValueError: none has.
    """
    found = sorted(paths.SWEEPS.glob("*/plan.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ValueError(f"expected a sweep in {paths.SWEEPS}, found none; run `python -m thaw.sweep` first")
    return found[-1].parent


def _show(folder: Path, margin: float) -> None:
    ranked = write(folder, margin)
    print("\n".join([*_lines(ranked), verdict(ranked), f"→ {folder / FILE}"]))


def write(folder: Path, margin: float = ranking.MARGIN) -> Ranking:
    """Write the page into the sweep's folder.

    Args:
        margin: how much less accurate than the best a simpler trial may be to be proposed, 0 to 1.

    Raises:
        ValueError: there is no sweep in the folder, or no trial of it is finished.
    """
    if not (folder / "plan.json").is_file():
        raise ValueError(f"expected a sweep's folder, as those in {paths.SWEEPS}, received {folder}")
    swept = list(records.read_json(folder / "plan.json")["swept"])
    trials = results.read(folder)
    failed = [record for record in trials if record["failure"]]
    ranked = ranking.rank([record for record in trials if not record["failure"]], margin)
    given = [results.given(each.record) for each in ranked.trials]
    with tempfile.TemporaryDirectory() as scratch:
        pictures = {}
        for name, draw in (("effects", _effects), ("surface", _surface), ("cost", _cost)):
            path = Path(scratch) / f"{name}.png"
            if draw(ranked, swept, given, path):
                pictures[name] = report.inline(path)
    text = report.template("report.html", "thaw.sweep").render(
        name=folder.name,
        swept=swept,
        ranked=ranked,
        rows=list(zip(ranked.trials, given, strict=True)),
        failed=failed,
        pictures=pictures,
        verdict=verdict(ranked),
        margin=_points(margin),
        confidence=f"{100 * ranking.CONFIDENCE:g}",
        promote=f"thaw promote {shlex.quote(ranked.proposed.record['name'])}",
    )
    (folder / FILE).write_text(text, encoding="utf-8", newline="\n")
    return ranked


def verdict(ranked: Ranking) -> str:
    """Return what is proposed and why, in a sentence or two."""
    same, others = sum(each.within_noise for each in ranked.trials), len(ranked.trials) - 1
    how = "on the same validation images" if ranked.paired else "by their intervals"
    if 0 < ranked.paired < others:
        how += f" ({others - ranked.paired} of {others} by their intervals)"
    proposed, best = ranked.proposed, ranked.best
    which = f"{proposed.record['label']} (validation accuracy {proposed.accuracy:.1%}, {proposed.thawed})"
    if not others:
        return f"Proposed: {which}, the only one that is finished."
    if same == 1:
        return f"Proposed: {which}, the most accurate. All others are worse by more than noise, {how}."
    if proposed is best:
        rest = f"{same - 1} {'other' if same == 2 else 'others'} cannot be told from it"
        return f"Proposed: {which}, the most accurate. {rest}, {how}.{_open(ranked)}"
    close = sum(each is best or each.behind <= ranked.margin for each in ranked.trials)
    among = f"the simplest of {close} trials that are at most {_points(ranked.margin)} less accurate than any other"
    most = f" (the most accurate: {best.record['label']}, {best.accuracy:.1%})"
    why = "fewest unfrozen layers, then least time, then lowest loss"
    return f"Proposed: {which}, {among}{most}, {how}: {why}.{_open(ranked)}"


def _open(ranked: Ranking) -> str:
    """Return what the images cannot tell of simpler trials, in a sentence; empty if they tell all."""
    simpler = ranked.unresolved
    if not simpler:
        return ""
    images, count = ranked.best.images, ranked.units
    apart = f" ({count:,} independent units)" if count < images else ""
    least = min(each.behind for each in simpler)
    return (
        f" Of these {len(simpler)} would be simpler, but {images:,} validation images{apart} cannot show that one is "
        f"at most {_points(ranked.margin)} less accurate: the closest may be {_points(least)}."
    )


def _points(share: float) -> str:
    return f"{100 * share:.3g} point{'' if share == 0.01 else 's'}"


def _lines(ranked: Ranking) -> list[str]:
    lines = ["* proposed, = cannot be told from the most accurate"]
    for each in ranked.trials:
        mark = "*" if each is ranked.proposed else "=" if each.within_noise else " "
        cost = "" if each.seconds == float("inf") else f"  {console.duration(each.seconds)}"
        figures = (
            f"{each.accuracy:.1%} ({each.low:.1%} to {each.high:.1%})  loss {each.record['figures']['val_loss']:.4f}"
        )
        lines.append(f"{mark} {figures}{cost}  {each.record['label']}  {each.record['name'][-8:]}")
    return lines


def _effects(ranked: Ranking, swept: Sequence[str], given: Sequence[dict[str, str]], path: Path) -> bool:
    """Plot each trial's accuracy by the values of each parameter, and the mean of those that share a value."""
    varied = [key for key in swept if len({values.get(key) for values in given}) > 1]
    if not varied:
        return False
    with report.plain_style():
        figure = Figure(figsize=(4.2 * len(varied), 3.2), dpi=report.DPI, layout="constrained")
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
                axes.plot(places, means, color=report.TRAIN, linewidth=1.4, zorder=0)
                _names(axes, names)
            axes.set_xlabel(key)
            _plain(axes)
        figure.axes[0].set_ylabel("validation accuracy")
        report.save(figure, path)
    return True


def _surface(ranked: Ranking, swept: Sequence[str], given: Sequence[dict[str, str]], path: Path) -> bool:
    """Plot accuracy over learning rate × depth: a table of colours for a grid, points where a sampler chose."""
    if not {RATE, DEPTH} <= set(swept):
        return False
    rates, depths = (_ordered([values[key] for values in given]) for key in (RATE, DEPTH))
    cells: dict[tuple[int, int], list[float]] = {}
    for each, values in zip(ranked.trials, given, strict=True):
        cells.setdefault((depths.index(values[DEPTH]), rates.index(values[RATE])), []).append(each.accuracy)
    with report.plain_style():
        figure = Figure(figsize=(6.4, 3.6), dpi=report.DPI, layout="constrained")
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
        report.save(figure, path)
    return True


def _cost(ranked: Ranking, swept: Sequence[str], given: Sequence[dict[str, str]], path: Path) -> bool:
    """Plot accuracy with its interval against the trial's seconds."""
    timed = [each for each in ranked.trials if each.seconds < float("inf")]
    if not timed:
        return False
    with report.plain_style():
        figure = Figure(figsize=(6.4, 3.4), dpi=report.DPI, layout="constrained")
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
        report.save(figure, path)
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
    """Set one tick for each name, slanted where they would touch."""
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
