"""A finished evaluation as its records on disk, of any number of classes: what the report is written from."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from thaw import paths, records
from thaw.evaluation import intervals, metrics

PICTURE = "data:image/jpeg;base64,/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAP//////////////2Q=="
PARAMS: dict[str, Any] = {
    "data": {"raw": "images", "val": 0.15, "test": 0.15},
    "backbone": {"name": "tiny<net>", "weights": "package"},
    "head": {"units": [64, 32], "dropout": [0.5, 0.3]},
    "phase2": {"mixup": 0.0, "epochs": 3},
    "evaluate": {"confidence": 0.95, "top_k": [2, 50]},
}
TRAINED = {"layers": 4, "epochs": 3, "best_epoch": 2, "device": {"name": "cpu"}, "precision": "float32", "threads": 2}


def history(epochs: int, start: float) -> list[dict[str, Any]]:
    return [
        {"epoch": e, "loss": start / e, "accuracy": 1 - 0.5 / e, "val_loss": start / e + 0.1, "val_accuracy": 0.9}
        for e in range(1, epochs + 1)
    ]


def write(
    classes: Sequence[str],
    *,
    per_class: int = 12,
    right: tuple[float, float] = (0.6, 0.9),
    units: int = 1,
    trained: dict[str, Any] | None = None,
    params: dict[str, Any] | None = None,
    warnings: Sequence[str] = (),
    untested: int = 0,
) -> None:
    """Write what the stages leave, in the current folder.

    Args:
        classes: names.
        per_class: test images of each.
        right: share of right answers of both phases.
        units: images of one independent unit.
        trained: of the record of phase 2, what is special.
        params: groups of the configuration that are special.
        warnings: lines of the record.
        untested: classes at the end of the list that have no test images.
    """
    random = np.random.default_rng(0)
    n = len(classes)
    labels = np.repeat(np.arange(n - untested), per_class)
    names = [f"{classes[label]}/{number:05}.png" for number, label in enumerate(labels.tolist())]
    records.write_json(paths.CLASSES, {"classes": list(classes)})
    records.write_json(paths.CONFIGURATION, PARAMS | (params or {}))
    own = np.arange(len(labels)) // units
    evaluation: dict[str, Any] = {"warnings": list(warnings)}
    correct, rows = [], []
    for phase, share in zip(paths.PHASES, right, strict=True):
        guesses = np.where(random.random(len(labels)) < share, labels, random.integers(0, n, len(labels)))
        sure = random.uniform(0.5, 1, len(labels))
        probabilities = np.repeat(((1 - sure) / max(n - 1, 1))[:, None], n, axis=1)
        probabilities[np.arange(len(labels)), guesses] = sure if n > 1 else 1
        few = np.eye(min(n, 10))[np.arange(n) % 10]  # the areas under a thousand curves would take a minute
        evaluation[phase] = metrics.summary(probabilities @ few, labels % 10, [2, 50], 0.95, own)
        correct.append(guesses == labels)
        records.write_array(paths.probabilities(phase), probabilities.astype(np.float32))
        answers = [
            {"path": name, "label": classes[label], "predicted": classes[guess], "probability": float(each)}
            for name, label, guess, each in zip(names, labels.tolist(), guesses.tolist(), sure, strict=True)
        ]
        records.write_csv(paths.predictions(phase), list(answers[0]), answers)
        figures = metrics.per_class(labels, guesses, n)
        rows += [{"phase": phase, "class": name, **row} for name, row in zip(classes, figures, strict=True)]
    records.write_csv(paths.PER_CLASS, ["phase", "class", *metrics.PER_CLASS], rows)
    evaluation["difference"] = {
        **intervals.difference(correct[0], correct[1], 0.95, own),
        **intervals.mcnemar(correct[0], correct[1], own),
    }
    weights = [folder / "model.weights.h5" for folder in paths.PHASES.values()]
    for path in weights:
        records.write_text(path, path.as_posix())
    evaluation["made_from"] = records.made_from(weights)
    records.write_json(paths.metrics("evaluate"), evaluation)
    _write_training(trained or {})
    _write_data(classes, per_class, untested)
    _write_inside(answers)


def _write_training(trained: dict[str, Any]) -> None:
    for stage, epochs in (("phase1_head", 4), ("phase2_finetune", 3)):
        rows = history(epochs, 1.0)
        records.write_csv(paths.history(stage), list(rows[0]), rows)
        records.write_json(paths.metrics(stage), TRAINED | {"weights_sha256": "ab" * 32} | trained)
    blocks = [
        {"block": "stem", "layers": 4, "parameters": 992, "trained": 0, "computation": 0.25},
        {"block": "top<1>", "layers": 3, "parameters": 414720, "trained": 409600, "computation": 0.75},
    ]
    records.write_csv(paths.BLOCKS, list(blocks[0]), blocks)
    records.write_json(paths.ENVIRONMENT, {"packages": {"keras": "3.15.1"}, "sha256": {"weights": "", "builder": ""}})


def _write_data(classes: Sequence[str], per_class: int, untested: int) -> None:
    tested = [per_class] * (len(classes) - untested) + [0] * untested
    rows = [{"class": name, "train": 100, "val": 7, "test": test} for name, test in zip(classes, tested, strict=True)]
    splits = {split: {"images": 5, "source": "drawn"} for split in paths.SPLITS}
    records.write_json(paths.metrics("prepare"), {"per_class": rows, "images": 15, "splits": splits})


def _write_inside(answers: Sequence[dict[str, Any]]) -> None:
    """Write mistakes, their pictures and the map: all of one picture, since nothing is drawn here."""
    wrong = [row for row in answers if row["label"] != row["predicted"]]
    columns = ("path", "label", "predicted", "probability", "label_probability", "suspect", "twin")
    rows = [row | {"label_probability": 0.1, "suspect": "yes", "twin": answers[0]["path"]} for row in wrong]
    records.write_csv(paths.MISTAKES, columns, rows)
    shown, hits = rows[:24], [row for row in answers if row["label"] == row["predicted"]][:8]
    pictures = {row["path"]: PICTURE for row in [*shown, *hits]}
    pairs = [
        {"actual": row["label"], "predicted": row["predicted"], "images": 3, "of": 12, "reverse": 0}
        | {"mistaken": [row["path"]], "right": [hit["path"] for hit in hits[:2]]}
        for row in shown[:6]
    ]
    inside = {"phase": "phase2", "pictures": pictures, "heat_maps": pictures, "pairs": pairs}
    records.write_json(paths.PICTURES, {**inside, "mistakes": shown, "hits": hits})
    random, n = np.random.default_rng(1), len(answers)
    places = {axis: random.integers(0, 1000, n).tolist() for axis in "xy"}
    records.write_json(paths.EMBEDDING_MAP, {"images": list(range(n)), "explained": [0.4, 0.2], **places})


def write_figures() -> None:
    """Write what the comparison, the calibration and the corruptions leave."""
    span = {"low": 0.4, "high": 0.95}
    baselines = {
        name: {"accuracy": accuracy, **span}
        for name, accuracy in (
            ("majority", 0.2),
            ("logistic_regression", 0.7),
            ("knn", 0.6),
            ("phase1", 0.8),
            ("phase2", 0.9),
        )
    }
    difference = {"points": 10.0, "low": 4.0, "high": 16.0, "confidence": 0.95, "units": 60}
    verdict = {"text": "Fine-tuning helped <by> ten points. Ship phase 2.", "helped": "yes", "ship": "phase2"}
    records.write_json(
        paths.VERDICT, {**verdict, "difference": difference, "smallest_difference": 5.25, "baselines": baselines}
    )
    bins = [
        {"low": n / 15, "high": (n + 1) / 15, "count": n, "confidence": (n + 0.5) / 15, "accuracy": (n + 0.4) / 16}
        for n in range(15)
    ]
    coverage = [{"coverage": n / 20, "accuracy": 1 - n / 100, "threshold": 1 - n / 30} for n in range(1, 21)]
    calibration = {
        "temperature": 1.234,
        "before": {"ece": 0.08, "log_loss": 0.5, "brier": 0.31},
        "after": {"ece": 0.02, "log_loss": 0.4, "brier": 0.27},
        "reliability": {"before": bins, "after": bins},
        "coverage": coverage,
        "conformal": {
            level: {"coverage": 0.91, "mean_size": 1.4, "single": 0.7, "empty": 0.0, **span}
            for level in ("0.90", "0.95")
        },
        "wanted_precision": {"wanted": 0.95, "coverage": 0.7, "precision": 0.96, "threshold": 0.8, **span},
        "unfamiliar": {"share": 0.05, "flagged": 0.06, "threshold": 48.4, **span},
    }
    records.write_json(paths.CALIBRATION, calibration)
    conditions = [(name, level) for name in ("noise", "blur", "all") for level in (1, 2, 3, "all")]
    corrupted = [
        {"corruption": name, "severity": level, "phase": phase, "images": 40, "accuracy": accuracy, **span}
        for name, level in (*conditions, ("none", 0))
        for phase, accuracy in (("phase1", 0.7), ("phase2", 0.6 if name == "noise" else 0.8))
    ]
    records.write_csv(paths.ROBUSTNESS, list(corrupted[0]), corrupted)
    slices = [
        {"slice": "folder", "value": f"<site {n}>", "images": 9, "units": 8, "accuracy": 0.9, **span, "enough": enough}
        for n, enough in enumerate(("yes", "no"))
    ]
    records.write_csv(paths.SLICES, list(slices[0]), slices)
