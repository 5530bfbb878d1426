"""Real MLflow on real files of SQLite, from several processes at once and from one that is killed."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from thaw import paths
from thaw.config import schema
from thaw.tracking import connection, store

pytestmark = pytest.mark.filterwarnings("default")

ROOT = Path(__file__).resolve().parents[2]
CONNECT = """
import os, sys
from thaw.config import schema
from thaw.tracking import connection
client, experiment = connection.connect(schema.Tracking(enabled=True, uri=sys.argv[1], experiment="thaw"))
print(client.create_run(experiment).info.run_id)
"""


def begin(folder: Path, uri: str) -> "subprocess.Popen[str]":
    """A process of the project in a folder, which makes a run in the database."""
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", CONNECT, uri]
    return subprocess.Popen(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_uri_names_a_file_or_none() -> None:
    assert store.file("sqlite:////data/mlflow.db?timeout=5") == Path("/data/mlflow.db")
    assert store.file("sqlite:///mlflow.db") == Path("mlflow.db")
    for uri in ("sqlite://", "sqlite:///", "postgresql://host/db", "http://host:5000", "mlruns"):
        assert store.file(uri) is None


def test_two_projects_that_begin_at_once_with_one_new_database_both_get_into_it(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'below' / 'shared.db'}"
    processes = [begin(tmp_path / name, uri) for name in ("p", "q")]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("thaw")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 2
    assert {path.name for path in (tmp_path / "below").iterdir()} <= {"shared.db", "shared.db.lock"}


def test_a_process_killed_while_it_makes_the_database_costs_the_next_one_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    process = begin(tmp_path, f"sqlite:///{path}")
    deadline = time.monotonic() + 60
    while not any(each.stat().st_size for each in tmp_path.glob("mlflow.db*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.7)  # in the midst of the steps
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not path.exists() and (tmp_path / "mlflow.db.part").stat().st_size > 0
    after = begin(tmp_path, f"sqlite:///{path}")
    _, said = after.communicate(timeout=120)
    assert after.returncode == 0, said


@pytest.mark.parametrize("content", ["half made", "damaged"])
def test_a_database_that_is_not_whole_is_recognised_and_the_remedy_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    path = Path("mlflow.db").resolve()
    if content == "damaged":
        path.write_bytes(b"no database" * 100)
    else:
        with sqlite3.connect(path) as database:  # as earlier versions left it after kill -9
            database.execute("CREATE TABLE _alembic_tmp_params (key TEXT)")
    settings = schema.Tracking(enabled=True, uri="", experiment="thaw")
    with pytest.raises(ValueError, match="expected a whole database of MLflow, received") as raised:
        connection.connect(settings)
    assert f"mv {path} {path}.broken" in str(raised.value) and "\n" not in str(raised.value)
    path.rename(f"{path}.broken")
    after = begin(tmp_path, f"sqlite:///{path}")  # a new process, as the next stage is
    _, said = after.communicate(timeout=120)
    assert after.returncode == 0, said


def test_what_is_no_file_is_locked_in_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with store.opened_alone("postgresql://host/db", lambda _: pytest.fail("it is not ours to make")):
        assert (paths.main_root() / "mlflow.db.lock").exists()
