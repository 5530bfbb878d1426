"""A sweep's run in a real MLflow, and those of its trials under it."""

import json
import re
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from thaw.config import schema
from thaw.tracking import mlflow_mirror, pipeline, saved_view, sweep_run

pytestmark = pytest.mark.filterwarnings("default")
SETTINGS = schema.Tracking(enabled=True, uri="", experiment="thaw")
PARAMS = {"phase2": {"learning_rate": 3e-05, "unfreeze": "block_13"}, "backbone": {"name": "x"}}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.chdir(tmp_path)
    return MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")


def test_a_sweep_that_goes_on_has_the_run_that_it_began_with(client: MlflowClient) -> None:
    parent = sweep_run.begin(SETTINGS, "rate-12345678", "phase2.learning_rate")
    assert client.get_run(parent).info.status == "RUNNING"
    sweep_run.end(SETTINGS, parent, [], "KILLED")
    assert client.get_run(parent).info.status == "KILLED"
    assert sweep_run.begin(SETTINGS, "rate-12345678", "phase2.learning_rate") == parent
    assert sweep_run.begin(SETTINGS, "rate-87654321", "phase2.learning_rate") != parent
    Path("table.csv").write_text("a\n")
    sweep_run.end(SETTINGS, parent, [Path("table.csv"), Path("not there")])
    run = client.get_run(parent)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "sweep lr")
    assert [file.path for file in client.list_artifacts(parent)] == ["table.csv"]


def test_a_sweep_has_a_view_of_its_trials_that_the_pages_open_with(client: MlflowClient, tmp_path: Path) -> None:
    swept = ["phase2.learning_rate", "phase2.unfreeze"]
    parent = sweep_run.begin(SETTINGS, "rate-12345678", ", ".join(swept))
    with mlflow_mirror.stage("phase1_head", SETTINGS, PARAMS):
        pass
    experiment = client.get_experiment(client.get_run(parent).info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"  # «Model training», not «GenAI»
    view = json.loads(experiment.tags[f"{saved_view.TAG}rate-12345678"])
    assert view["selectedColumns"][:2] == [f"params.`{key}`" for key in swept]
    runs = client.search_runs([experiment.experiment_id], view["searchFilter"], order_by=[f"{view['orderByKey']} ASC"])
    assert [run.info.run_id for run in runs] == [parent]
    every = json.loads(experiment.tags[f"{saved_view.TAG}{saved_view.RUNS}"])
    assert "metrics.`test/accuracy`" in every["selectedColumns"] and not every["searchFilter"]

    pages = saved_view.kept(tmp_path / "mlflow.db")
    assert list(pages) == [saved_view.RUNS, "rate-12345678"]
    assert f"/{experiment.experiment_id}/" in pages["rate-12345678"]
    assert saved_view.kept(tmp_path / "no.db") == {} and not (tmp_path / "no.db").exists()


def test_each_column_of_a_sweeps_view_is_something_that_its_trials_have(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept = {"backbone": "x", "+experiment": "article", "phase2.learning_rate": "3e-05", "data.policy": "{small:keep}"}
    parent = sweep_run.begin(SETTINGS, "groups-12345678", ", ".join(swept))
    told = {"sweep": "groups-12345678", "parent": parent, "label": "x", "swept": swept}
    monkeypatch.setenv(pipeline.TRIAL, json.dumps(told))
    with mlflow_mirror.stage("phase1_head", SETTINGS, PARAMS):
        pass
    experiment = client.get_experiment(client.get_run(parent).info.experiment_id)
    columns = json.loads(experiment.tags[f"{saved_view.TAG}groups-12345678"])["selectedColumns"]
    (trial,) = [run for run in client.search_runs([experiment.experiment_id]) if run.info.run_id != parent]
    shown = {"params": trial.data.params, "tags": trial.data.tags}
    parts = [re.fullmatch(r"(\w+)\.`(.+)`", each) for each in columns if not each.startswith("metrics.")]
    values = [shown[part[1]][part[2]] for part in parts if part]
    assert values == ["x", "article", "3e-05", "{small:keep}"] and len(columns) == 4 + len(saved_view.VALIDATION)


def test_a_server_that_lets_nobody_change_the_experiment_gets_the_runs_all_the_same(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def forbidden(*_: object) -> None:
        raise MlflowException("PERMISSION_DENIED")

    monkeypatch.setattr(MlflowClient, "set_experiment_tag", forbidden)
    run_id = sweep_run.begin(SETTINGS, "rate-12345678", "phase2.learning_rate")
    assert run_id and client.get_run(run_id).info.run_id == run_id
    assert capsys.readouterr().err == ""


def test_a_trials_run_hangs_under_it_with_a_name_and_what_was_swept(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = sweep_run.begin(SETTINGS, "rate-12345678", "phase2.learning_rate")
    told = {
        "sweep": "rate-12345678",
        "parent": parent,
        "label": "lr=3e-05 depth=block_13",
        "swept": {"phase2.learning_rate": "3e-05", "+experiment": "article"},
    }
    monkeypatch.setenv(pipeline.TRIAL, json.dumps(told))
    with mlflow_mirror.stage("phase1_head", SETTINGS, PARAMS):
        pass
    run = next(
        each for each in client.search_runs([client.get_run(parent).info.experiment_id]) if each.info.run_id != parent
    )
    assert run.info.run_name == "lr=3e-05 depth=block_13"
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert run.data.tags["phase2.learning_rate"] == "3e-05"
    assert run.data.tags["_experiment"] == "article"
    assert run.data.tags["thaw.sweep"] == "rate-12345678"
    assert float(run.data.params["phase2.learning_rate"]) == 3e-05  # a number, which MLflow's charts draw as one


def test_without_tracking_or_without_a_server_there_is_none_and_nothing_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    off = schema.Tracking(enabled=False, uri="", experiment="thaw")
    assert sweep_run.begin(off, "rate-12345678", "") == ""
    sweep_run.end(off, "", [])
    assert list(tmp_path.iterdir()) == []
    dead = schema.Tracking(enabled=True, uri="http://127.0.0.1:9", experiment="thaw")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert sweep_run.begin(dead, "rate-12345678", "") == ""
    assert "sweep goes on without tracking" in capsys.readouterr().err
