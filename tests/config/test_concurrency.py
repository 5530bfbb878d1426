"""Tests of what another run under way keeps from being written, and of what a stage notices at its end."""

import argparse
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.conftest import set_params
from thaw import paths
from thaw.api import runs
from thaw.commands import run
from thaw.config import composition, concurrency, load, schema


@dataclass
class Config:
    """As a stage declares them."""

    phase1: schema.Phase1
    data: schema.Data
    compute: schema.Compute


@contextmanager
def under_way(held: str, pid: int) -> Iterator[None]:
    """Leave what another DVC leaves while it runs a stage, or between two."""
    concurrency.USED.parent.mkdir(parents=True, exist_ok=True)
    info = {"pid": pid, "cmd": "dvc repro"}
    used = {"write": {"models": info}, "read": {}} if held == "write" else {"write": {}, "read": {"data": [info]}}
    concurrency.USED.write_text(json.dumps(used if held != "lock" else {}))
    with concurrency.LOCK.open("w") as lock:
        if held == "lock":
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def configured() -> tuple[bytes, bool]:
    return paths.PARAMS.read_bytes(), paths.CHOSEN.read_text().count("phase2") > 0


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("held", ["write", "read", "lock"])
def test_nothing_is_written_under_a_run(held: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "WAIT", 0.0)
    before, made = configured(), composition.Composition([], ["phase2.epochs=3"], "compiled: now\n")
    with under_way(held, os.getppid()):
        with pytest.raises(ValueError, match="expected no run under way"):
            composition.remember(made)
        assert configured() == before
    with under_way("write", 2**22 + 1):  # a process that is no more
        composition.remember(made)
    assert configured() == (b"compiled: now\n", True)


@pytest.mark.usefixtures("tiny_images")
def test_a_second_run_with_a_choice_changes_nothing_under_the_first(project: Path) -> None:
    before, words = configured(), ["data=folder", "phase2.epochs=3"]
    with under_way("write", os.getppid()):
        with pytest.raises(ValueError, match="expected no run under way"):
            run.run(argparse.Namespace(choices=words, reset=False, fast=False, json=False))
        with pytest.raises(ValueError, match="expected no run under way"):
            runs._configure(project, words)
    assert configured() == before


@pytest.mark.parametrize(
    ("stage", "changed", "fails"),
    [
        ("phase1_head", {}, False),
        ("phase1_head", {"phase1": {"epochs": 9}}, True),
        ("phase1_head", {"data": {"seed": 9}}, False),  # which it reads and DVC does not track for it
        ("prepare", {"data": {"seed": 9}}, True),
        ("phase1_head", {"phase2": {"epochs": 9}}, False),  # which it was not given
        ("phase1_head", {"compute": {"cache_dir": "elsewhere"}}, False),
        ("phase1_head", {"compute": {"deterministic": False}}, True),  # tracked alone
    ],
)
@pytest.mark.usefixtures("project")
def test_a_stage_fails_whose_values_have_changed_when_it_ends(
    stage: str, changed: dict[str, dict[str, object]], fails: bool
) -> None:
    def main() -> None:
        load.groups(Config)
        for group, fields in changed.items():
            values = yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))[group]
            assert all(values[name] != value for name, value in fields.items())
            set_params(**{group: fields})

    if fails:
        with pytest.raises(SystemExit) as error:
            load.run(main, stage)
        assert f"received another {next(iter(changed))};" in str(error.value)
    else:
        load.run(main, stage)
