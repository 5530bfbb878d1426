"""The pipeline as a user runs it: `dvc repro`, once more, with a parameter changed, and as an isolated experiment."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from thaw import paths, records
from thaw.config import load

pytestmark = pytest.mark.slow

OPTIONS = (
    *("data=folder", "image=px64", "augment.views=2", "head.units=[16]", "head.dropout=[0.1]"),
    *("phase1.epochs=2", "phase2.epochs=2", "phase2.unfreeze=block_7a"),
)


def run(*words: str, **environment: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def ran(output: str) -> list[str]:
    """The stages that DVC started, in order."""
    started = [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]
    return [
        name for name in started if name != "environment"
    ]  # which looks each time, and DVC goes on where all is equal


def configure(*more: str) -> None:
    paths.PARAMS.write_text(load.compose([*OPTIONS, *more]), encoding="utf-8", newline="\n")


def test_the_whole_way(project: Path, tiny_images: Path) -> None:
    configure()
    run("git", "add", ".")
    run("git", "commit", "-qm", "images")

    stages = ["prepare", "phase1_head", "phase2_finetune", "evaluate", "export"]
    assert ran(run("dvc", "repro", "export")) == stages
    evaluation = records.read_json(paths.metrics("evaluate"))
    tested = [row for row in records.read_csv(paths.MANIFEST) if row["split"] == "test"]
    assert evaluation["phase2"]["images"] == len(tested) > 0
    bytes_before = (paths.PHASE2 / "model.weights.h5").read_bytes()

    # Twice is once.
    assert ran(run("dvc", "repro", "export")) == []

    # The same from nothing gives the same bytes, with the activation cache and without.
    run("dvc", "repro", "--force", "--no-run-cache", "phase2_finetune")
    assert (paths.PHASE2 / "model.weights.h5").read_bytes() == bytes_before

    # A parameter of phase 2 concerns phase 2 and what follows.
    configure("phase2.learning_rate=0.0002")
    assert ran(run("dvc", "repro", "export")) == ["phase2_finetune", "evaluate", "export"]
    assert (paths.PHASE2 / "model.weights.h5").read_bytes() != bytes_before

    # How the work is done, and where runs are mirrored, concern no stage.
    configure("phase2.learning_rate=0.0002", "compute.cache_gb=7", "tracking.experiment=other")
    assert ran(run("dvc", "repro", "export")) == []

    # What was computed before comes back without a run.
    configure()
    assert ran(run("dvc", "repro", "export")) == []
    assert (paths.PHASE2 / "model.weights.h5").read_bytes() == bytes_before

    # An isolated experiment leaves the workspace alone, and its run is in the same MLflow database.
    run("git", "add", ".")
    run("git", "commit", "-qm", "first result")
    before = paths.metrics("evaluate").read_bytes()
    # It composes conf/ anew, so what params.yaml was compiled with is said again.
    options = [word for option in (*OPTIONS, "phase2.learning_rate=0.0004") for word in ("-S", option)]
    output = run("dvc", "exp", "run", "--temp", "--name", "faster", *options, "export")
    assert ran(output) == ["phase2_finetune", "evaluate", "export"]
    assert paths.metrics("evaluate").read_bytes() == before
    assert run("git", "status", "--porcelain", "params.yaml") == ""
    shown = json.loads(run("dvc", "exp", "show", "--json"))
    experiments = [each for state in shown for each in state.get("experiments") or []]
    assert [each["revs"][0]["name"] for each in experiments] == ["faster"]

    import mlflow  # noqa: PLC0415 -- seconds that only this test needs

    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("thaw")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (faster,) = [each for each in runs if each.data.tags.get("dvc.exp_name") == "faster"]
    assert faster.info.status == "FINISHED"
    assert faster.data.params["phase2.learning_rate"] == "0.0004"
    assert faster.data.metrics["test/images"] == len(tested)
    # Phase 1 was restored, not run, and has its curve all the same; phase 2 goes on where it ends.
    steps = {
        name: [point.step for point in client.get_metric_history(faster.info.run_id, name)]
        for name in ("phase1/val_loss", "phase2/val_loss")
    }
    assert steps["phase1/val_loss"] == [1, 2]
    assert steps["phase2/val_loss"] == [3, 4]


def test_the_demonstration_is_as_accurate_as_it_was(project: Path) -> None:
    """A floor below what README shows, above what a mistake in training or preprocessing would leave."""
    paths.PARAMS.write_text(load.compose(["tracking.enabled=false"]), encoding="utf-8", newline="\n")
    run("dvc", "repro", "evaluate")
    found = records.read_json(paths.metrics("evaluate"))
    assert found["phase1"]["images"] == found["phase2"]["images"] == 750
    assert found["phase1"]["accuracy"] >= 0.91
    assert found["phase2"]["accuracy"] >= 0.975


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("phase2.learning_rat=1e-5", "learning_rat"),
        ("phase2.learning_rate=fast", "could not be converted"),
        ("phase2.learning_rate=0.01", "expected a rate below phase1.learning_rate"),
        ("augment.views=0", "expected 1 to 64"),
        ("backbone=nonesuch", "nonesuch"),
    ],
)
def test_a_wrong_override_stops_before_any_stage(project: Path, tiny_images: Path, override: str, reason: str) -> None:
    done = subprocess.run(["dvc", "exp", "run", "-S", override], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Running stage" not in done.stdout + done.stderr
    assert reason in done.stderr
