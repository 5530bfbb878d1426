"""The model card in Markdown (Mitchell et al. 2019, arXiv:1810.03993): the usual sections, filled from the records.

What no record knows, such as what the model is meant for, is left to its author and said to be open. The block at the
top is metadata as the hubs of models read it.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from thaw import paths, records
from thaw.evaluation import fine_tuning, page

WEAKEST = 5  # classes that are named
OPEN = "*To be written by who passes the model on: no record knows it.*"
FIGURES = (
    ("Accuracy", "accuracy"),
    ("Balanced accuracy", "balanced_accuracy"),
    ("Macro F1", "macro_f1"),
    ("Calibration error (ECE)", "ece"),
)


def write() -> None:
    """Write the card of what was evaluated, from the records on disk."""
    records.write_text(paths.MODEL_CARD, text())


def text() -> str:
    """Return the card: Markdown that the same records give to the byte. Names of classes may be anybody's."""
    evaluation = records.read_json(paths.metrics("evaluate"))
    params = records.read_json(paths.CONFIGURATION)
    verdict = records.read_json(paths.VERDICT) if paths.VERDICT.is_file() else {}
    ship = verdict.get("ship", "phase2")
    kept = fine_tuning.kept_start(records.read_json(paths.metrics("phase2_finetune")))
    parts = [
        _metadata(evaluation[ship]),
        f"# {_plain(params['backbone']['name'])}, fine-tuned in two phases",
        *_details(params, ship),
        "## Intended use",
        OPEN,
        *_data(params),
        *_evaluation(evaluation, verdict, ship, params["evaluate"]["confidence"], kept=bool(kept)),
        *_limits(evaluation, ship),
        "## Ethical considerations",
        OPEN,
        "## How to reproduce",
        f"`{paths.REPORT.name}` beside this file has the exact configuration, the versions and the commands.",
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(figures: Mapping[str, Any]) -> str:
    metrics = [
        {"type": name, "value": round(figures[name], 4)} for name in ("accuracy", "macro_f1") if name in figures
    ]
    task = {"type": "image-classification"}
    result = {"task": task, "dataset": {"name": "held-out test", "type": "imagefolder"}, "metrics": metrics}
    record = {
        "library_name": "keras",
        "pipeline_tag": task["type"],
        "model-index": [{"name": "classifier", "results": [result]}],
    }
    return f"---\n{yaml.safe_dump(record, sort_keys=False)}---"


def _details(params: Mapping[str, Any], ship: str) -> list[str]:
    image, trained = params.get("image", {}), records.read_json(paths.metrics("phase2_finetune"))
    backbone, phases = params["backbone"], {"phase1": "phase 1, the head on the frozen backbone"}
    lines = [
        f"- Backbone: {_plain(backbone['name'])}, pretrained weights `{_code(backbone['weights'])}`",
        f"- Head: {_plain(', '.join(f'{key} {value}' for key, value in params['head'].items()))}",
        f"- Model of this card: {phases.get(ship, 'phase 2, fine-tuned')}",
    ]
    if image:
        lines.append(f"- Input: RGB, {image['size']} × {image['size']} pixels, fitted by `{image['fit']}`")
    if trained.get("boundary"):
        lines.append(f"- Unfrozen in phase 2: {_plain(str(trained['boundary']))}")
    kept = fine_tuning.kept_start(trained)
    return ["## Model details", "\n".join(lines), *([kept] if kept else [])]


def _data(params: Mapping[str, Any]) -> list[str]:
    prepared = records.read_json(paths.metrics("prepare"))
    classes = records.read_json(paths.CLASSES)["classes"]
    splits = prepared.get("splits", {})
    counts = "\n".join(f"| {name} | {of['images']:,} | {of['source']} |" for name, of in splits.items())
    named = ", ".join(map(_plain, classes[:50])) + (f" and {len(classes) - 50:,} more" if len(classes) > 50 else "")
    return [
        "## Training data",
        f"{prepared['images']:,} images of {len(classes):,} classes from `{_code(params['data']['raw'])}`: {named}.",
        f"| split | images | how |\n|---|---|---|\n{counts}",
        f"What the images show, who took them and what they may be used for: {OPEN}",
    ]


def _evaluation(
    evaluation: Mapping[str, Any], verdict: Mapping[str, Any], ship: str, confidence: float, *, kept: bool
) -> list[str]:
    tested = evaluation[ship]
    rows = [
        f"| {name} | " + " | ".join(page.percent(evaluation[phase][key]) for phase in paths.PHASES) + " |"
        for name, key in FIGURES
        if key in tested
    ]
    low, high = page.percent(tested["accuracy_low"]), page.percent(tested["accuracy_high"])
    accuracy = (
        f"The accuracy is {page.percent(tested['accuracy'])}, {low} to {high} ({100 * confidence:g} % interval)."
    )
    units = f", {tested['units']:,} of them independent" if tested["units"] < tested["images"] else ""
    return [
        "## Evaluation",
        *([_plain(verdict["text"])] if verdict else []),
        f"On {tested['images']:,} held-out test images{units}. {accuracy}",
        fine_tuning.chosen_by_test(same=kept),
        "| metric | phase 1 | phase 2 |\n|---|---|---|\n" + "\n".join(rows),
    ]


def _limits(evaluation: Mapping[str, Any], ship: str) -> list[str]:
    lines = [f"- {_plain(line)}" for line in evaluation.get("warnings", [])]
    rows = [row for row in records.read_csv(paths.PER_CLASS) if row["phase"] == ship and row["f1"]]
    weakest = sorted(rows, key=lambda row: float(row["f1"]))[:WEAKEST]
    lines.append(
        "- Weakest classes by F1: "
        + ", ".join(f"{_plain(row['class'])} {page.percent(float(row['f1']))}" for row in weakest)
    )
    lines += _calibration(records.read_json(paths.CALIBRATION) if paths.CALIBRATION.is_file() else {})
    corrupted = records.read_csv(paths.ROBUSTNESS) if paths.ROBUSTNESS.is_file() else []
    own = [row for row in corrupted if row["phase"] == ship and row["severity"] == "all" != row["corruption"]]
    if own:
        worst = min(own, key=lambda row: float(row["accuracy"]))
        share = page.percent(float(worst["accuracy"]))
        lines.append(f"- Weakest corruption: {_plain(worst['corruption'])} over all severities, accuracy {share}")
    lines.append("- Images unlike those that it was trained and tested on: the figures say nothing of them.")
    return ["## Limits", "\n".join(lines)]


def _calibration(record: Mapping[str, Any]) -> list[str]:
    if not {"before", "after"} <= set(record):
        return []
    before, after = (page.percent(record[when]["ece"]) for when in ("before", "after"))
    return [f"- Calibration error on the test images: {before} as trained, {after} after temperature scaling"]


def _plain(text: str) -> str:
    """Return text that Markdown and HTML take as it is: their signs are escaped, and it stays on its line."""
    line = " ".join(str(text).split())
    for sign in "&\\`*_{}[]<>#|!~$":
        line = line.replace(sign, f"\\{sign}" if sign not in "<>&" else {"<": "&lt;", ">": "&gt;", "&": "&amp;"}[sign])
    return line


def _code(text: str) -> str:
    """Return text that stays within its code span."""
    return " ".join(str(text).split()).replace("`", "'")
