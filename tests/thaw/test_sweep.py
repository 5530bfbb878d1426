"""Sweeps in a copy of the project, with the real git, Hydra and DVC; the slow ones train."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from mlflow import MlflowClient

from thaw import config, layout, records, sweep

ROOT = Path(__file__).resolve().parents[2]
TINY = (
    "data=folder",
    "image=px64",
    "augment.views=2",
    "phase1.epochs=1",
    "phase2.epochs=1",
    "backbone.weights=random",
)
STAGE_FAILED = (
    "Running stage 'phase1_head':\n> python -m x\n{said}"
    "ERROR: failed to reproduce 'phase1_head': failed to run: python -m x, exited with 1\n"
)
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
    shutil.copyfile(ROOT / ".dvc" / ".gitignore", ".dvc/.gitignore")  # or DVC would write it
    git("add", ".")
    git("commit", "--quiet", "--message=images")
    return project


@pytest.fixture
def values(committed: Path) -> dict[str, Any]:
    """What a trial is configured with."""
    composed = yaml.safe_load(config.compose(TINY))
    assert isinstance(composed, dict)
    return composed


def record(folder: Path, rate: str, loss: float | None, failure: str = "") -> None:
    """Write what a trial leaves behind."""
    figures = {} if loss is None else {"val_loss": loss, "val_accuracy": 0.5, "best_epoch": 3}
    overrides = [f"phase2.learning_rate={rate}", "phase1.epochs=2"]
    trial = {"name": f"rate={rate}-0", "overrides": overrides, "shown": overrides[0], "figures": figures}
    records.write_json(folder / f"{rate}.json", trial | {"failure": failure, "log": "a.log"})


@pytest.mark.parametrize(
    "overrides",
    [
        ["phase2.learning_rate=3e-05", "phase2.unfreeze=block_6a"],
        ["+experiment=article", "data.raw='my images/ä:b~1^2?.lock'"],
        ["head.units=[256,128]", "~phase1", "a..b@{0}\\.lock"],
        ["head.units=[" + ",".join(["256"] * 100) + "]"],
    ],
)
def test_a_name_is_one_that_git_takes(values: dict[str, Any], overrides: list[str]) -> None:
    name = sweep.trial_name(overrides, values)
    git("check-ref-format", f"refs/exps/ab/cd/{name}")
    assert len(name.encode()) < 250 and "/" not in name and not name.startswith("-")


def test_a_name_can_be_read(values: dict[str, Any]) -> None:
    name = sweep.trial_name(["phase2.learning_rate=3e-05", "phase2.unfreeze=40"], values)
    assert re.fullmatch(r"phase2\.learning_rate=3e-05,phase2\.unfreeze=40-[0-9a-f]{8}", name)


def test_a_name_changes_with_what_could_change_the_result_and_with_nothing_else(values: dict[str, Any]) -> None:
    def name() -> str:
        return sweep.trial_name(["phase2.unfreeze=40"], values)

    start = name()
    values["compute"]["cache_gb"] += 1
    values["tracking"]["enabled"] = not values["tracking"]["enabled"]
    values["compiled_from"] = "another"
    shutil.rmtree(layout.METRICS, ignore_errors=True)
    assert name() == start

    seen = {start}
    values["phase1"]["seed"] += 1
    seen.add(name())
    with Path("thaw/head.py").open("a") as file:
        file.write("# changed\n")
    seen.add(name())
    next(Path("data/raw").rglob("*.png")).write_bytes(b"")
    seen.add(name())
    shutil.copyfile("data/raw/class_0/01.png", "data/raw/class_0/new.png")
    seen.add(name())
    assert len(seen) == 5


def test_a_finished_trial_is_found_on_this_commit_under_any_name(committed: Path) -> None:
    records.write_json(layout.metrics("phase1_head"), {"val_loss": 0.5, "val_accuracy": 0.75})
    records.write_json(layout.metrics(sweep.TARGET), {"val_loss": 0.25})
    git("add", "-f", layout.METRICS.as_posix())
    tree, commit = git("write-tree").strip(), sweep.head()
    made = git("commit-tree", tree, "-m", "experiment").strip()
    git("update-ref", f"refs/exps/{commit[:2]}/{commit[2:]}/a=1,b=2-12345678", made)
    assert sweep.finished("a=1-12345678") == ("a=1,b=2-12345678", {"val_loss": 0.25, "val_accuracy": 0.75})
    assert sweep.finished("a=1-12345679") is None
    git("commit", "--quiet", "--message=next")
    assert sweep.finished("a=1-12345678") is None


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (STAGE_FAILED.format(said="I0000 noise\nphase1_head: no such depth\n"), "phase1_head: no such depth"),
        (STAGE_FAILED.format(said=""), "failed to reproduce 'phase1_head': failed to run: python -m x, exited with 1"),
        ("WARNING: what\nERROR: you are not inside of a DVC repository\n", "you are not inside of a DVC repository"),
        ("Traceback …\nMemoryError\n\n", "MemoryError"),
        ("", "it ended without a word"),
    ],
)
def test_the_reason_of_a_failure_is_found_in_the_log(log: str, reason: str) -> None:
    assert sweep.reason(log) == reason


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["phase2.learning_rat=1e-5,1e-4"], "phase2.learning_rat: no such key; did you mean phase2.learning_rate?"),
        (["phase2.learning_rat=1e-5"], "phase2.learning_rat: no such key; did you mean phase2.learning_rate?"),
        (["phase2.epochs=1,many"], "phase2.epochs: Value 'many' of type 'str' could not be converted to Integer"),
        (["phase2.warmup=0.1,0.7"], "phase2.warmup: expected 0 to 0.5, received 0.7 (trial "),
        (
            ["phase2.learning_rate=1e-4,1e-2"],
            "phase2.learning_rate: expected a rate below phase1.learning_rate (0.001)",
        ),
        (["augment=light,ligth"], "ligth"),
        (["phase2.epochs=range(0,3)"], "phase2.epochs: expected 1 to 1000, received 0"),
        (["phase2.learning_rate=interval(1e-5,1)"], "phase2.learning_rate: expected a rate below"),
        (["phase2.epochs"], "phase2.epochs: expected key=value or group=option"),
        (["data.raw=data/mine"], "data.raw: expected data/mine to be known to DVC or git"),
    ],
)
def test_a_bad_value_ends_the_sweep_in_one_line_before_any_trial(
    committed: Path, overrides: list[str], message: str
) -> None:
    done = run(*TINY, *overrides)
    assert message in done.stderr
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert not Path(".thaw").exists() and not Path(".dvc/tmp").exists()
    assert git("status", "--porcelain") == ""


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
            config.compose([f"{key}={choice}"])
    assert git("status", "--porcelain", "--ignored").split() == []


def test_the_table_puts_the_best_first_and_the_failed_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records.write_json(tmp_path / sweep.PLAN, {"trials": 3, "swept": {"phase2.learning_rate": []}})
    record(tmp_path, "1e-05", 0.5)
    record(tmp_path, "0.0001", 0.25)
    assert not sweep.conclude(tmp_path)
    record(tmp_path, "0.1", None, "it diverged [nan]")
    assert sweep.conclude(tmp_path)
    *_, out = capsys.readouterr().out.partition("trial")
    rows = out.splitlines()
    assert "python -m thaw.config phase2.learning_rate=0.0001 phase1.epochs=2 && dvc repro export" in out
    assert "failed: phase2.learning_rate=0.1: it diverged [nan]" in out
    cells = [row.split() for row in rows if row.rstrip().endswith("-0")]
    assert [row[0] for row in cells][:2] == ["0.0001", "1e-05"]
    assert cells[-1] == ["0.1", "failed", "rate=0.1-0"]


def test_a_stop_ends_a_trial_with_all_that_it_has_started() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stderr=subprocess.DEVNULL)
    family = wait_for(lambda: psutil.Process(process.pid).children(recursive=True))
    sweep._stop(process)
    assert process.poll() is not None
    assert psutil.wait_procs(family, timeout=30)[1] == []


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
    before = {path: path.read_bytes() for path in (layout.PARAMS, Path("dvc.yaml"))}
    first = run(*TINY, depths, "phase2.learning_rate=1e-5")
    assert first.returncode == 1, first.stderr  # one trial has failed, and the others have not been stopped by it
    assert "failed: phase2.unfreeze=nonsense: phase" in first.stdout and "received 'nonsense'" in first.stdout

    commit = sweep.head()
    names = git("for-each-ref", "--format=%(refname)", f"refs/exps/{commit[:2]}/{commit[2:]}/").split()
    assert [name.rsplit("/", 1)[1].rsplit("-", 1)[0] for name in names] == [
        "phase2.unfreeze=block_7a",
        "phase2.unfreeze=none",
    ]
    (folder,) = Path(".thaw/sweeps").iterdir()
    logs = "".join(path.read_text() for path in folder.glob("*.log"))
    assert logs.count("Running stage 'prepare'") == logs.count("Running stage 'phase1_head'") == 1
    for name in names:
        trial = yaml.safe_load(git("show", f"{name}:params.yaml"))
        assert f"={trial['phase2']['unfreeze']}-" in name
        stage = "phase1_head" if "=none" in name else sweep.TARGET
        figures = json.loads(git("show", f"{name}:{layout.metrics(stage).as_posix()}"))
        assert f"accuracy {figures['val_accuracy']:.1%}, loss {figures['val_loss']:.4f}" in first.stdout

    # The workspace is as it was, and each trial is in the main repository's MLflow, not in its deleted copy's.
    assert before == {path: path.read_bytes() for path in before}
    assert git("status", "--porcelain") == ""
    client = MlflowClient("sqlite:///mlflow.db")
    experiment = client.get_experiment_by_name("thaw")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    kept = {run.info.run_name for run in runs if run.info.status == "FINISHED"}
    assert kept == {name.rsplit("/", 1)[1] for name in names}

    again = run(*TINY, "phase2.unfreeze=none,block_7a", "phase2.learning_rate=1e-5")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("finished before: ") == 2
    assert len(client.search_runs([experiment.experiment_id])) == len(runs)


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
    # Without --wait-for-lock: a lock that is left over would end it.
    subprocess.run([sys.executable, "-m", "dvc", "repro", "prepare"], check=True, capture_output=True)
