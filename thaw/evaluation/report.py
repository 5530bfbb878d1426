"""The report of the test: one self-contained HTML page with curves; the same input gives the same bytes."""

import base64
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from thaw import records

PHASES = {"phase1": "Phase 1", "phase2": "Phase 2"}
PHASE_NOTES = {"phase1": "head on the frozen backbone", "phase2": "top of the backbone unfrozen"}

# The metrics of a phase in the order of the page: key, name, whether it is a share, what to know of it.
FIGURES = (
    ("accuracy", "Accuracy", True, ""),
    ("macro_f1", "Macro F1", True, "mean over tested classes"),
    ("macro_precision", "Macro precision", True, "mean over tested classes"),
    ("macro_recall", "Macro recall", True, "mean over tested classes"),
    ("loss", "Loss", False, "cross-entropy in nats, lower is better"),
    ("ece", "Calibration error", True, "ECE, lower is better"),
    ("brier", "Brier score", False, "0 to 2, lower is better"),
)

PICTURED_CLASSES = 100  # above this the pairs most confused are shown: a matrix would be all pixels, and huge
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


def write_html(
    path: Path,
    *,
    classes: Sequence[str],
    evaluation: Mapping[str, Mapping[str, Any]],
    per_class: Mapping[str, Sequence[Mapping[str, Any]]],
    confusion_pictures: Mapping[str, Path],
    curves: Path,
    counts: Mapping[str, Mapping[str, int]],
    blocks: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    confidence: float,
    kept: str = "",
    warnings: Sequence[str] = (),
    early: str = "",
) -> None:
    """Write the report: one HTML file with its pictures inside.

    Args:
        path: of the HTML file; its folder is made if missing.
        classes: names, in the order of the labels.
        evaluation: ``phase1`` and ``phase2``, each a ``metrics.summary``, and ``difference``: ``intervals.difference``
            and ``intervals.mcnemar`` of phase 1 (a) and phase 2 (b) in one record.
        per_class: ``metrics.per_class`` of ``phase1`` and of ``phase2``, rows in the order of ``classes``.
        confusion_pictures: PNG of ``phase1`` and of ``phase2``.
        curves: PNG of the training curves.
        counts: by split, the images of each class; a class that is absent has none.
        blocks: of the backbone from the input on, rows of ``block``, ``layers``, ``parameters``, ``trained``: how
            many of them phase 2 trained, and ``computation``, 0 to 1; numbers or their text as read from CSV.
        params: the configuration, nested.
        confidence: of the intervals, and 1 less the p-value below which a difference is called one.
        kept: why phase 2's model is phase 1's, in a sentence; empty where it is not.
        warnings: what a reader of the accuracy must know, a line each.
        early: that phase 2 ended too early, in a sentence; empty where it did not.
    """
    if any(len(per_class[phase]) != len(classes) for phase in PHASES):
        lengths = " and ".join(str(len(per_class[phase])) for phase in PHASES)
        raise ValueError(f"per_class: expected a row for each of the {len(classes)} classes, received {lengths}")
    rows = [
        {"name": name, "f1_before": before["f1"], **after}
        for name, before, after in zip(classes, per_class["phase1"], per_class["phase2"], strict=True)
    ]
    text = template("report.html").render(
        classes=classes,
        evaluation=evaluation,
        verdict=kept or _verdict(evaluation["difference"], confidence),
        kept=kept,
        early=early,
        confidence=f"{100 * confidence:g}",
        phases=PHASES,
        notes=PHASE_NOTES | ({"phase2": "the same model as phase 1's"} if kept else {}),
        figures=_figures(evaluation, len(classes)),
        warnings=[f"{warning[:1].upper()}{warning[1:]}." for warning in warnings],
        per_class=sorted(rows, key=lambda row: (not row["support"], row["f1"] or 0)),
        pairs=len(classes) > PICTURED_CLASSES,
        pictures={phase: inline(confusion_pictures[phase]) for phase in PHASES},
        curves=inline(curves),
        counts=counts,
        blocks=_blocks(blocks),
        params=_flat(params),
        mixed=bool(params.get("phase2", {}).get("mixup")),
    )
    records.write_text(path, text)


def template(name: str, package: str = "thaw.evaluation") -> jinja2.Template:
    """Return the template of a page, which lies in ``package``, in the one style."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": _percent, "points": _points}
    style = resources.files("thaw.evaluation").joinpath("report.css").read_text(encoding="utf-8").rstrip()
    environment.globals["style"] = Markup(style)  # noqa: S704 -- the project's own file
    return environment.from_string(resources.files(package).joinpath(name).read_text(encoding="utf-8"))


def _figures(evaluation: Mapping[str, Mapping[str, Any]], classes: int) -> list[dict[str, Any]]:
    """Return the rows of the table of metrics: name, note and the text for each phase. Top-k of all classes is left
    out.
    """
    before, after = evaluation["phase1"], evaluation["phase2"]
    ks = sorted(int(key.split("_")[1]) for key in after if key.startswith("top_"))
    top = tuple((f"top_{k}_accuracy", f"Top-{k} accuracy", True, "") for k in ks if k < classes)
    return [
        {
            "name": name,
            "note": note,
            "values": [_percent(x[key]) if share else f"{x[key]:.3f}" for x in (before, after)],
        }
        for key, name, share, note in (*FIGURES[:1], *top, *FIGURES[1:])
    ]


def _blocks(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    numbers = [{key: row[key] if key == "block" else float(row[key]) for key in row} for row in rows]
    total = {key: sum(row[key] for row in numbers) for key in ("layers", "parameters", "trained", "computation")}
    return [*numbers, {"block": "All", **total}]


def _verdict(difference: Mapping[str, Any], confidence: float) -> str:
    """Return one sentence: what phase 2 changed, as far as this test can tell."""
    if difference["p_value"] >= 1 - confidence:
        if difference["accuracy_low"] <= 0 <= difference["accuracy_high"]:
            return "Within noise: this test can't tell the two phases apart."
        return "On the edge of noise: the interval leaves out zero, but the exact test does not rule it out."
    return "More than noise: phase 2 is " + ("better." if difference["accuracy"] > 0 else "worse.")


def _flat(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in params.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def _number(value: Any) -> float:
    return math.nan if value is None or value == "" else float(value)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _points(share: float) -> str:
    """Return a difference of shares in signed percentage points, without a negative zero."""
    return f"{round(100 * share, 1) + 0.0:+.1f}".replace("-", "−")


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
