"""Sweeps in a copy of the project, with the real git, Hydra and DVC; the slow ones train."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import psutil
import pytest
import yaml
from mlflow import MlflowClient
from omegaconf import OmegaConf

from tests.conftest import ROOT
from thaw import paths, records, timings
from thaw.config import load, schema
from thaw.runtime import extras
from thaw.sweep import experiments, multirun, plan, results, supervisor
from thaw.tracking import sweep_run

TINY = (
    "data=folder",
    "image=px64",
    "augment.views=2",
    "phase1.epochs=1",
    "phase2.epochs=1",
    "backbone.weights=random",
)
OFF = schema.Tracking(enabled=False, uri="", experiment="thaw")
GRID = ("phase2.learning_rate=1e-5,1e-4", "phase2.unfreeze=20")


def git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout


def sweep_command(*overrides: str) -> list[str]:
    return [sys.executable, "-m", "thaw.sweep", *overrides]


def run(*overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(sweep_command(*overrides), capture_output=True, text=True, check=False)


@pytest.fixture
def committed(project: Path, tiny_images: Path) -> Path:
    """The project with its images in git, so that they reach the trials."""
    git("add", ".")
    git("commit", "--quiet", "--message=images")
    return project


def record(folder: Path, rate: str, loss: float | None, failure: str = "") -> None:
    """Write what a trial leaves behind."""
    figures = None if loss is None else results.Figures(loss, 0.5, best_epoch=3, layers=20)
    overrides = [f"phase2.learning_rate={rate}", "phase1.epochs=2"]
    left = results.TrialResult(f"rate={rate}-0", overrides, overrides[0], "", failure, "a.log", 1.0, figures)
    results.keep(folder / f"{rate}.json", left)


def begun(owner: str = "") -> plan.SweepPlan:
    """The plan of a sweep of the learning rate."""
    return plan.SweepPlan(3, {"phase2.learning_rate": []}, {}, "", [], owner, OFF)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["phase2.learning_rat=1e-5,1e-4"], "phase2.learning_rat: no such key; did you mean phase2.learning_rate?"),
        pytest.param(
            ["phase2.learning_rat=1e-5"],
            "phase2.learning_rat: no such key; did you mean phase2.learning_rate?",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["phase2.epochs=1,many"], "phase2.epochs: expected a whole number, received many", marks=pytest.mark.slow
        ),
        (["phase2.warmup=0.1,1001"], "phase2.warmup: expected 0 to 1000 epochs, received 1001.0 (trial "),
        (
            ["phase2.learning_rate=1e-4,1e-2"],
            "phase2.learning_rate: expected a rate below phase1.learning_rate (0.001)",
        ),
        (["augment=light,ligth"], "ligth"),
        (["phase2.batch_size=range(0,3)"], "phase2.batch_size: expected 1 to "),
        (["phase2.learning_rate=interval(1e-5,1)"], "phase2.learning_rate: expected a rate below"),
        (["phase2.epochs"], "phase2.epochs: expected key=value or group=option"),
        (["data.raw=data/mine"], "thaw.sweep: data/mine: expected one folder per class"),
    ],
)
def test_a_bad_value_ends_the_sweep_in_one_line_before_any_trial(
    committed: Path, overrides: list[str], message: str
) -> None:
    done = run(*TINY, *overrides)
    assert message in done.stderr
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    begun = {path.name for path in Path(".thaw").glob("*")} - {"triage"}  # where hashes of images are kept
    assert not begun and not Path(".dvc/tmp").exists()
    assert git("status", "--porcelain") == ""


@pytest.mark.parametrize(
    "overrides", [[], ["phase2.learning_rate=1e-5,1e-4"], ["phase1=default", "augment=light,strong"]]
)
def test_a_mistake_in_conf_ends_the_sweep_in_one_line(committed: Path, overrides: list[str]) -> None:
    with Path("conf/phase1/default.yaml").open("a") as file:
        file.write("\tepochs: 3\n")
    done = run(*overrides)
    where = re.escape("conf/phase1/default.yaml, line ")
    assert re.fullmatch(rf"thaw\.sweep: {where}\d+: expected YAML, .* indent with spaces\n", done.stderr)
    assert (done.returncode, done.stdout) == (1, "")


def test_a_mistake_in_a_swept_option_ends_the_sweep_in_one_line(committed: Path) -> None:
    option = Path("conf/augment/mine.yaml")
    for text, message in (("views: [\n", "expected YAML"), ("viewz: 3\n", "viewz: no such key; did you mean")):
        option.write_text(text)
        done = run(*TINY, "augment=light,mine")
        assert message in done.stderr and option.as_posix() in done.stderr
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)


def test_a_sweep_needs_a_commit(committed: Path) -> None:
    shutil.rmtree(".git")
    done = run(*TINY)
    assert done.returncode == 1
    assert done.stderr == (
        "thaw.sweep: expected a git repository with a commit, which experiments need; commit the project first\n"
    )


def test_the_default_grid_is_sound_and_leaves_nothing_beside_its_folder(committed: Path) -> None:
    # Hydra shows what it would do; nothing is run.
    done = run(*TINY, "--cfg", "hydra")
    shown = yaml.safe_load(done.stdout)["hydra"]
    assert (shown["mode"], shown["output_subdir"], shown["job"]["chdir"]) == ("MULTIRUN", None, False)
    assert shown["sweep"]["dir"].startswith(".thaw/")
    params = [f"{key}={value}" for key, value in shown["sweeper"]["params"].items()]
    assert len(params) == 2 and all("," in param for param in params)
    for param in params:
        key, choices = param.split("=")
        for choice in choices.split(","):
            load.compose([f"{key}={choice}"])
    left = git("status", "--porcelain", "--ignored").splitlines()
    assert [line for line in left if not line.endswith("__pycache__/")] == []


def test_the_table_puts_the_best_first_and_the_failed_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun().write(tmp_path)
    record(tmp_path, "1e-05", 0.5)
    record(tmp_path, "0.0001", 0.25)
    record(tmp_path, "0.1", None, "it diverged [nan]")
    assert multirun.conclude(tmp_path)
    *_, out = capsys.readouterr().out.partition("trial")
    rows = out.splitlines()
    assert "failed: phase2.learning_rate=0.1: it diverged [nan]" in out
    cells = [row.split() for row in rows if row.rstrip().endswith("-0")]
    assert [row[0] for row in cells][:2] == ["0.0001", "1e-05"]
    assert cells[-1] == ["0.1", "failed", "rate=0.1-0"]


def test_a_sweep_that_runs_already_is_not_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = "from thaw.sweep import supervisor; print(supervisor.myself(), flush=True); input()"
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    written = begun(other.stdout.readline().strip())
    multirun._claim(Path("one"), written)
    multirun._claim(Path("one"), written)  # by itself
    with pytest.raises(ValueError, match=f"this sweep runs already, process {other.pid}"):
        multirun._claim(Path("one"), begun(supervisor.myself()))
    other.communicate("\n")
    multirun._claim(Path("one"), begun(supervisor.myself()))
    assert plan.SweepPlan.read(Path("one")) == begun(supervisor.myself())
    begun("another host|1|0").write(Path("one"))  # of which nothing is known
    multirun._claim(Path("one"), begun(supervisor.myself()))


@pytest.fixture
def lost(finished_sweep: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a sweep of this process, whose launcher loses a job as soon as it is called."""
    replace(plan.SweepPlan.of(finished_sweep), owner=supervisor.myself(), parent="one").write(finished_sweep)

    class LostError(Exception):
        """As submitit and joblib raise them, each with one of its own."""

    def lose() -> None:
        raise LostError("Job 7 has not produced any output\nJob's stderr:\n …")

    monkeypatch.setattr(hydra, "main", lambda **_: lambda _: lose)
    monkeypatch.setattr(sys, "argv", ["thaw.sweep"])
    monkeypatch.setattr(multirun, "STOPS", ())
    return finished_sweep


def ends(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The runs in MLflow that are ended from now on, and how."""
    found: list[tuple[str, str]] = []

    def end(_: object, parent: str, __: object, status: str = "FINISHED") -> None:
        found.append((parent, status))

    monkeypatch.setattr(sweep_run, "end", end)
    return found


def test_a_sweep_whose_launcher_loses_a_job_ends_with_what_is_there(
    lost: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = ends(monkeypatch)
    (lost / "report.html").unlink(missing_ok=True)
    with pytest.raises(SystemExit) as stopped:
        multirun.main()
    assert str(stopped.value) == (
        "thaw.sweep: LostError: Job 7 has not produced any output; the same command goes on with what is missing"
    )
    assert len(records.read_csv(lost / "table.csv")) == 5
    assert (lost / "report.html").is_file()
    assert "Proposed: lr=0.0001 depth=40" in capsys.readouterr().out
    assert ended == [("one", "FAILED")]


def test_what_is_raised_before_a_sweep_has_begun_is_not_hidden(lost: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun("another host|1|0").write(lost)
    with pytest.raises(Exception, match="Job 7"):
        multirun.main()
    assert not (lost / "table.csv").exists()


def test_hydra_does_not_go_on_after_what_it_would_only_warn_of(
    lost: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("of a bug")

    ended = ends(monkeypatch)
    composed = OmegaConf.create({"hydra": {"sweep": {"dir": lost.as_posix()}}})
    callback = multirun.Trials(retry_failed=False)
    for name, call in (("begin", callback.on_multirun_start), ("propose", callback.on_multirun_end)):
        monkeypatch.setattr(multirun, name, fail)
        with pytest.raises(SystemExit) as stopped:
            call(composed)
        assert stopped.value.code == 1
        assert "KeyError: 'of a bug'" in capsys.readouterr().err
    assert ended == [("one", "FAILED")] * 2


def rows(split: str) -> list[dict[str, str]]:
    """The manifest's rows of a split, as a trial has them."""
    commit = experiments.head()
    ref = git("for-each-ref", "--count=1", "--format=%(refname)", f"refs/exps/{commit[:2]}/{commit[2:]}/").strip()
    manifest = experiments.cached(ref.rsplit("/", 1)[1], paths.MANIFEST)
    assert manifest is not None
    return [row for row in csv.DictReader(manifest.decode().splitlines()) if row["split"] == split]


def wait_for(found: Callable[[], Any], seconds: float = 120) -> Any:
    """What ``found`` gives, as soon as it gives something."""
    end = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
    return result


@pytest.mark.slow
def test_a_sweep_computes_what_is_shared_once_and_is_resumed_for_nothing(committed: Path) -> None:
    depths = "phase2.unfreeze=none,block_7a,nonsense"
    before = {path: path.read_bytes() for path in (paths.PARAMS, Path("dvc.yaml"))}
    first = run(*TINY, depths, "phase2.learning_rate=1e-5")
    assert first.returncode == 1, first.stderr  # one trial has failed, and the others have not been stopped by it
    assert "failed: phase2.unfreeze=nonsense: phase" in first.stdout and "received 'nonsense'" in first.stdout

    commit = experiments.head()
    names = git("for-each-ref", "--format=%(refname)", f"refs/exps/{commit[:2]}/{commit[2:]}/").split()
    assert [name.rsplit("/", 1)[1].rsplit("-", 1)[0] for name in names] == [
        "phase2.unfreeze=block_7a",
        "phase2.unfreeze=none",
    ]
    (folder,) = Path(".thaw/sweeps").iterdir()
    logs = "".join(path.read_text() for path in folder.glob("*.log"))
    # What is expensive is computed once. `prepare` remembers its splits, so DVC has no run cache for it and each
    # trial runs it, to the same bytes; what it found out about the files is remembered too.
    assert logs.count("Running stage 'phase1_head'") == 1
    assert "Running stage 'phase1_head'" in next(folder.glob("shared-*.log")).read_text()
    assert logs.count("Running stage 'prepare'") == 1 + 3
    (passed,) = timings.lines(what="extraction")
    assert passed["count"] == 2 * len(rows("train")) + len(rows("val"))
    for name in names:
        params = yaml.safe_load(git("show", f"{name}:params.yaml"))
        assert f"={params['phase2']['unfreeze']}-" in name
        stage = "phase1_head" if "=none" in name else experiments.TARGET
        figures = json.loads(git("show", f"{name}:{paths.metrics(stage).as_posix()}"))
        assert f"accuracy {figures['val_accuracy']:.1%}, loss {figures['val_loss']:.4f}" in first.stdout

    # The workspace is as it was, and each trial is in the main repository's MLflow, not in its deleted copy's.
    assert before == {path: path.read_bytes() for path in before}
    assert git("status", "--porcelain") == ""
    client = MlflowClient("sqlite:///mlflow.db")
    experiment = client.get_experiment_by_name("thaw")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if run.data.tags.get(sweep_run.KIND) == "sweep")
    assert parent.info.status == "FINISHED"
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} == {"report.html", "table.csv"}
    children = {run.data.tags["dvc.exp_name"]: run for run in runs if run is not parent}
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    kept = {name for name, run in children.items() if run.info.status == "FINISHED"}
    assert kept == {name.rsplit("/", 1)[1] for name in names}
    assert sorted(run.info.run_name for run in children.values()) == ["depth=block_7a", "depth=none", "depth=nonsense"]

    table = (folder / "table.csv").read_bytes()
    again = run(*TINY, depths, "phase2.learning_rate=1e-5")
    assert again.returncode == 1
    assert again.stdout.count("finished before: ") == 2
    assert again.stdout.count("failed before: ") == 1
    assert len(client.search_runs([experiment.experiment_id])) == len(runs)
    assert (folder / "table.csv").read_bytes() == table

    retried = run(*TINY, depths, "phase2.learning_rate=1e-5", multirun.RETRY)
    assert retried.stdout.count("finished before: ") == 2
    assert "failed before" not in retried.stdout
    assert (folder / "table.csv").read_bytes() == table


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_leaves_no_orphan_and_no_lock(committed: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(sweep_command(*TINY, *GRID), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: [log for log in Path(".thaw").rglob("*.log") if "Running stage 'phase1_head'" in log.read_text()])
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 2  # DVC and its stage
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors == "thaw.sweep: interrupted; the same command goes on with what is missing\n"
    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert git("status", "--porcelain") == git("stash", "list") == ""
    assert list(Path(".dvc/tmp/exps/standalone").glob("tmp*")) == []  # nor a copy of the project
    # Without --wait-for-lock: a lock that is left over would end it.
    subprocess.run([sys.executable, "-m", "dvc", "repro", "prepare"], check=True, capture_output=True)


@pytest.mark.slow
def test_a_sweep_that_was_killed_outright_leaves_nothing_behind_and_goes_on(committed: Path) -> None:
    (committed / "data" / "mine.txt").write_text("not in git\n")
    before = git("status", "--porcelain")
    process = subprocess.Popen(sweep_command(*TINY, *GRID), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: [log for log in Path(".thaw").rglob("*.log") if "Running stage 'phase2" in log.read_text()])
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 3  # the leash, DVC and its stage
    process.kill()
    process.wait()
    (folder,) = Path(".thaw/sweeps").iterdir()
    supervisor.settle(folder.resolve().as_posix())
    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert git("status", "--porcelain") == before
    assert git("stash", "list") == ""
    assert list(Path(".dvc/tmp/exps/standalone").glob("tmp*")) == []

    done = run(*TINY, *GRID)
    assert done.returncode == 0, done.stderr
    assert "kept from before: phase 1" in done.stdout
    assert len((folder / "table.csv").read_text().splitlines()) == 3
    assert len(list(timings.lines(what="upstream"))) == len(list(timings.lines(what="extraction"))) == 1


def objects() -> dict[str, dict[str, str]]:
    """By rate, the hashes of what each experiment's phases have made."""
    found, commit = {}, experiments.head()
    for ref in git("for-each-ref", "--format=%(refname)", f"refs/exps/{commit[:2]}/{commit[2:]}/").split():
        lock, params = (yaml.safe_load(git("show", f"{ref}:{name}")) for name in ("dvc.lock", "params.yaml"))
        stages = {name: lock["stages"][name]["outs"] for name in ("phase1_head", experiments.TARGET)}
        made = {out["path"]: out["md5"] for outs in stages.values() for out in outs}
        found[str(params["phase2"]["learning_rate"])] = made
        git("update-ref", "-d", ref)
    return found


@pytest.mark.slow
def test_a_sweep_a_queue_and_a_loop_of_experiments_make_the_same_objects(committed: Path) -> None:
    assert run(*TINY, *GRID).returncode == 0
    swept = objects()
    assert sorted(swept) == ["0.0001", "1e-05"]
    # So that nothing is restored.
    for folder in (".dvc/cache", ".thaw"):
        shutil.rmtree(folder)
    fixed = [word for override in (*TINY, "phase2.unfreeze=20") for word in ("-S", override)]
    dvc = [sys.executable, "-m", "dvc", "exp", "run"]
    subprocess.run([*dvc, "--queue", *fixed, "-S", GRID[0], experiments.TARGET], check=True, capture_output=True)
    subprocess.run([*dvc, "--run-all"], check=True, capture_output=True)
    assert objects() == swept
    for folder in (".dvc/cache", ".thaw"):
        shutil.rmtree(folder)
    for rate in ("1e-5", "1e-4"):
        words = [*dvc, *fixed, "-S", f"phase2.learning_rate={rate}", experiments.TARGET]
        subprocess.run(words, check=True, capture_output=True)
    assert objects() == swept


@pytest.mark.slow
def test_eight_trials_at_once_all_succeed_and_say_what_they_say_one_by_one(committed: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="an extra")
    rates = "phase2.learning_rate=1e-5,2e-5,3e-5,4e-5,5e-5,6e-5,7e-5,8e-5"
    done = run(*TINY, rates, "phase2.unfreeze=20", "hydra/launcher=parallel", "hydra.launcher.n_jobs=8")
    assert done.returncode == 0, done.stderr
    (folder,) = Path(".thaw/sweeps").iterdir()
    table = records.read_csv(folder / "table.csv")
    assert len(table) == 8 and not any(row["failure"] for row in table)
    assert len(list(timings.lines(what="extraction"))) == 1
    for name in (row["trial"] for row in table):
        experiments.forget(name)
    shutil.rmtree(".dvc/cache/runs")
    alone = run(*TINY, "phase2.learning_rate=3e-5", "phase2.unfreeze=20")
    assert alone.returncode == 0, alone.stderr
    (again,) = (
        records.read_csv(path)[0] for path in Path(".thaw/sweeps").glob("*/table.csv") if path.parent != folder
    )
    (before,) = (row for row in table if row["phase2.learning_rate"] == "3e-05")
    assert again["trial"][-8:] == before["trial"][-8:]
    assert again["val_loss"] == before["val_loss"]


@pytest.fixture
def at_once(committed: Path) -> Iterator[tuple[subprocess.Popen[str], list[Path]]]:
    """A sweep of four trials, two at once, and the logs of the two that run."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="an extra")
    rates = ("phase2.learning_rate=1e-5,2e-5,3e-5,4e-5", "phase2.unfreeze=20")
    words = sweep_command(*TINY, *rates, "hydra/launcher=parallel", "hydra.launcher.n_jobs=2")
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )

    def two() -> list[Path]:
        logs = [path for path in Path(".thaw").rglob("*.log") if not path.name.startswith("shared-")]
        return logs if sum("Running stage" in path.read_text() for path in logs) == 2 else []

    yield process, wait_for(two, 300)
    process.kill()


@pytest.mark.slow
def test_trials_at_once_end_in_order_on_ctrl_c_and_no_others_begin(
    at_once: tuple[subprocess.Popen[str], list[Path]],
) -> None:
    process, logs = at_once
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the workers too
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.endswith("thaw.sweep: interrupted; the same command goes on with what is missing\n")
    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert git("status", "--porcelain") == git("stash", "list") == ""
    assert list(Path(".dvc/tmp/exps/standalone").glob("tmp*")) == []
    (folder,) = Path(".thaw/sweeps").iterdir()
    assert [path.name for path in folder.glob("*.json")] == [results.PLAN]  # none is finished, none has failed
    later = [path for path in folder.glob("*.log") if path not in logs and not path.name.startswith("shared-")]
    assert later == []


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_its_sweep_in_one_line(
    at_once: tuple[subprocess.Popen[str], list[Path]],
) -> None:
    process, _ = at_once
    family = psutil.Process(process.pid).children(recursive=True)
    leashes = [each for each in family if "thaw.sweep.supervisor" in each.cmdline()]
    psutil.Process(leashes[0].ppid()).kill()
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].endswith("; the same command goes on with what is missing")
    assert "look: " in out
    assert psutil.wait_procs(family, timeout=60)[1] == []


@pytest.mark.parametrize(
    ("preset", "package"), [("launcher=nonesuch", ""), ("launcher=parallel", "hydra-joblib-launcher")]
)
def test_a_preset_whose_extra_is_missing_says_what_to_install(project: Path, preset: str, package: str) -> None:
    # As if it were not installed: Hydra looks for plugins in this package.
    hide = (
        "import types, sys; sys.modules['hydra_plugins'] = types.ModuleType('hydra_plugins'); "
        "sys.modules['hydra_plugins'].__path__ = []; from thaw.sweep import multirun as sweep; sweep.main()"
    )
    words = [sys.executable, "-c", hide, f"hydra/{preset}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    if package:
        remedy = f"install it with `{extras.install('joblib')}`"
        assert done.stderr == f"thaw.sweep: expected the package {package}, found none; {remedy}\n"
        Path("requirements").mkdir()
        multirun.LOCK.touch()
        assert multirun.install(package) == multirun.INSTALL
    else:
        assert "nonesuch" in done.stderr


def test_each_extra_that_is_named_is_one_of_the_package() -> None:
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for package in multirun.EXTRAS.values():
        assert any(each.startswith(package) for each in stated[multirun.EXTRA[package]])
