"""``thaw sweep-report``: compare the trials of a sweep, as text and as one HTML page.

Intervals, the effect of each parameter, the surface of rate × depth, cost against accuracy, and what is proposed.
"""

import argparse
import json
import shlex
import tempfile
from pathlib import Path
from typing import Any

from thaw import console, paths
from thaw.evaluation import page
from thaw.evaluation.pictures import inline
from thaw.sweep import pictures, ranking, results
from thaw.sweep.plan import SweepPlan
from thaw.sweep.ranking import Ranking

FILE = "report.html"
EXAMPLES = """\
examples:
  thaw sweep-report
  thaw sweep-report --margin 0.005                     # a simpler trial may lose half a point
  thaw sweep-report .thaw/sweeps/learning_rate-0123abcd
  thaw sweep-report --json"""


def add(commands: Any) -> None:
    """Add ``sweep-report`` to the command ``thaw``."""
    command = commands.add_parser(
        "sweep-report",
        help="compare the trials of a sweep, and propose one",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("sweep", nargs="?", type=Path, help="its folder (default: the sweep that ran last)")
    command.add_argument(
        "--margin",
        type=float,
        default=ranking.MARGIN,
        help="accuracy that a simpler trial may lose to be proposed (default: %(default)s, which is a point)",
    )
    command.add_argument("--json", action="store_true", help="the trials, what is proposed and why, as JSON")
    command.set_defaults(run=_show)


def latest() -> Path:
    """Return the folder of the sweep that ran last.

    Raises:
        ValueError: none has.
    """
    found = sorted(paths.SWEEPS.glob(f"*/{results.PLAN}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ValueError(f"expected a sweep in {paths.SWEEPS}, found none; run `thaw sweep` first")
    return found[-1].parent


def _show(options: argparse.Namespace) -> None:
    folder = options.sweep or latest()
    ranked = write(folder, options.margin)
    if options.json:
        print(json.dumps(told(folder, ranked), indent=2))
    else:
        print("\n".join([*_lines(ranked), verdict(ranked), f"→ {folder / FILE}"]))


def told(folder: Path, ranked: Ranking) -> dict[str, Any]:
    """Return the comparison for a script: each trial, the lowest loss first, and what is proposed.

    Args:
        folder: of the sweep.
        ranked: its finished trials.
    """
    swept = list(SweepPlan.of(folder).swept)
    trials = [
        {
            "name": each.record.name,
            "label": each.record.label,
            "swept": {key: each.record.given.get(key) for key in swept},
            "val_accuracy": each.accuracy,
            "val_accuracy_low": each.low,
            "val_accuracy_high": each.high,
            "val_loss": each.record.measured.val_loss,
            "best_epoch": each.record.measured.best_epoch,
            "layers": each.layers,
            "seconds": each.record.seconds,
            "proposed": each is ranked.proposed,
            "within_noise": each.within_noise,
            "p_value": each.p_value,
        }
        for each in ranked.trials
    ]
    failed = [each for each in results.read(folder) if each.failure]
    return {
        "sweep": folder.name,
        "proposed": ranked.proposed.record.name,
        "verdict": verdict(ranked),
        "margin": ranked.margin,
        "trials": trials,
        "failed": [{"name": each.name, "label": each.label, "failure": each.failure} for each in failed],
        "report": str(folder / FILE),
    }


def write(folder: Path, margin: float = ranking.MARGIN) -> Ranking:
    """Write the page into the sweep's folder.

    Args:
        margin: how much less accurate than the best a simpler trial may be to be proposed, 0 to 1.

    Raises:
        ValueError: there is no sweep in the folder, or no trial of it is finished.
    """
    swept, trials = list(SweepPlan.of(folder).swept), results.read(folder)
    ranked = ranking.rank([each for each in trials if not each.failure], margin)
    given = [each.record.given for each in ranked.trials]
    with tempfile.TemporaryDirectory() as scratch:
        drawn = {}
        for draw in (pictures.effects, pictures.surface, pictures.cost):
            path = Path(scratch) / f"{draw.__name__}.png"
            if draw(ranked, swept, given, path):
                drawn[draw.__name__] = inline(path)
    text = page.template("report.html", "thaw.sweep").render(
        name=folder.name,
        swept=swept,
        ranked=ranked,
        rows=list(zip(ranked.trials, given, strict=True)),
        failed=[each for each in trials if each.failure],
        pictures=drawn,
        verdict=verdict(ranked),
        margin=_points(margin),
        confidence=f"{100 * ranking.CONFIDENCE:g}",
        promote=f"thaw promote {shlex.quote(ranked.proposed.record.name)}",
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
    which = f"{proposed.record.label} (validation accuracy {proposed.accuracy:.1%}, {proposed.thawed})"
    if not others:
        return f"Proposed: {which}, the only one that is finished."
    if same == 1:
        return f"Proposed: {which}, the most accurate. All others are worse by more than noise, {how}."
    if proposed is best:
        rest = f"{same - 1} {'other' if same == 2 else 'others'} cannot be told from it"
        return f"Proposed: {which}, the most accurate. {rest}, {how}.{_open(ranked)}"
    close = sum(each is best or each.behind <= ranked.margin for each in ranked.trials)
    among = f"the simplest of {close} trials that are at most {_points(ranked.margin)} less accurate than any other"
    most = f" (the most accurate: {best.record.label}, {best.accuracy:.1%})"
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
        figures = f"{each.accuracy:.1%} ({each.low:.1%} to {each.high:.1%})  loss {each.record.measured.val_loss:.4f}"
        lines.append(f"{mark} {figures}{cost}  {each.record.label}  {each.record.name[-8:]}")
    return lines
