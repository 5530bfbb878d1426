"""Names and tags of runs in MLflow."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from thaw import paths, records
from thaw.tracking import naming, pipeline

PARAMS: dict[str, Any] = {
    "compiled_from": "1",
    "data": {"raw": "/somewhere/flowers", "seed": 0},
    "backbone": {"name": "efficientnet_lite0", "weights": "package"},
    "phase1": {"epochs": 30},
    "phase2": {"unfreeze": "auto", "learning_rate": 3e-4, "epochs": 40},
    "tracking": {"uri": ""},
}


def changed(**groups: dict[str, Any]) -> dict[str, Any]:
    return PARAMS | {name: PARAMS[name] | fields for name, fields in groups.items()}


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository whose last commit has ``PARAMS``."""
    monkeypatch.chdir(tmp_path)
    paths.PARAMS.write_text(yaml.safe_dump(PARAMS), encoding="utf-8")
    who = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    for words in (("init", "--quiet"), ("add", "."), (*who, "commit", "--quiet", "--message=start")):
        subprocess.run(["git", *words], check=True)


def test_a_label_is_short_and_says_no_two_things_alike() -> None:
    assert naming.label(["phase2.learning_rate=3e-05", "phase2.unfreeze=block_13"]) == "lr=3e-05 depth=block_13"
    assert naming.label(["phase1.seed=1", "phase2.seed=2", "head=linear"]) == "phase1.seed=1 phase2.seed=2 head=linear"
    assert naming.label(["+experiment=article"]) == "experiment=article"
    assert naming.label([]) == ""
    assert naming.label(["~phase1", "head=linear"]) == "~phase1 head=linear"


@pytest.mark.usefixtures("committed")
def test_a_run_is_named_by_what_is_otherwise_than_in_the_last_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    assert (
        naming.title(PARAMS) == f"efficientnet_lite0 {head[:7]}"
    )  # or all runs of a settled project are called alike
    other = changed(phase2={"learning_rate": 1e-4, "unfreeze": "30%"}, tracking={"uri": "x"}, data={"raw": "a/b"})
    other["compiled_from"] = "2"
    assert naming.title(other) == "raw=b depth=30% lr=0.0001"
    assert naming.title(changed(phase1={"epochs": 5}, phase2={"epochs": 6})) == "phase1.epochs=5 phase2.epochs=6"
    monkeypatch.setenv("DVC_EXP_NAME", "tonal-pony")  # DVC's own
    assert naming.title(other) == "raw=b depth=30% lr=0.0001"
    assert naming.title(PARAMS) == "tonal-pony"
    monkeypatch.setenv("DVC_EXP_NAME", "warm")
    assert naming.title(other) == "warm"
    monkeypatch.setenv(pipeline.TRIAL, json.dumps({"label": "lr=1"}))
    assert naming.title(other) == "lr=1"


def test_without_a_commit_the_network_is_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert naming.title(PARAMS) == "efficientnet_lite0" and naming.differences(PARAMS) == []


def test_runs_are_filtered_by_images_network_depth_and_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = {"thaw.data": "flowers", "thaw.backbone": "efficientnet_lite0", "thaw.depth": "auto"}
    assert naming.filters(PARAMS) == expected
    assert naming.judged("evaluate") == {}
    records.write_json(paths.VERDICT, {"helped": "yes", "ship": "phase2", "text": "It helped.", "difference": {}})
    told = {"thaw.helped": "yes", "thaw.ship": "phase2", naming.NOTE: "It helped."}
    assert naming.judged("evaluate") == told and naming.judged("export") == {}
