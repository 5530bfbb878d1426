import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from dvc.repo import Repo
from dvc_data.hashfile.build import build
from dvc_objects.fs.local import localfs

from thaw import paths, records
from thaw.tracking import dvc_lock, mirrored, pipeline

PARAMS: dict[str, Any] = {
    "backbone": {"name": "efficientnet_lite0"},
    "head": {"units": [128, 64]},
    "phase2": {"unfreeze": "40", "learning_rate": 1e-4},
}
ALL = ["prepare", "phase1_head", "phase2_finetune", "evaluate", "export"]
WEIGHTS1, WEIGHTS2 = paths.PHASE1 / "model.weights.h5", paths.PHASE2 / "model.weights.h5"
INPUTS: dict[str, list[Path]] = {
    "prepare": [],
    "phase1_head": [paths.MANIFEST],
    "phase2_finetune": [paths.MANIFEST, WEIGHTS1],
    "evaluate": [WEIGHTS1, WEIGHTS2],
    "export": [WEIGHTS2],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a project in which every stage but sample has run."""
    monkeypatch.chdir(tmp_path)
    for path in (paths.MANIFEST, WEIGHTS1, WEIGHTS2):
        write(path, path.as_posix())
    for stage, inputs in INPUTS.items():
        record(stage, {"figure": 1}, inputs)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def record(stage: str, figures: dict[str, Any], inputs: list[Path]) -> None:
    records.write_json(paths.metrics(stage), figures | {"made_from": records.made_from(inputs)})


def valid(stage: str, *, finished: bool = True, params: dict[str, Any] = PARAMS) -> list[str]:
    return dvc_lock.valid(stage, params, finished=finished)


# Which records belong to the run


@pytest.mark.usefixtures("folder")
def test_a_stage_that_begins_looks_at_those_before_it_and_one_that_ends_at_all_that_still_hold() -> None:
    assert valid("phase2_finetune", finished=False) == ["prepare", "phase1_head"]
    assert valid("phase2_finetune") == ALL


@pytest.mark.usefixtures("folder")
def test_a_record_made_from_another_file_is_out_of_date_and_so_is_each_after_it() -> None:
    write(WEIGHTS1, "trained again")
    assert valid("phase1_head") == ["prepare", "phase1_head"]
    assert valid("export") == ["prepare", "phase1_head"]


@pytest.mark.usefixtures("folder")
def test_a_record_made_from_a_file_that_is_gone_is_out_of_date() -> None:
    WEIGHTS2.unlink()
    assert valid("export") == ["prepare", "phase1_head", "phase2_finetune"]


@pytest.mark.usefixtures("folder")
def test_a_missing_record_hides_no_later_one() -> None:
    paths.metrics("phase1_head").unlink()
    assert valid("export") == ["prepare", "phase2_finetune", "evaluate", "export"]


@pytest.mark.usefixtures("folder")
def test_a_later_record_that_names_no_file_cannot_be_told_to_belong() -> None:
    record("evaluate", {}, [])
    assert valid("phase2_finetune") == ["prepare", "phase1_head", "phase2_finetune"]
    assert valid("export") == ALL


@pytest.mark.parametrize(
    ("rate", "code", "holds"),
    [(1e-4, "old", True), ("1e-4", "old", True), (2e-4, "old", False), (1e-4, "new", False)],
)
@pytest.mark.usefixtures("folder")
def test_a_later_record_must_agree_with_the_code_and_parameters_that_dvc_locked(
    rate: float | str, code: str, holds: bool
) -> None:
    write(Path("code.py"), code)
    lock = """\
        schema: '2.0'
        stages:
          phase2_finetune:
            cmd: python -m stages.phase2_finetune
            deps:
            - path: code.py
              hash: md5
              md5: 149603e6c03516362a8da23f624db945
            - path: data/prepared
              hash: md5
              md5: 00000000000000000000000000000000.dir
            params:
              params.yaml:
                phase2:
                  unfreeze: '40'
                  learning_rate: 1e-04
                head.units: [128, 64]
        """
    write(paths.DVC_LOCK, textwrap.dedent(lock))
    params = PARAMS | {"phase2": {"unfreeze": "40", "learning_rate": rate}}
    assert ("phase2_finetune" in valid("phase1_head", params=params)) is holds
    assert valid("phase2_finetune", params=params) == ALL  # what it has just made itself needs no lock


@pytest.mark.usefixtures("folder")
def test_a_later_record_must_agree_with_the_packages_that_dvc_locked() -> None:
    write(Path("thaw/images/decoding.py"), "A = 1\n")
    write(Path("thaw/images/__init__.py"), "")
    cache, folder = Repo.init(no_scm=True).cache.local, str(Path("thaw/images").absolute())
    _, _, hashed = build(cache, folder, localfs, "md5", dry_run=True)  # as DVC does for dvc.lock
    lock = f"""\
        stages:
          phase2_finetune:
            deps:
            - {{path: thaw/images, hash: md5, md5: {hashed.hash_info.value}}}
        """
    write(paths.DVC_LOCK, textwrap.dedent(lock))
    assert "phase2_finetune" in valid("phase1_head", params=PARAMS)
    write(Path("thaw/images/__pycache__/decoding.pyc"), "what Python leaves")
    assert "phase2_finetune" in valid("phase1_head", params=PARAMS)
    write(Path("thaw/images/decoding.py"), "A = 2\n")
    assert "phase2_finetune" not in valid("phase1_head", params=PARAMS)


@pytest.mark.usefixtures("folder")
def test_a_parameter_that_no_longer_exists_differs_from_the_locked_one() -> None:
    lock = "stages: {phase2_finetune: {params: {params.yaml: {phase2.unfreeze: '40'}}}}"
    write(paths.DVC_LOCK, lock)
    assert "phase2_finetune" in valid("phase1_head")
    assert "phase2_finetune" not in valid("phase1_head", params={"phase2": "40"})


# What a run is told by


def test_by_hand_a_run_is_told_by_folder_parameters_and_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pipeline.identity(PARAMS)
    assert pipeline.identity(PARAMS) == first
    assert first[1] == 0
    assert pipeline.identity(PARAMS | {"head": {"units": [1]}}) != first
    before = paths.MANIFEST.read_text(encoding="utf-8")
    write(paths.MANIFEST, "other data")
    assert pipeline.identity(PARAMS) != first
    write(paths.MANIFEST, before)
    assert pipeline.identity(PARAMS) == first
    elsewhere = folder / "elsewhere"
    write(elsewhere / paths.MANIFEST, before)
    monkeypatch.chdir(elsewhere)
    assert pipeline.identity(PARAMS) != first


CHILD = "from thaw.tracking import pipeline; print(*pipeline.identity({'head': 1}))"
# A script called dvc is what DVC's own process looks like. It starts two stages through a shell, as DVC does.
DVC = """\
import os, subprocess, sys
print(os.getpid(), flush=True)
for _ in range(2):
    subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
"""


def test_under_dvc_all_stages_of_one_dvc_process_are_one_run(tmp_path: Path) -> None:
    script = tmp_path / "dvc"
    script.write_text(DVC, encoding="utf-8")
    project = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": str(project), "DVC_STAGE": "phase1_head", "DVC_EXP_NAME": "warm"}
    seen = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(script), CHILD], env=environment, capture_output=True, text=True, check=True
        )
        number, first, second = done.stdout.splitlines()
        assert first == second
        assert f":{number}:warm " in first
        seen.append(first)
    assert seen[0] != seen[1]


def test_a_runs_process_has_ended_if_it_is_gone_or_another_has_its_number() -> None:
    me, host = psutil.Process(), pipeline.identity(PARAMS)[0].split(":")[0]
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert pipeline.ended(f"{host}:{gone.pid}:", time.time())
    assert pipeline.ended(f"{host}:{me.pid}:warm", me.create_time() - 60)
    assert not pipeline.ended(f"{host}:{me.pid}:warm", me.create_time() + 1)
    # Of these nothing is known here.
    assert not pipeline.ended(f"not-{host}:{gone.pid}:", time.time())
    assert not pipeline.ended(pipeline.identity(PARAMS)[0], 0)


def test_without_dvcs_mark_no_ancestor_is_taken_for_dvc() -> None:
    assert pipeline.dvc_process() is None


def test_the_experiments_name_is_a_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "warm-up")
    assert pipeline.tags("key")["dvc.exp_name"] == "warm-up"


def git(*words: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    return subprocess.run(["git", *identity, *words], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.usefixtures("folder")
def test_the_commit_is_told_and_only_changes_that_the_run_did_not_make_itself_count() -> None:
    git("init", "--quiet")
    write(Path("code.py"), "one")
    git("add", ".")
    git("commit", "--quiet", "--message=first")
    head = git("rev-parse", "HEAD")
    assert pipeline.commit() == (head, False)
    write(paths.metrics("evaluate"), "{}")
    write(paths.PARAMS, "a: 1")
    write(paths.DVC_LOCK, "stages: {}")
    assert pipeline.commit() == (head, False)
    write(Path("code.py"), "two")
    assert pipeline.commit() == (head, True)
    assert pipeline.tags("key") == {
        "thaw.pipeline": "key",
        "thaw.project": pipeline.project(),
        "mlflow.source.name": Path.cwd().name,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": head,
        "thaw.git_dirty": "true",
    }


def test_without_a_commit_there_is_none_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert pipeline.commit() is None
    git("init", "--quiet")
    assert pipeline.commit() is None
    source = {"mlflow.source.name": Path.cwd().name, "mlflow.source.type": "LOCAL"}
    assert pipeline.tags("key") == {"thaw.pipeline": "key", "thaw.project": pipeline.project(), **source}
    monkeypatch.setenv("PATH", "")
    assert pipeline.commit() is None


# What of a record goes to MLflow


def test_leaves_are_named_by_the_way_to_them() -> None:
    tree = {"a": {"b": {"c": 1}, "d": [1, 2]}, "e": None, "f": {}}
    assert list(pipeline.leaves(tree, ".")) == [("a.b.c", 1), ("a.d", [1, 2]), ("e", None)]


@pytest.mark.usefixtures("folder")
def test_figures_are_the_numbers_only_under_names_that_mlflow_takes() -> None:
    figures = {"loss": 0.5, "best": {"mouse (grey)": 3}, "sure": True, "text": "x", "list": [1]}
    record("phase1_head", figures, [paths.MANIFEST])
    assert mirrored.figures("phase1_head") == {"phase1_summary/loss": 0.5, "phase1_summary/best/mouse _grey_": 3.0}
    record("evaluate", {"phase1": {"a": 1}, "phase2": {"a": 2}, "difference": {"a": 3}, "images": 4}, [])
    assert mirrored.figures("evaluate") == {
        "test_phase1/a": 1.0,
        "test/a": 2.0,
        "test_difference/a": 3.0,
        "test/images": 4.0,
    }
    judged = {"text": "x", "smallest_difference": None, "difference": {"points": 5.4}, "baselines": {"knn": {"k": 5}}}
    records.write_json(paths.VERDICT, judged)
    found = mirrored.figures("evaluate")
    assert found["test_baselines/knn/k"] == 5.0 and found["test_verdict/difference/points"] == 5.4
    assert len(found) == 6


@pytest.mark.usefixtures("folder")
def test_the_curves_of_phase_2_go_on_where_phase_1_has_ended() -> None:
    assert mirrored.curves("phase1_head") == []
    records.write_csv(paths.history("phase1_head"), ["epoch", "loss"], [{"epoch": 1, "loss": 3.0}])
    rows: list[dict[str, Any]] = [
        {"epoch": 1, "loss": 2.0, "val_loss": ""},
        {"epoch": 2, "loss": 1.0, "val_loss": 4.0},
    ]
    records.write_csv(paths.history("phase2_finetune"), ["epoch", "loss", "val_loss"], rows)
    assert mirrored.curves("phase1_head") == [("phase1/loss", 1, 3.0), ("both_phases/loss", 1, 3.0)]
    assert mirrored.curves("phase2_finetune") == [
        ("phase2/loss", 2, 2.0),
        ("both_phases/loss", 2, 2.0),
        ("phase2/loss", 3, 1.0),
        ("both_phases/loss", 3, 1.0),
        ("phase2/val_loss", 3, 4.0),
        ("both_phases/val_loss", 3, 4.0),
    ]
    assert mirrored.curves("evaluate") == []


@pytest.mark.usefixtures("folder")
def test_only_files_that_are_there_are_named() -> None:
    assert mirrored.files("evaluate") == [(paths.metrics("evaluate"), "metrics")]
    for path in (paths.VERDICT, paths.ROBUSTNESS):
        write(path, "figures")
    write(paths.CURVES, "picture")
    write(paths.REPORT, "<html>")
    write(paths.DATA_REPORT, "<html>")
    assert mirrored.files("evaluate") == [
        (paths.metrics("evaluate"), "metrics"),
        (paths.VERDICT, "metrics"),
        (paths.ROBUSTNESS, "metrics"),
        (paths.CURVES, "pictures"),
        (paths.REPORT, "report"),
        (paths.DATA_REPORT, "report"),
    ]
    assert mirrored.files("sample") == []


def test_the_chart_of_both_phases_has_no_points_of_training_from_scratch() -> None:
    """Its first epochs have the numbers of phase 1's, whose curve would go up and down between the two."""
    assert [name for name, _, _ in mirrored.points("phase1", "val_loss", 1, 0.5)] == [
        "phase1/val_loss",
        f"{mirrored.TOGETHER}/val_loss",
    ]
    assert mirrored.points("scratch", "val_loss", 1, 2.5) == [("scratch/val_loss", 1, 2.5)]
