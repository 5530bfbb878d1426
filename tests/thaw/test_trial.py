"""Names, results and ends of single trials, with the real git; tests/thaw/test_sweep.py runs whole ones."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from thaw import config, layout, leash, records, trial

STAGE_FAILED = (
    "Running stage 'phase1_head':\n> python -m x\n{said}"
    "ERROR: failed to reproduce 'phase1_head': failed to run: python -m x, exited with 1\n"
)


def git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def values(project: Path, tiny_images: Path) -> dict[str, Any]:
    """What a trial is configured with."""
    composed = yaml.safe_load(config.compose(["data=folder"]))
    assert isinstance(composed, dict)
    return composed


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
    name = trial.trial_name(overrides, values)
    git("check-ref-format", f"refs/exps/ab/cd/{name}")
    assert len(name.encode()) < 250 and "/" not in name and not name.startswith("-")


def test_a_name_can_be_read(values: dict[str, Any]) -> None:
    name = trial.trial_name(["phase2.learning_rate=3e-05", "phase2.unfreeze=40"], values)
    assert re.fullmatch(r"phase2\.learning_rate=3e-05,phase2\.unfreeze=40-[0-9a-f]{8}", name)


def test_a_name_changes_with_what_could_change_the_result_and_with_nothing_else(values: dict[str, Any]) -> None:
    def name() -> str:
        return trial.trial_name(["phase2.unfreeze=40"], values)

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


def test_a_finished_trial_is_found_on_this_commit_under_any_name(project: Path) -> None:
    records.write_json(layout.metrics("phase1_head"), {"val_loss": 0.5, "val_accuracy": 0.75})
    records.write_json(layout.metrics(trial.TARGET), {"val_loss": 0.25})
    git("add", "-f", layout.METRICS.as_posix())
    tree, commit = git("write-tree").strip(), trial.head()
    made = git("commit-tree", tree, "-m", "experiment").strip()
    git("update-ref", f"refs/exps/{commit[:2]}/{commit[2:]}/a=1,b=2-12345678", made)
    assert trial.finished("a=1-12345678") == ("a=1,b=2-12345678", {"val_loss": 0.25, "val_accuracy": 0.75})
    assert trial.finished("a=1-12345679") is None
    git("commit", "--quiet", "--message=next")
    assert trial.finished("a=1-12345678") is None


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
    assert trial.reason(log) == reason


def test_a_stop_ends_a_trial_with_all_that_it_has_started() -> None:
    # Ctrl-C means something to them also where these tests run in the background of a shell that has it ignored.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    inner = heard + "import time; print('started', flush=True); time.sleep(60)"
    code = heard + f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"started"
        family = psutil.Process(process.pid).children(recursive=True)
        assert family
        leash.stop(process)
        assert process.poll() is not None
    assert psutil.wait_procs(family, timeout=30)[1] == []
