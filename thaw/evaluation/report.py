"""The report of the test: one self-contained HTML page, from what lies on disk; the same files give the same bytes.

A section is there where its data is. ``thaw report`` writes the page with what was exported, and opens it.
"""

import argparse
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from markupsafe import Markup

from thaw import paths, records
from thaw.evaluation import confusion, embedding_map, figures, fine_tuning, page
from thaw.evaluation import exported as exported_formats

PHASES = {"phase1": "Phase 1", "phase2": "Phase 2"}
OUTPUT = Path("models/report.html")  # of `thaw report`; models/evaluate is DVC's
MOST_ROWS = 200  # of a table that may be of any length; the files have all
CLASS_ROWS = 1000  # of a table with a row a class: ten thousand make a page of 9 MB, which takes a browser seconds
MANY = 0.1  # share of labels suspected above which the page says that most of these are the model's own mistakes
SHARE, SCORE = "share", "score"

# The metrics of a phase in the order of the page: key, name, how it is written, what to know of it.
METRICS = (
    ("accuracy", "Accuracy", SHARE, ""),
    ("balanced_accuracy", "Balanced accuracy", SHARE, "mean recall of tested classes"),
    ("macro_f1", "Macro F1", SHARE, "mean over tested classes"),
    ("weighted_f1", "Weighted F1", SHARE, "mean weighted by images"),
    ("macro_precision", "Macro precision", SHARE, "mean over tested classes"),
    ("macro_recall", "Macro recall", SHARE, "mean over tested classes"),
    ("roc_auc", "ROC AUC", SCORE, "mean over classes, each against the others"),
    ("pr_auc", "PR AUC", SCORE, "average precision, mean over classes"),
    ("mcc", "Matthews correlation", SCORE, "−1 to 1"),
    ("kappa", "Cohen's kappa", SCORE, "0 is chance, 1 agreement"),
    ("loss", "Log loss", SCORE, "cross-entropy in nats, lower is better"),
    ("brier", "Brier score", SCORE, "0 to 2, lower is better"),
    ("ece", "Calibration error", SHARE, "ECE, lower is better"),
)
FINDINGS = (
    ("images", "images that can be used"),
    ("refused", "files left out, listed with reasons"),
    ("duplicates", "images with the same bytes as another"),
    ("label_conflicts", "images with the same bytes and two labels"),
    ("near_leaks", "near-duplicates in two splits"),
    ("group_leaks", "groups in two splits"),
    ("linked_leaks", "images in two splits by way of others"),
)


def add(commands: Any) -> None:
    """Add ``report`` to the command ``thaw``."""
    command = commands.add_parser("report", help="write the report of the test with the exports, and open it")
    command.add_argument("--output", type=Path, default=OUTPUT, help="file to write (default: %(default)s)")
    command.add_argument("--no-browser", action="store_true", help="write it and open nothing")
    command.set_defaults(run=_show)


def _show(options: argparse.Namespace) -> None:
    write(options.output, exported=True)
    print(f"→ {options.output}")
    if not options.no_browser:
        webbrowser.open(options.output.resolve().as_uri())


def write(path: Path = paths.REPORT, *, exported: bool = False) -> None:
    """Write the report of what was evaluated.

    Args:
        path: of the HTML file; its folder is made if missing.
        exported: whether to show what was exported. The stage ``evaluate`` does not know it yet.

    Raises:
        ValueError: nothing is evaluated, or a model is another now.
    """
    if not (paths.CONFIGURATION.is_file() and paths.metrics("evaluate").is_file()):
        raise ValueError(f"{paths.CONFIGURATION}: expected what `evaluate` writes, found none; run `dvc repro` first")
    evaluation = records.read_json(paths.metrics("evaluate"))
    if not _current(evaluation):
        raise ValueError(
            f"{paths.metrics('evaluate')}: expected figures of the models that are here, found those of others; run "
            "`dvc repro`"
        )
    context = _outcome(evaluation) | _inside() | _origin(evaluation, exported=exported)
    context["data_page"] = (paths.DATA_REPORT.name if path == paths.REPORT else "") if not exported else ""
    template = page.template("report.html", script="report.js", style="report.css")
    records.write_text(path, template.render(**context))


def _current(record: Mapping[str, Any]) -> bool:
    """Return whether the files that a record was made from are still the same."""
    made_from = [(Path(each["path"]), each["sha256"]) for each in record["made_from"]]
    return all(path.is_file() and records.sha256(path) == sha256 for path, sha256 in made_from)


def _outcome(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the verdict, the baselines, the metrics and the training."""
    trained = records.read_json(paths.metrics("phase2_finetune"))
    params = records.read_json(paths.CONFIGURATION)
    stages = {"phase1": "phase1_head", "phase2": "phase2_finetune"}
    histories = {phase: records.read_csv(paths.history(stage)) for phase, stage in stages.items()}
    kept = fine_tuning.kept_start(trained)
    verdict = _json(paths.VERDICT)
    baselines = verdict.get("baselines", {})
    return {
        "evaluation": evaluation,
        "verdict": verdict,
        "baselines": [(*figures.BASELINES[name], row) for name, row in figures.ordered_baselines(baselines)],
        "baselines_chart": figures.baselines(baselines) if baselines else "",
        "left_out": [(figures.BASELINES[name][0], why) for name, why in verdict.get("left_out", {}).items()],
        "confidence": f"{100 * params['evaluate']['confidence']:g}",
        "warnings": [f"{line[:1].upper()}{line[1:]}." for line in evaluation.get("warnings", [])],
        "phases": PHASES,
        "kept": kept,
        "early": fine_tuning.early(trained),
        "chosen_by_test": fine_tuning.chosen_by_test(same=bool(kept)),
        "mixed": bool(params["phase2"].get("mixup")),
        "metrics": _metrics(evaluation),
        "curves": figures.curves(histories),
        "histories": histories,
        "trained": trained,
        "blocks": figures.blocks(records.read_csv(paths.BLOCKS)),
    }


def _metrics(evaluation: Mapping[str, Any]) -> list[tuple[str, str, list[str]]]:
    """Return the rows of the table of metrics: name, note and a text for each phase."""
    found = evaluation["phase2"]
    ks = sorted(int(key.split("_")[1]) for key in found if key.startswith("top_"))
    classes = len(records.read_json(paths.CLASSES)["classes"])
    top = tuple((f"top_{k}_accuracy", f"Top-{k} accuracy", SHARE, "") for k in ks if k < classes)
    return [
        (name, note, [_text(evaluation[phase].get(key), how) for phase in PHASES])
        for key, name, how, note in (*METRICS[:1], *top, *METRICS[1:])
        if key in found
    ]


def _text(value: float | None, how: str) -> str:
    return "–" if value is None else page.percent(value) if how == SHARE else f"{value:.3f}"


def _inside() -> dict[str, Any]:
    """Return classes, confusion, curves of the answers, calibration, mistakes, robustness and slices."""
    classes = records.read_json(paths.CLASSES)["classes"]
    answers = {phase: records.read_csv(paths.predictions(phase)) for phase in PHASES}
    matrices, ranked = {}, {}
    number = {name: index for index, name in enumerate(classes)}
    for phase, rows in answers.items():
        labels = [row["label"] for row in rows]
        counts = confusion.counts(labels, [row["predicted"] for row in rows], classes)
        matrices[phase] = confusion.matrix(counts, classes, f"Confusion matrix of {PHASES[phase].lower()}")
        matrices[phase].rows = confusion.most_mistaken(matrices[phase].rows, CLASS_ROWS)
        probabilities = np.load(paths.probabilities(phase), mmap_mode="r", allow_pickle=False)
        ranked[phase] = figures.ranking(probabilities, np.array([number[label] for label in labels]))
    calibration, slices = _json(paths.CALIBRATION), _csv(paths.SLICES)
    return {
        "classes": classes,
        "matrices": matrices,
        "most_rows": CLASS_ROWS,
        "per_class": _per_class(classes)[:CLASS_ROWS],
        "ranking": figures.ranking_charts(ranked),
        "calibration": calibration,
        "reliability": figures.reliability(calibration["reliability"]) if "reliability" in calibration else "",
        "coverage": figures.coverage(calibration["coverage"]) if calibration.get("coverage") else "",
        "inside": _json(paths.PICTURES),
        "all_mistakes": len(_csv(paths.MISTAKES)),
        "map": _map(answers[_json(paths.VERDICT).get("ship", "phase2")]),
        "explained": _json(paths.EMBEDDING_MAP).get("explained", []),
        "robustness": figures.robustness(_csv(paths.ROBUSTNESS)),
        "slices": slices[:MOST_ROWS],
        "all_slices": len(slices),
        "fewest": figures.FEWEST,
        "named": figures.NAMED,
    }


def _per_class(classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row for each class, the weakest first: images by split, and the figures of both phases."""
    rows = records.read_csv(paths.PER_CLASS)
    by_phase = {phase: [row for row in rows if row["phase"] == phase] for phase in PHASES}
    if any([row["class"] for row in own] != list(classes) for own in by_phase.values()):
        raise ValueError(f"{paths.PER_CLASS}: expected a row for each of the {len(classes)} classes; run `dvc repro`")
    images = {row["class"]: row for row in records.read_json(paths.metrics("prepare"))["per_class"]}
    found = []
    for before, after in zip(by_phase["phase1"], by_phase["phase2"], strict=True):
        own = images.get(after["class"], {})
        scores = {name: float(after[name]) if after[name] else None for name in ("precision", "recall", "f1")}
        earlier = float(before["f1"]) if before["f1"] else None
        splits = {split: own.get(split, 0) for split in paths.SPLITS}
        found.append({"name": after["class"], "images": splits, "f1_before": earlier, **scores})
    return sorted(found, key=lambda row: (row["f1"] is None, row["f1"] or 0))


def _map(rows: Sequence[Mapping[str, str]]) -> Markup | str:
    places = _json(paths.EMBEDDING_MAP)
    if not places or not any(places["explained"]):
        return ""
    return figures.embedding_map(places, rows, embedding_map.SIDE)


def _origin(evaluation: Mapping[str, Any], *, exported: bool) -> dict[str, Any]:
    """Return the data, what was exported, and all that reproduces the result."""
    params = records.read_json(paths.CONFIGURATION)
    prepared = records.read_json(paths.metrics("prepare"))
    environment = _json(paths.ENVIRONMENT)
    computed = {name: records.read_json(paths.metrics(name)) for name in ("phase1_head", "phase2_finetune")}
    export = _json(paths.metrics("export")) if exported else {}
    export = export if export and _current(export) else {}
    latencies = _json(paths.main_root() / paths.LATENCY) if export else {}
    suspected, judged = (
        len(_csv(paths.SUSPECTS)),
        sum(prepared["splits"][split]["images"] for split in ("train", "val")),
    )
    return {
        "prepared": prepared,
        "findings": [(text, prepared[key]) for key, text in FINDINGS if key in prepared],
        "suspected": suspected,
        "many_suspected": suspected / judged if suspected > MANY * judged else 0,
        "exports": exported_formats.formats(export, latencies) if export else [],
        "export": exported_formats.others(export),
        "speeds": [head for _, head, _ in exported_formats.SPEED],
        "params": list(_flat(params)),
        "raw": params["data"]["raw"],
        "experiment": "# @package _global_\n" + yaml.safe_dump(params, sort_keys=False, allow_unicode=True),
        "packages": environment.get("packages", {}),
        "computed": {
            PHASES[stage.split("_")[0]]: [
                ("device", record.get("device", {}).get("name", "")),
                ("precision", record.get("precision", "")),
                ("threads", record.get("threads", "")),
            ]
            for stage, record in computed.items()
        },
        "hashes": [
            *((each["path"], each["sha256"]) for each in evaluation["made_from"]),
            ("pretrained weights", computed["phase1_head"].get("weights_sha256", "")),
        ],
    }


def _flat(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each value with the names on the way to it; a list of records is left out."""
    for key, value in params.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif not (isinstance(value, list) and value and isinstance(value[0], Mapping)):
            yield f"{prefix}{key}", page.number(value)


def _json(path: Path) -> dict[str, Any]:
    return records.read_json(path) if path.is_file() else {}


def _csv(path: Path) -> list[dict[str, str]]:
    return records.read_csv(path) if path.is_file() else []
