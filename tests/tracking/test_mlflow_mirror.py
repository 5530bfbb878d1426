"""Real MLflow on SQLite, real files, and for the last tests real processes and real DVC."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from thaw import paths, records
from thaw.config import schema
from thaw.tracking import connection, mirrored, mlflow_mirror, pipeline, system_metrics

# MLflow is not free of deprecation warnings of its own, and they are not this project's to fix.
pytestmark = pytest.mark.filterwarnings("default")

PROJECT = Path(__file__).resolve().parents[2]
SETTINGS = schema.Tracking(enabled=True, uri="", experiment="thaw")
PARAMS: dict[str, Any] = {
    "backbone": {"name": "efficientnet_lite0", "weights": "package"},
    "head": {"units": [128, 64]},
    "phase1": {"learning_rate": 1e-3, "epochs": 2},
    "phase2": {"unfreeze": "40", "learning_rate": 1e-4},
    "tracking": {"enabled": True, "uri": "", "experiment": "thaw"},
}
COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables only, which take seconds to make."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_runs(["0"])
    return path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path) -> Path:
    for name in ("DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    write_manifest("a.png,0,train\n")
    return tmp_path


def client(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")


def runs(folder: Path) -> list[Run]:
    """All runs of the experiment, the oldest first."""
    experiment = client(folder).get_experiment_by_name("thaw")
    if experiment is None:
        return []
    return list(client(folder).search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]))


def only_run(folder: Path) -> Run:
    found = runs(folder)
    assert len(found) == 1
    return found[0]


def curve(folder: Path, name: str) -> list[tuple[int, float]]:
    history = client(folder).get_metric_history(only_run(folder).info.run_id, name)
    return sorted((point.step, point.value) for point in history)


def artifacts(folder: Path, where: str) -> set[str]:
    return {Path(file.path).name for file in client(folder).list_artifacts(only_run(folder).info.run_id, where)}


def write_manifest(text: str) -> None:
    paths.MANIFEST.parent.mkdir(parents=True, exist_ok=True)
    paths.MANIFEST.write_text(text, encoding="utf-8", newline="\n")


def write_prepare() -> None:
    record = {"images": {"train": 80, "test": 20}, "made_from": []}
    records.write_json(paths.metrics("prepare"), record)


def write_phase(stage: str, losses: list[float], inputs: list[Path], **figures: Any) -> None:
    """What a training stage leaves: weights, record and history."""
    folder = paths.PHASE1 if stage == "phase1_head" else paths.PHASE2
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.weights.h5").write_bytes(repr(losses).encode())
    rows = [dict.fromkeys(COLUMNS, 0.5) | {"epoch": epoch, "loss": loss} for epoch, loss in enumerate(losses, start=1)]
    records.write_csv(paths.history(stage), COLUMNS, rows)
    record = {"val_loss": min(losses), "made_from": records.made_from(inputs)}
    records.write_json(paths.metrics(stage), record | figures)


def write_phase1(losses: list[float]) -> None:
    write_phase("phase1_head", losses, [paths.MANIFEST])


def write_phase2(losses: list[float]) -> None:
    write_phase("phase2_finetune", losses, [paths.MANIFEST, paths.PHASE1 / "model.weights.h5"])


def write_evaluate() -> None:
    record = {
        "phase1": {"accuracy": 0.8},
        "phase2": {"accuracy": 0.9, "per_class": {"mouse (grey)": {"recall": 0.7}}, "confusion": [[1, 2], [3, 4]]},
        "difference": {"accuracy": 0.1},
        "images": 20,
        "model": "efficientnet_lite0",
        "made_from": records.made_from([paths.PHASE2 / "model.weights.h5"]),
    }
    records.write_json(paths.metrics("evaluate"), record)
    for path in mirrored.PICTURES:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture")


def test_both_phases_of_one_run_share_one_epoch_axis(project: Path) -> None:
    with mlflow_mirror.stage("phase1_head", SETTINGS, PARAMS):
        write_phase1([3.0, 2.0])
    with mlflow_mirror.stage("phase2_finetune", SETTINGS, PARAMS):
        write_phase2([1.5, 1.0, 0.5])
    assert curve(project, "phase1/loss") == [(1, 3.0), (2, 2.0)]
    assert curve(project, "phase2/loss") == [(3, 1.5), (4, 1.0), (5, 0.5)]
    assert curve(project, "both_phases/loss") == [(1, 3.0), (2, 2.0), (3, 1.5), (4, 1.0), (5, 0.5)]
    assert "both_phases/seconds" not in only_run(project).data.metrics
    assert only_run(project).info.status == "FINISHED"


def test_live_epochs_are_seen_at_once_and_not_logged_again_from_the_files(project: Path) -> None:
    write_phase1([3.0, 2.0])
    with mlflow_mirror.stage("phase2_finetune", SETTINGS, PARAMS) as run:
        run.epoch("phase2", 1, {"epoch": 1, "loss": 1.5})
        assert curve(project, "phase2/loss") == [(3, 1.5)]
        assert only_run(project).info.status == "RUNNING"
        run.epoch("phase2", 2, {"epoch": 2, "loss": 1.0})
        write_phase2([1.5, 1.0])
    assert curve(project, "phase2/loss") == [(3, 1.5), (4, 1.0)]
    assert curve(project, "phase2/val_loss") == [(3, 0.5), (4, 0.5)]  # only the file had it


def test_a_trial_of_a_sweep_begins_with_what_trials_are_compared_by(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"label": "lr=1", "sweep": "s", "parent": "", "swept": {"phase2.learning_rate": "1"}}
    monkeypatch.setenv(pipeline.TRIAL, json.dumps(told))
    write_prepare()
    write_phase1([3.0, 2.0])
    with mlflow_mirror.stage("phase2_finetune", SETTINGS, PARAMS) as run:
        run.epoch("phase2", 1, {"loss": 1.5, "val_loss": 2.0, "val_accuracy": 0.5})
        write_phase2([1.5])
    logged = list(only_run(project).data.metrics)
    assert logged[0] == "phase2/val_accuracy"
    assert "prepare/images/train" in logged


def test_a_trial_that_fails_shows_what_came_before_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"label": "lr=1", "sweep": "s", "parent": "", "swept": {"phase2.learning_rate": "1"}}
    monkeypatch.setenv(pipeline.TRIAL, json.dumps(told))
    write_prepare()
    write_phase1([3.0, 2.0])
    with pytest.raises(ValueError, match="diverged"), mlflow_mirror.stage("phase2_finetune", SETTINGS, PARAMS):
        raise ValueError("the loss diverged")
    found = only_run(project)
    assert (found.info.status, found.data.tags["thaw.failure"]) == ("FAILED", "ValueError: the loss diverged")
    assert found.data.metrics["prepare/images/train"] == 80
    assert curve(project, "phase1/loss") == [(1, 3.0), (2, 2.0)]


def test_how_the_work_was_done_is_a_tag_of_the_run(project: Path) -> None:
    with mlflow_mirror.stage("phase2_finetune", SETTINGS, PARAMS) as run:
        run.note("activations", "streaming, as phase2.activations says")
    (found,) = runs(project)
    assert found.data.tags["thaw.activations"] == "streaming, as phase2.activations says"


def test_a_restored_stage_is_in_the_run_before_the_next_one_begins(project: Path) -> None:
    write_prepare()
    write_phase1([3.0, 2.0])
    with mlflow_mirror.stage("phase2_finetune", SETTINGS, PARAMS):
        assert curve(project, "phase1/loss") == [(1, 3.0), (2, 2.0)]
        assert only_run(project).data.metrics["prepare/images/train"] == 80
        write_phase2([1.0])
    assert curve(project, "phase1/loss") == [(1, 3.0), (2, 2.0)]


def test_later_stages_that_still_hold_are_mirrored_by_an_earlier_one(project: Path) -> None:
    write_phase1([3.0, 2.0])
    write_phase2([1.0])
    write_evaluate()
    with mlflow_mirror.stage("phase1_head", SETTINGS, PARAMS):
        write_phase1([3.0, 2.0])
    assert only_run(project).data.metrics["test/accuracy"] == 0.9


def test_a_stale_record_and_all_after_it_are_not_mirrored(project: Path) -> None:
    write_phase1([3.0, 2.0])
    write_phase2([1.0])
    write_evaluate()  # made from phase 2's weights, which are still there
    with mlflow_mirror.stage("phase1_head", SETTINGS, PARAMS):
        write_phase1([4.0, 3.0])
    names = set(only_run(project).data.metrics)
    assert "phase1/loss" in names
    assert not [name for name in names if name.startswith(("phase2", "test"))]


def test_a_record_is_logged_once_and_again_only_when_it_changes(project: Path) -> None:
    write_phase1([3.0])
    write_phase2([1.0])
    copied = set()
    for _ in range(2):
        with mlflow_mirror.stage("evaluate", SETTINGS, PARAMS):
            write_evaluate()
        (copy,) = (project / "mlruns").rglob("report.html")
        copied.add(copy.stat().st_mtime_ns)
    assert len(copied) == 1
    history = client(project).get_metric_history(only_run(project).info.run_id, "test/accuracy")
    assert [point.value for point in history] == [0.9]
    before = only_run(project).data.tags["thaw.mirrored.phase2_finetune"]
    with mlflow_mirror.stage("phase2_finetune", SETTINGS, PARAMS):
        write_phase2([0.5])
    assert curve(project, "phase2/loss") == [(2, 0.5), (2, 1.0)]
    assert only_run(project).data.tags["thaw.mirrored.phase2_finetune"] != before


def test_the_run_has_parameters_test_figures_pictures_and_tags(project: Path) -> None:
    paths.PARAMS.write_text("backbone: {}\n", encoding="utf-8")
    write_phase1([3.0])
    write_phase2([1.0])
    with mlflow_mirror.stage("evaluate", SETTINGS, PARAMS):
        write_evaluate()
    run = only_run(project)
    assert run.data.params["phase2.learning_rate"] == "0.0001"
    assert run.data.params["head.units"] == "[128, 64]"
    assert run.data.params["tracking.uri"] == ""
    assert len(run.data.params) == len(list(pipeline.leaves(PARAMS, ".")))
    assert {name: value for name, value in run.data.metrics.items() if name.startswith("test")} == {
        "test_phase1/accuracy": 0.8,
        "test/accuracy": 0.9,
        "test/per_class/mouse _grey_/recall": 0.7,
        "test_difference/accuracy": 0.1,
        "test/images": 20,
    }
    assert run.info.run_name == "efficientnet_lite0"
    assert run.data.tags["thaw.data_sha256"] == records.sha256(paths.MANIFEST)
    assert run.data.tags["mlflow.source.name"] == project.name
    with mlflow_mirror.stage("evaluate", SETTINGS, PARAMS):
        pass
    inputs = only_run(project).inputs
    assert inputs
    (images,) = inputs.dataset_inputs  # once, though several stages look
    assert images.dataset.digest == records.sha256(paths.MANIFEST)[:12]
    assert artifacts(project, "pictures") == {"confusion_phase1.png", "confusion_phase2.png", "curves.png"}
    assert artifacts(project, "report") == {"data.html", "report.html", "model_card.md"}
    assert "phase1_head_history.csv" in artifacts(project, "metrics")
    assert "params.yaml" in artifacts(project, "")


def test_the_load_of_the_machine_is_sampled_on_one_axis_and_can_be_switched_off(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_metrics, "INTERVAL", 0.1)
    for stage in ("phase1_head", "phase2_finetune"):
        before = len(curve(project, "system/cpu_utilization_percentage")) if runs(project) else 0
        with mlflow_mirror.stage(stage, SETTINGS, PARAMS):
            write_phase1([3.0])
            end = time.monotonic() + 60
            while len(curve(project, "system/cpu_utilization_percentage")) == before and time.monotonic() < end:
                time.sleep(0.1)
    sampled = curve(project, "system/cpu_utilization_percentage")
    assert len(sampled) >= 2 and [step for step, _ in sampled] == sorted({step for step, _ in sampled})
    assert not [thread for thread in threading.enumerate() if thread.name == "SystemMetricsMonitor"]
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    assert list(system_metrics.start("id", "uri")) == []


def test_more_parameters_and_figures_than_mlflow_takes_at_once_are_logged(project: Path) -> None:
    params = PARAMS | {"many": {f"key{number}": "x" * 7000 if number == 0 else number for number in range(250)}}
    with mlflow_mirror.stage("phase1_head", SETTINGS, params):
        write_phase("phase1_head", [3.0], [paths.MANIFEST], classes={f"c{number}": number for number in range(2500)})
    run = only_run(project)
    assert len([name for name in run.data.params if name.startswith("many.")]) == 250
    assert run.data.metrics["phase1_summary/classes/c2499"] == 2499


def test_other_data_or_parameters_make_another_run(project: Path) -> None:
    def train(params: dict[str, Any]) -> None:
        with mlflow_mirror.stage("phase1_head", SETTINGS, params):
            write_phase1([3.0])

    train(PARAMS)
    train(PARAMS | {"phase1": {"learning_rate": 1e-2, "epochs": 2}})
    assert len(runs(project)) == 2
    with mlflow_mirror.stage("prepare", SETTINGS, PARAMS):
        write_manifest("b.png,1,train\n")
        write_prepare()
    train(PARAMS)
    assert len(runs(project)) == 3
    assert runs(project)[0].data.tags["thaw.data_sha256"] != runs(project)[2].data.tags["thaw.data_sha256"]
    assert runs(project)[2].data.metrics["prepare/images/test"] == 20


def test_a_process_number_that_the_machine_gives_away_again_is_another_run(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for begun in (0.0, time.time() + 60):
        monkeypatch.setattr(pipeline, "identity", lambda _, since=begun: ("host:7:", since))
        with mlflow_mirror.stage("phase1_head", SETTINGS, PARAMS):
            write_phase1([3.0])
    assert len(runs(project)) == 2


def test_a_run_whose_process_was_killed_is_closed_by_the_next_one(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = pipeline.identity(PARAMS)[0].split(":")[0]
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()

    def leave_running(key: str) -> str:
        monkeypatch.setattr(pipeline, "identity", lambda _: (key, 0.0))
        run = mlflow_mirror.Run("phase1_head", SETTINGS, PARAMS)
        mlflow_mirror._open(run)
        return run.id

    alive = leave_running(f"{host}:{os.getpid()}:")
    with monkeypatch.context() as other:
        other.setattr(pipeline, "project", lambda: "another")
        elsewhere = leave_running(f"{host}:{gone.pid}:elsewhere")
    killed = leave_running(f"{host}:{gone.pid}:")
    assert {run.info.status for run in runs(project)} == {"RUNNING"}
    monkeypatch.setattr(pipeline, "identity", lambda _: ("next", 0.0))
    with mlflow_mirror.stage("phase1_head", SETTINGS, PARAMS):
        write_phase1([3.0])
    found = {run.info.run_id: run for run in runs(project)}
    assert len(found) == 4
    assert found[killed].info.status == "KILLED" and found[killed].info.end_time
    assert found[killed].data.tags["thaw.failure"] == "its process ended without a word"
    assert found[alive].info.status == found[elsewhere].info.status == "RUNNING"


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ValueError("the loss is not a number"), "FAILED", "ValueError: the loss is not a number"),
        (KeyboardInterrupt(), "KILLED", "KeyboardInterrupt: "),
    ],
)
def test_a_failure_is_recorded_and_goes_on_to_the_caller_until_the_stage_succeeds(
    project: Path, error: BaseException, status: str, text: str
) -> None:
    with pytest.raises(type(error)), mlflow_mirror.stage("phase1_head", SETTINGS, PARAMS):
        raise error
    assert only_run(project).info.status == status
    assert only_run(project).data.tags["thaw.failure"] == text
    with mlflow_mirror.stage("phase1_head", SETTINGS, PARAMS):
        write_phase1([3.0])
    assert only_run(project).info.status == "FINISHED"
    assert "thaw.failure" not in only_run(project).data.tags


def test_a_dead_server_costs_a_warning_and_the_next_stage_makes_it_good(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    trained = False
    with mlflow_mirror.stage("phase1_head", SETTINGS, PARAMS) as run:
        run.epoch("phase1", 1, {"loss": 3.0})
        write_phase1([3.0])
        trained = True
    said = capsys.readouterr().err
    assert trained
    assert said.count("phase1_head goes on without tracking") == 1
    assert "127.0.0.1:9" in said
    assert "secret" not in said
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with mlflow_mirror.stage("phase2_finetune", SETTINGS, PARAMS):
        write_phase2([1.0])
    assert curve(project, "phase1/loss") == [(1, 3.0)]
    assert capsys.readouterr().err == ""


def test_a_database_that_is_locked_costs_a_warning_and_the_next_stage_makes_it_good(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = replace(SETTINGS, uri="sqlite:///mlflow.db?timeout=0.2")  # seconds, in place of five
    held = sqlite3.connect(project / "mlflow.db")
    held.execute("BEGIN EXCLUSIVE")
    with mlflow_mirror.stage("phase1_head", waiting, PARAMS) as run:
        run.epoch("phase1", 1, {"loss": 3.0})
        write_phase1([3.0])
    said = capsys.readouterr().err
    assert said.count("phase1_head goes on without tracking") == 1 and "locked" in said
    held.close()
    with mlflow_mirror.stage("phase2_finetune", waiting, PARAMS):
        write_phase2([1.0])
    assert curve(project, "phase1/loss") == [(1, 3.0)]
    assert capsys.readouterr().err == ""


def test_a_failing_stage_with_a_dead_server_raises_its_own_error(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ValueError, match="the loss"), mlflow_mirror.stage("phase1_head", SETTINGS, PARAMS):
        raise ValueError("the loss is not a number")


def test_disabled_tracking_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = schema.Tracking(enabled=False, uri="", experiment="thaw")
    with mlflow_mirror.stage("phase1_head", settings, PARAMS) as run:
        run.epoch("phase1", 1, {"loss": 3.0})
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_stage_is_refused() -> None:
    refused = pytest.raises(ValueError, match=r"expected one of the stages sample, .* received 'train'")
    with refused, mlflow_mirror.stage("train", SETTINGS, PARAMS):
        pass


def test_the_environment_goes_before_the_settings_and_relative_databases_are_the_main_repositorys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path.as_posix()
    assert connection.tracking_uri(SETTINGS) == f"sqlite:///{root}/mlflow.db"
    settings = schema.Tracking(enabled=True, uri="sqlite:///runs/all.db", experiment="thaw")
    assert connection.tracking_uri(settings) == f"sqlite:///{root}/runs/all.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example:5000")
    assert connection.tracking_uri(settings) == "http://mlflow.example:5000"


STAGE = """\
import sys
from pathlib import Path
import yaml
from thaw import paths as layout, records
from thaw.config import schema
from thaw.tracking import mirrored, mlflow_mirror as tracking

name = sys.argv[1]
params = {PARAMS!r}
params["phase2"]["learning_rate"] = float(yaml.safe_load(Path("params.yaml").read_text())["rate"])
with tracking.stage(name, schema.Tracking(True, "", "thaw"), params) as run:
    if name == "phase1_head":
        layout.PHASE1.mkdir(parents=True, exist_ok=True)
        weights = layout.PHASE1 / "model.weights.h5"
        weights.write_bytes(b"weights")
        made_from = []
    else:
        layout.PHASE2.mkdir(parents=True, exist_ok=True)
        made_from = [layout.PHASE1 / "model.weights.h5"]
    run.epoch(mirrored.PHASES[name], 1, {{"loss": 2.0}})
    records.write_csv(layout.history(name), ["epoch", "loss"], [{{"epoch": 1, "loss": 2.0}}])
    record = {{"rate": params["phase2"]["learning_rate"], "made_from": records.made_from(made_from)}}
    records.write_json(layout.metrics(name), record)
"""
DVC_YAML = """\
stages:
  phase1_head:
    cmd: "{python} stage.py phase1_head"
    deps: [stage.py]
    outs: [models/phase1_head]
    metrics:
      - metrics/phase1_head.json: {{cache: false}}
      - metrics/phase1_head_history.csv: {{cache: false}}
  phase2_finetune:
    cmd: "{python} stage.py phase2_finetune"
    deps: [models/phase1_head]
    params: [rate]
    metrics:
      - metrics/phase2_finetune.json: {{cache: false}}
      - metrics/phase2_finetune_history.csv: {{cache: false}}
"""


def write_stage_script() -> None:
    Path("stage.py").write_text(STAGE.format(PARAMS=PARAMS), encoding="utf-8")
    Path("params.yaml").write_text("rate: 0.0001\n", encoding="utf-8")


def environment() -> dict[str, str]:
    """Of a stage's process: this project's library, and none of pytest's own settings."""
    return os.environ | {"PYTHONPATH": str(PROJECT), "DVC_NO_ANALYTICS": "1"}


@pytest.mark.slow  # test_store has two processes that begin at once
def test_six_processes_at_once_on_an_empty_folder_make_one_experiment_and_lose_nothing(project: Path) -> None:
    Path("mlflow.db").unlink()
    write_stage_script()
    processes = []
    for number in range(6):
        folder = project / f"copy{number}"
        folder.mkdir()
        for name in ("stage.py", "params.yaml"):
            shutil.copyfile(name, folder / name)
        processes.append(
            subprocess.Popen(
                [sys.executable, "stage.py", "phase1_head"],
                cwd=folder,
                env=environment() | {"DVC_ROOT": str(project), "DVC_EXP_NAME": f"trial{number}"},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 6, said
    assert said == [""] * 6
    found = runs(project)
    assert {run.info.run_name for run in found} == {f"trial{number}" for number in range(6)}
    assert all(run.data.metrics["phase1/loss"] == 2.0 and run.info.status == "FINISHED" for run in found)


def test_importing_the_module_does_not_import_mlflow() -> None:
    code = (
        "import sys, thaw.tracking.mlflow_mirror; print(sorted({'mlflow', 'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def run_quietly(*words: str) -> str:
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_each_dvc_run_is_one_run_also_with_a_restored_stage_and_in_an_isolated_experiment(project: Path) -> None:
    write_stage_script()
    Path("dvc.yaml").write_text(DVC_YAML.format(python=sys.executable), encoding="utf-8")
    Path(".gitignore").write_text("mlflow.db*\nmlruns\n", encoding="utf-8")
    dvc = (sys.executable, "-m", "dvc")
    run_quietly("git", "init", "-q")
    run_quietly("git", "config", "user.email", "nobody@example.org")
    run_quietly("git", "config", "user.name", "Nobody")
    run_quietly(*dvc, "init", "-q")
    run_quietly("git", "add", "-A")
    run_quietly("git", "commit", "-qm", "first")
    commit = run_quietly("git", "rev-parse", "HEAD").strip()

    assert "WARNING" not in run_quietly(*dvc, "repro")  # both stages, each in its own process
    run = only_run(project)
    assert curve(project, "phase1/loss") == [(1, 2.0)]
    assert curve(project, "phase2/loss") == [(2, 2.0)]
    assert run.data.tags["mlflow.source.git.commit"] == commit
    assert run.data.tags["thaw.git_dirty"] == "false"

    run_quietly("git", "add", "-A")
    run_quietly("git", "commit", "-qm", "second")
    Path("params.yaml").write_text("rate: 0.0002\n", encoding="utf-8")
    said = run_quietly(*dvc, "repro")
    assert "Stage 'phase1_head' didn't change, skipping" in said
    second = runs(project)[1]
    assert second.data.metrics["phase1/loss"] == 2.0
    assert second.data.metrics["phase2_summary/rate"] == 0.0002

    said = run_quietly(*dvc, "exp", "run", "--temp", "--name", "warm", "-S", "rate=0.0003")
    assert "WARNING" not in said
    third = runs(project)[2]
    assert third.info.run_name == third.data.tags["dvc.exp_name"] == "warm"
    assert third.data.metrics["phase1/loss"] == 2.0
    assert third.data.metrics["phase2_summary/rate"] == 0.0003
    assert third.data.tags["thaw.git_dirty"] == "false"
    assert list((project / "mlruns" / third.info.run_id).rglob("phase2_finetune_history.csv"))

    run_quietly(*dvc, "repro", "--force", "--single-item", "phase2_finetune")  # nothing differs, yet it is a new run
    assert len(runs(project)) == 4
