"""A sweep of eight trials at once, mirrored by a server of MLflow with a database of PostgreSQL behind it."""

import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.sweep.test_multirun import TINY, git, sweep_command
from thaw import paths, records

pytest.importorskip("psycopg2", reason="the server's client of PostgreSQL: pip install psycopg2-binary")
pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="an extra")
INITDB, POSTGRES, READY = (shutil.which(name) for name in ("initdb", "postgres", "pg_isready"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (INITDB and POSTGRES and READY), reason="PostgreSQL: apt-get install postgresql"),
    # MLflow is not free of deprecation warnings of its own.
    pytest.mark.filterwarnings("default"),
]
EPOCHS = 3
RATES = [f"{number}e-5" for number in range(1, 9)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(words: list[str], log: Path, user: str | None, is_up: Callable[[], bool]) -> Iterator[None]:
    """Run a server until it is left. ``is_up``: what succeeds once it answers."""
    with log.open("wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file, user=user, start_new_session=True)
    try:
        end = time.monotonic() + 180
        while not is_up():
            assert process.poll() is None and time.monotonic() < end, log.read_text(errors="replace")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[str]:
    """A database of its own, which is gone afterwards: its URI."""
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    port = str(free_port())
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # where another user may come
    try:
        if user:
            shutil.chown(folder, user)
        data = str(folder / "data")
        made = [str(INITDB), "--pgdata", data, "--username=mlflow", "--auth=trust", "--no-sync", "--encoding=UTF8"]
        subprocess.run(made, check=True, capture_output=True, user=user, cwd=folder)
        words = [str(POSTGRES), "-D", data, "-h", "127.0.0.1", "-p", port, "-k", ""]
        ready = [str(READY), "--quiet", "--host=127.0.0.1", f"--port={port}"]
        with running(
            words, tmp_path / "postgres.log", user, lambda: not subprocess.run(ready, check=False).returncode
        ):
            yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def server(database: str, tmp_path: Path) -> Iterator[str]:
    """A server of MLflow on it: its address."""
    port = free_port()
    words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    words += ["--backend-store-uri", database, "--artifacts-destination", str(tmp_path / "artifacts")]

    def is_up() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with suppress(OSError), closing(connection):
            connection.request("GET", "/health")
            return connection.getresponse().status == http.HTTPStatus.OK
        return False

    with running(words, tmp_path / "mlflow.log", None, is_up):
        yield f"http://127.0.0.1:{port}"


def test_eight_trials_at_once_are_all_in_the_database_with_all_their_figures(
    project: Path, tiny_images: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    git("add", ".")
    git("commit", "--quiet", "--message=images")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    words = (*TINY, f"phase2.learning_rate={','.join(RATES)}", "phase2.unfreeze=20")
    more = (f"phase2.epochs={EPOCHS}", "tracking.enabled=true")
    at_once = ("hydra/launcher=parallel", f"hydra.launcher.n_jobs={len(RATES)}")
    done = subprocess.run(sweep_command(*words, *more, *at_once), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "MLflow" not in done.stderr  # which would say what it could not be told

    (folder,) = paths.SWEEPS.iterdir()
    table = {row["phase2.learning_rate"]: row for row in records.read_csv(folder / "table.csv")}
    assert len(table) == len(RATES) and not any(row["failure"] for row in table.values())
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("thaw")
    assert experiment
    runs = client.search_runs([experiment.experiment_id])
    trials = {run.data.params["phase2.learning_rate"]: run for run in runs if "phase2/val_loss" in run.data.metrics}
    assert {float(rate) for rate in trials} == {float(rate) for rate in RATES} == {float(rate) for rate in table}
    assert len([run for run in runs if "mlflow.parentRunId" in run.data.tags]) == len(RATES)
    losses = {float(rate): float(row["val_loss"]) for rate, row in table.items()}
    for rate, run in trials.items():
        assert run.info.status == "FINISHED"
        assert run.data.metrics["phase2_summary/val_loss"] == pytest.approx(losses[float(rate)], rel=1e-6)
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "phase2/val_loss")]
        assert len(steps) >= EPOCHS and sorted(steps) == list(range(min(steps), min(steps) + len(steps)))
