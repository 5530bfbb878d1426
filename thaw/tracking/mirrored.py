"""The figures, curves and files of a stage's records on disk, under the names that they have in MLflow.

Nothing here knows MLflow; ``thaw.tracking.mlflow_mirror`` copies what this module finds.
"""

from pathlib import Path

from thaw import paths, records
from thaw.tracking import pipeline

PHASES = {"phase1_head": "phase1", "phase2_finetune": "phase2"}
# Summaries keep away from the names of the curves, or a final value would be drawn as one more epoch. MLflow shows
# groups by name, and the curves should come first.
GROUPS = {
    "sample": "sample",
    "prepare": "prepare",
    "phase1_head": "phase1_summary",
    "phase2_finetune": "phase2_summary",
    "export": "test_parity",
}
TOGETHER = "both_phases"
COMPARED = ("loss", "val_loss", "accuracy", "val_accuracy")  # columns of the histories that mean the same in both
TESTS = {"phase1": "test_phase1", "phase2": "test", "difference": "test_difference"}
PICTURES = (
    paths.confusion_picture("phase1"),
    paths.confusion_picture("phase2"),
    paths.CURVES,
    paths.REPORT,
    paths.MODEL_CARD,
    paths.DATA_REPORT,
)
TABLES = (paths.VERDICT, paths.CALIBRATION, paths.SLICES, paths.ROBUSTNESS)


def figures(stage: str) -> dict[str, float]:
    """Return the numbers of the stage's record under the names they have in MLflow. Lists and texts are left to the
    file.
    """
    record = records.read_json(paths.metrics(stage))
    if stage == "evaluate":
        groups = {TESTS.get(key, f"test/{key}"): value for key, value in record.items()}
        if paths.VERDICT.exists():
            judged = records.read_json(paths.VERDICT)
            groups |= {"test_baselines": judged.pop("baselines"), "test_verdict": judged}
    else:
        groups = {GROUPS[stage]: record}
    numbers = {key: value for key, value in pipeline.leaves(groups, "/") if type(value) in (int, float)}
    return {pipeline.allowed(key): float(value) for key, value in numbers.items()}


def first_step(phase: str) -> int:
    """Return where the phase begins on the common epoch axis: phase 2 goes on where phase 1 has ended."""
    history = paths.history("phase1_head")
    return len(records.read_csv(history)) if phase == "phase2" and history.exists() else 0


def curves(stage: str) -> list[tuple[str, int, float]]:
    """Yield the stage's figures by epoch: name, step on the common axis, value."""
    if stage not in PHASES or not paths.history(stage).exists():
        return []
    phase = PHASES[stage]
    start = first_step(phase)
    return [
        point
        for row in records.read_csv(paths.history(stage))
        for name, value in row.items()
        if value
        for point in points(phase, name, start + int(row["epoch"]), float(value))
    ]


def points(phase: str, name: str, step: int, value: float) -> list[tuple[str, int, float]]:
    """Return a value of an epoch as points of curves: of the phase's own, and of the one through both phases.

    MLflow draws a chart for each name, so that both phases are in one chart only under one name.
    """
    found = [(f"{phase}/{name}", step, value)] if name != "epoch" else []
    both = name in COMPARED and phase in PHASES.values()  # and not a baseline that is trained
    return found + ([(f"{TOGETHER}/{name}", step, value)] if both else [])


def files(stage: str) -> list[tuple[Path, str]]:
    """Yield the stage's files that are on disk and worth a look in MLflow, and the folder each goes to there."""
    own = [(paths.metrics(stage), "metrics"), (paths.history(stage), "metrics")]
    if stage == "evaluate":
        own += [(path, "metrics") for path in TABLES]
        own += [(path, "pictures" if path.suffix == ".png" else "report") for path in PICTURES]
    return [(path, folder) for path, folder in own if path.exists()]
