"""Write what people read of an evaluation: the report, the model card, curves for MLflow, tables for `dvc plots`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from thaw import paths, records
from thaw.evaluation import embedding_map, figures, fine_tuning, model_card, pictures, report

STAGES = {"phase1": "phase1_head", "phase2": "phase2_finetune"}


def write(params: Mapping[str, Any]) -> None:
    """Write all of them from the records of the evaluation, which are on disk.

    Args:
        params: the groups of the configuration that was evaluated. Where runs are mirrored is left out of what is
            passed on, since its address may hold a password; and so is what changes no result, such as where the cache
            lies.
    """
    shown = {name: group for name, group in params.items() if name not in ("tracking", "compute")}
    records.write_json(paths.CONFIGURATION, shown)
    histories = {phase: records.read_csv(paths.history(stage)) for phase, stage in STAGES.items()}
    trained = records.read_json(paths.metrics("phase2_finetune"))
    pictures.curves_picture(histories, paths.CURVES, kept=fine_tuning.kept_start(trained))
    if paths.EMBEDDINGS.is_file():
        embeddings = np.load(paths.EMBEDDINGS, allow_pickle=False)
        count = len(records.read_csv(paths.predictions("phase2")))
        embedding_map.write(embeddings, embedding_map.spread(count, len(embeddings)))
    _write_curves()
    report.write()
    model_card.write()


def _write_curves() -> None:
    """Write the curves that `dvc plots` draws: ROC and precision–recall by phase, reliability, coverage."""
    number = {name: index for index, name in enumerate(records.read_json(paths.CLASSES)["classes"])}
    rows: dict[str, list[dict[str, Any]]] = {"roc": [], "pr": []}
    for phase in STAGES:
        labels = np.array([number[row["label"]] for row in records.read_csv(paths.predictions(phase))])
        found = figures.ranking(np.load(paths.probabilities(phase), mmap_mode="r", allow_pickle=False), labels)
        rows["roc"] += [{"phase": phase, "false_positive_rate": x, "true_positive_rate": y} for x, y in found["roc"]]
        rows["pr"] += [{"phase": phase, "recall": x, "precision": y} for x, y in found["pr"]]
    calibration = records.read_json(paths.CALIBRATION) if paths.CALIBRATION.is_file() else {}
    rows["reliability"] = [
        {"when": when, **{name: row[name] for name in ("confidence", "accuracy", "count")}}
        for when, bins in calibration.get("reliability", {}).items()
        for row in bins
        if row["count"]
    ]
    rows["coverage"] = [
        {name: row[name] for name in ("coverage", "accuracy")} for row in calibration.get("coverage", ())
    ]
    columns = {
        "roc": ("phase", "false_positive_rate", "true_positive_rate"),
        "pr": ("phase", "recall", "precision"),
        "reliability": ("when", "confidence", "accuracy", "count"),
        "coverage": ("coverage", "accuracy"),
    }
    for name, those in columns.items():
        records.write_csv(paths.EVALUATION / f"{name}.csv", those, rows[name])
