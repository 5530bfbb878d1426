"""Single jobs as Hydra calls them, with the real git; what DVC would do of a trial is put in its place."""

import math
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict, read_write

from thaw import paths, timings
from thaw.config import load
from thaw.sweep import experiments, job, plan, results, supervisor, trial

OVERRIDES = ["data=folder", "image=px64", "phase2.learning_rate=1e-5"]
FIGURES = {"val_loss": 0.25, "val_accuracy": 0.75, "best_epoch": 1, "layers": 20}


@pytest.fixture
def folder(project: Path, tiny_images: Path) -> Path:
    """The folder of a sweep that has begun."""
    folder = paths.SWEEPS / "one"
    settings = load.check(yaml.safe_load(load.compose(OVERRIDES)))
    states = {trial.inputs(settings): trial.fingerprint(settings)}
    swept = {"phase2.learning_rate": list[str]()}
    owner, tracking = supervisor.myself(), settings.tracking
    plan.SweepPlan(2, swept, states, experiments.head(), [], owner, tracking).write(folder)
    return folder


@pytest.fixture
def composed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> DictConfig:
    """What Hydra gives to the job, which finds the rest in Hydra's own configuration."""
    load.register()
    with initialize_config_dir(str(paths.CONF.resolve()), version_base=None):
        made = compose("sweep", OVERRIDES, return_hydra_config=True)
    with read_write(made), open_dict(made):
        made.hydra.runtime.cwd, made.hydra.job.num = str(Path.cwd()), 0
        made.hydra.sweep.dir = folder.as_posix()
        made.hydra.overrides.task = OVERRIDES
    monkeypatch.setattr(HydraConfig.instance(), "cfg", made)
    values = made.copy()
    with read_write(values), open_dict(values):
        del values["hydra"]
    return values


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test has stopped a trial in this process, and none waits long."""
    monkeypatch.setattr(job, "stopped", [])
    monkeypatch.setattr(trial, "LASTING", 0.5)


def record(folder: Path) -> results.TrialResult:
    (found,) = results.read(folder)
    return found


@pytest.fixture
def succeed(monkeypatch: pytest.MonkeyPatch, leave_experiment: Callable[..., None]) -> list[str]:
    """Instead of running, a trial leaves its experiment; the names of those that did."""
    ran: list[str] = []

    def run(name: str, _: Any, folder: Path, *__: Any, **___: Any) -> str:
        restored = name in ran
        (folder / f"{name}.log").write_text(f"{'Restoring' if restored else 'Running'} stage '{experiments.TARGET}'\n")
        ran.append(name)
        leave_experiment(name, OVERRIDES, FIGURES, 30)
        return ""

    monkeypatch.setattr(trial, "run", run)
    return ran


def test_a_trial_that_is_finished_is_not_run_again(composed: DictConfig, folder: Path, succeed: list[str]) -> None:
    assert job.run(composed) == 0.25
    first = record(folder)
    assert (first.name, first.failure, first.measured.layers) == (succeed[0], "", 20)
    assert job.run(composed) == 0.25
    assert len(succeed) == 1
    assert record(folder) == first


def test_a_commit_during_a_sweep_changes_nothing(composed: DictConfig, folder: Path, succeed: list[str]) -> None:
    def commit() -> str:
        subprocess.run(["git", "commit", "--quiet", "--allow-empty", "--message=next"], check=True)
        return experiments.head()

    first = experiments.head()
    assert job.run(composed) == 0.25
    commit()
    assert job.run(composed) == 0.25
    assert len(succeed) == 1 and record(folder).commit == first
    experiments.forget(succeed[0])
    now = commit()
    assert job.run(composed) == 0.25
    assert len(succeed) == 2 and record(folder).commit == now


def test_a_process_whose_trial_was_stopped_takes_no_other(
    composed: DictConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []

    def run(name: str, *_: Any, **__: Any) -> str:
        ran.append(name)
        raise KeyboardInterrupt

    monkeypatch.setattr(trial, "run", run)
    for _ in range(2):  # as a launcher that takes the interrupt for a result
        with pytest.raises(KeyboardInterrupt):
            job.run(composed)
    assert len(ran) == 1
    assert [path.name for path in folder.glob("*.json")] == [results.PLAN]  # nor has it failed


def test_code_that_changes_while_a_trial_runs_fails_it_and_the_next_and_leaves_no_experiment(
    composed: DictConfig, folder: Path, leave_experiment: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def run(name: str, *_: Any, **__: Any) -> str:
        ran.append(name)
        leave_experiment(name, OVERRIDES, FIGURES, 30)
        with Path("thaw/classifier/head.py").open("a") as file:
            file.write("CHANGED = 1\n")
        return ""

    monkeypatch.setattr(trial, "run", run)
    for _ in range(2):
        assert job.run(composed) == math.inf
        assert record(folder).failure == job.CHANGED
        next(path for path in folder.glob("*.json") if path.name != results.PLAN).unlink()
    assert len(ran) == 1
    assert experiments.finished(ran[0], experiments.head()) is None


def test_a_trial_that_dvc_composed_otherwise_fails_and_leaves_no_experiment(
    composed: DictConfig, folder: Path, leave_experiment: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def run(name: str, *_: Any, **__: Any) -> str:
        ran.append(name)
        leave_experiment(name, [*OVERRIDES, "phase1.epochs=7"], FIGURES, 30)  # conf/ was edited meanwhile
        return ""

    monkeypatch.setattr(trial, "run", run)
    assert job.run(composed) == math.inf
    assert record(folder).failure == job.CHANGED
    assert experiments.finished(ran[0], experiments.head()) is None


def test_an_experiment_of_another_composition_under_its_name_is_run_again(
    composed: DictConfig, folder: Path, succeed: list[str], leave_experiment: Callable[..., None]
) -> None:
    job.run(composed)
    experiments.forget(succeed[0])
    leave_experiment(succeed[0], [*OVERRIDES, "phase1.epochs=7"], FIGURES | {"val_loss": 0.125}, 30)
    assert job.run(composed) == 0.25
    assert len(succeed) == 2 and record(folder).measured.val_loss == 0.25


def test_two_jobs_at_once_with_the_same_trial_run_it_once(
    composed: DictConfig, folder: Path, succeed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    leave = trial.run

    def slow(*words: Any, **options: Any) -> str:
        time.sleep(1)
        return leave(*words, **options)

    monkeypatch.setattr(trial, "run", slow)
    losses: list[float] = []
    threads = [threading.Thread(target=lambda: losses.append(job.run(composed))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert losses == [0.25, 0.25]
    assert len(succeed) == 1


def test_what_is_finished_is_kept_though_a_run_of_it_failed(
    composed: DictConfig, folder: Path, leave_experiment: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, *_: Any, **__: Any) -> str:
        leave_experiment(name, OVERRIDES, FIGURES, 30)  # by another sweep, on another machine
        return "it was killed"

    monkeypatch.setattr(trial, "run", run)
    assert job.run(composed) == 0.25
    assert (record(folder).failure, record(folder).measured.val_loss) == ("", 0.25)


def test_a_trial_that_dvc_restores_keeps_the_time_that_it_took_when_it_ran(
    composed: DictConfig, folder: Path, succeed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    job.run(composed)
    (path,) = (path for path in folder.glob("*.json") if path.name != results.PLAN)
    (line,) = timings.lines(what="trial")
    assert line["seconds"] == record(folder).seconds is not None
    # By its record, by the ledger, and then nobody knows it any more.
    for seconds, lost in ((70.0, None), (line["seconds"], path), (None, paths.LEDGER)):
        if path.is_file():
            results.keep(path, replace(record(folder), seconds=70.0))
        if lost is not None:
            lost.unlink()
            path.unlink(missing_ok=True)
        experiments.forget(succeed[0])
        capsys.readouterr()
        job.run(composed)
        assert record(folder).seconds == seconds
        assert ", restored" in capsys.readouterr().out
    assert list(timings.lines(what="trial")) == []  # it says nothing of what a trial takes
    assert len(succeed) == 4
