"""Stages that are killed, interrupted and started again, as processes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from stages import phase1_head, prepare
from thaw import paths
from thaw.classifier import model
from thaw.config import load

OPTIONS = (
    "data=folder",
    "image=px64",
    "image.size=32",
    "backbone.weights=random",
    "augment.views=2",
    "phase1.epochs=3",
)
# Long enough to be killed in, however fast the processor is.
MORE = (
    "phase2.epochs=400",
    "phase2.schedule=constant",
    "phase2.patience=400",
    "phase2.unfreeze=top",
    "phase2.mixup=0.2",
)
MADE = (
    paths.PHASE2 / model.WEIGHTS,
    paths.validation(paths.PHASE2),
    paths.BLOCKS,
    paths.metrics("phase2_finetune"),
    paths.history("phase2_finetune"),
)
PATIENCE = 900  # seconds, on a machine that others use too


@pytest.fixture
def phase1(project: Path, tiny_images: Path) -> Path:
    paths.PARAMS.write_text(load.compose([*OPTIONS, *MORE, "tracking.enabled=false"]), encoding="utf-8", newline="\n")
    prepare.main()
    phase1_head.main()
    return project


@contextmanager
def started() -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-m", "stages.phase2_finetune"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def run() -> None:
    with started() as process:
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said


def checkpoints() -> list[Path]:
    return sorted(paths.CHECKPOINTS.glob("*.npz"))


def in_training(process: subprocess.Popen[str], moment: float) -> None:
    """Wait until a checkpoint is written, and for some seconds more."""
    before = [path.stat().st_mtime_ns for path in checkpoints()]
    end = time.monotonic() + PATIENCE
    while [path.stat().st_mtime_ns for path in checkpoints()] == before and time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    time.sleep(moment)


def counted() -> list[int]:
    """How many images each training that came to its end has trained on."""
    lines = [json.loads(line) for line in paths.LEDGER.read_text(encoding="utf-8").splitlines()]
    return [line["count"] for line in lines if line["what"] == "phase2"]


@pytest.mark.slow
@pytest.mark.usefixtures("phase1")
def test_what_was_killed_and_interrupted_ends_with_the_bytes_of_what_was_not() -> None:
    run()
    expected = {path: path.read_bytes() for path in MADE}
    assert checkpoints() == []
    for path in MADE:
        path.unlink()

    moments = random.Random(0)  # noqa: S311 -- moments, not secrets
    for number in (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        with started() as process:
            in_training(process, moments.uniform(0, 0.5))
            process.send_signal(number)
            if number == signal.SIGINT:
                process.send_signal(number)
            _, said = process.communicate(timeout=PATIENCE)
        if number == signal.SIGTERM:
            assert process.returncode == 130 and said.count("\n") == 1 and "interrupted" in said
        assert process.returncode in (130, -number) and "Traceback" not in said
        (kept,) = checkpoints()
        assert sorted(paths.CHECKPOINTS.iterdir()) == [kept]
    run()
    assert {path: path.read_bytes() for path in MADE} == expected
    assert list(paths.CHECKPOINTS.iterdir()) == []
    whole, rest = counted()
    assert 0 < rest < whole


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_runs_what_must_be_run_and_says_one_line(number: signal.Signals, tmp_path: Path) -> None:
    # A shell gives what it starts in the background an interrupt that is ignored.
    code = """
import signal
import time
from pathlib import Path
from thaw.config import load

signal.signal(signal.SIGINT, signal.default_int_handler)

def main():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        Path("closed").touch()

load.run(main, "stage")
"""
    words = [sys.executable, "-c", code]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and (tmp_path / "closed").exists()
    assert said == "stage: interrupted; the same command goes on with what is done\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stage_ends_with_the_dvc_that_started_it(number: signal.Signals, tmp_path: Path) -> None:
    code = """
import time
from thaw import pipes

def main():
    print("ready", flush=True)
    time.sleep(60)

pipes.run(main, "stage")
"""
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}], check=False)"
    words = [sys.executable, "-c", parent]
    told = os.environ | {"DVC_STAGE": "stage"}
    with subprocess.Popen(words, cwd=tmp_path, env=told, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        (child,) = psutil.Process(process.pid).children()
        process.send_signal(number)
        process.wait(30)
        assert psutil.wait_procs([child], timeout=120) == ([child], [])
