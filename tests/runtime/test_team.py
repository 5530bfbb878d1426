"""Who shares a training is what ``TF_CONFIG`` or Slurm says, and ``compute.workers`` agrees with that."""

import json
import os
from pathlib import Path

import pytest

from thaw.runtime import team

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_PROCID": "2",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_STEP_NODELIST": "node[2,10]",
    "SLURM_STEP_TASKS_PER_NODE": "2,1",
}


@pytest.fixture(autouse=True)
def _nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TF_CONFIG", *SLURM):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def _slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set up what a task of a step finds: its variables, and the tool that knows the nodes."""
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    tool = tmp_path / "scontrol"
    tool.write_text('#!/bin/sh\n[ "$*" = "show hostnames node[2,10]" ] && printf "node2\\nnode10\\n"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)


def config(index: int, kind: str = "worker", **cluster: list[str]) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    "said", ["", "{}", "no JSON", "[]", "null", config(0, worker=["a:1"]), config(9, worker=["a:1"])]
)
def test_one_process_is_alone_whatever_is_said_of_one(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("TF_CONFIG", said)
    for asked in (1, "all"):
        assert team.named(asked) == team.Team() and team.named(asked).is_chief and team.named(asked).count == 1


@pytest.mark.parametrize(
    ("said", "number"),
    [
        (config(0, worker=["a:1", "b:1"]), 0),
        (config(1, worker=["a:1", "b:1"]), 1),
        (config(0, "chief", worker=["b:1"], chief=["a:1"]), 0),
        (config(0, "worker", worker=["b:1"], chief=["a:1"]), 1),
    ],
)
def test_the_first_worker_is_the_chief(monkeypatch: pytest.MonkeyPatch, said: str, number: int) -> None:
    monkeypatch.setenv("TF_CONFIG", said)
    for asked in (2, "all"):
        found = team.named(asked)
        assert found.addresses == ("a:1", "b:1") and found.number == team.number(asked) == number
        assert found.is_chief == (number == 0)
    assert team.number(1) == 0


@pytest.mark.usefixtures("_slurm")
def test_a_slurm_step_names_its_tasks_where_workers_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    first = team.FIRST_PORT + 7 * team.PORTS
    assert (
        team.named("all") == team.named(3) == team.Team((f"node2:{first}", f"node2:{first + 1}", f"node10:{first}"), 2)
    )
    assert team.named(1) == team.Team() and team.number(1) == 0  # a step that shares nothing


def test_another_number_than_is_named_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ValueError, match=r"^compute\.workers: expected as many as TF_CONFIG names, 1, received 2; set"
    ):
        team.named(2)
    monkeypatch.setenv("TF_CONFIG", config(0, worker=["a:1", "b:1"]))
    for asked in (1, 3):
        with pytest.raises(ValueError, match=rf"names, 2, received {asked}; set compute\.workers=2"):
            team.named(asked)


@pytest.mark.usefixtures("_slurm")
def test_slurm_without_its_tool_or_with_another_number_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"Slurm's step names, 3, received 2; set compute\.workers=3"):
        team.named(2)
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "1(x2)")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert [address.partition(":")[0] for address in team.named("all").addresses] == ["node2", "node10"]
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match=r"expected the nodes of Slurm's step from scontrol show hostnames node"):
        team.named("all")
