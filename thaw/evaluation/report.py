"""The report of the test: one self-contained HTML page with curves; the same input gives the same bytes."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thaw import records
from thaw.evaluation import page
from thaw.evaluation.pictures import PHASES, PICTURED_CLASSES, inline

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
    text = page.template("report.html").render(
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
            "values": [page.percent(x[key]) if share else f"{x[key]:.3f}" for x in (before, after)],
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
