"""Whole runs of projects by the command: what a script reads, an experiment after it, two at the same time."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import make_images
from thaw import paths, records
from thaw.project import create

# Small enough that most of a run is imports. In each project the stages are the installed package's.
TINY = ("image=px64", "image.size=32", "backbone.weights=random", "augment=none", "head=linear", "phase1.epochs=1")
MORE = ("phase2.epochs=1", "phase2.unfreeze=top", "export.formats=[onnx]", "evaluate.robustness=0")
THAW = (sys.executable, "-m", "thaw")


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of commands: git knows who commits, and no repository around the tests counts."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "test")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "test@example.com")
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def ended(words: tuple[str, ...], folder: Path, env: dict[str, str]) -> str:
    """Return what a command writes to standard output; it must not fail."""
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def values(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((folder / paths.PARAMS).read_text(encoding="utf-8"))
    return read


@pytest.mark.slow
def test_a_script_reads_the_outcome_alone_and_an_experiment_comes_after_it(
    tmp_path: Path, tiny_images: Path, surroundings: dict[str, str]
) -> None:
    folder = create.make(tmp_path / "mine", str(tiny_images), [*TINY, *MORE]).folder
    told = json.loads(ended((*THAW, "run", "--json"), folder, surroundings))
    assert (folder / told["report"]).is_file() and (folder / told["model"] / paths.ONNX_FILE).is_file()
    assert told["verdict"] == records.read_json(folder / paths.VERDICT)["text"]
    tested = records.read_json(folder / paths.metrics("evaluate"))
    assert told["phase2"]["accuracy"] == tested["phase2"]["accuracy"] and told["phase1"]["images"] > 0
    assert json.loads(ended((*THAW, "explain", "--json"), folder, surroundings))["stale"] == {}

    for words in (("git", "add", "."), ("git", "commit", "--quiet", "--message=run")):
        ended(words, folder, surroundings)
    remembered = (folder / paths.CHOSEN).read_bytes()
    rate = 3 * values(folder)["phase2"]["learning_rate"]
    said = ended(("dvc", "exp", "run", "--name", "faster", "-S", f"phase2.learning_rate={rate}"), folder, surroundings)
    assert [
        stage for stage in ("prepare", "phase1_head", "phase2_finetune") if f"Running stage '{stage}'" in said
    ] == ["phase2_finetune"]
    assert values(folder)["phase2"]["learning_rate"] == pytest.approx(rate)
    assert (folder / paths.CHOSEN).read_bytes() == remembered
    assert "faster" in ended(("dvc", "exp", "list", "--name-only"), folder, surroundings).split()


@pytest.mark.slow
def test_two_projects_run_at_the_same_time_in_one_environment_with_one_cache(
    tmp_path: Path, surroundings: dict[str, str]
) -> None:
    cache = f"compute.cache_dir={tmp_path / 'cache'}"
    folders = {}
    for name, classes in (("beetles", 2), ("shells", 3)):
        make_images(tmp_path / f"images of {name}", classes=classes)
        images = str(tmp_path / f"images of {name}")
        folders[name] = create.make(tmp_path / name, images, [*TINY, *MORE, cache]).folder
    running = {
        name: subprocess.Popen(
            (*THAW, "run", "--json"), cwd=folder, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for name, folder in folders.items()
    }
    for name, process in running.items():
        out, err = process.communicate()
        assert process.returncode == 0, err.decode()
        assert Path(folders[name] / json.loads(out)["report"]).is_file()
    told = [len(records.read_json(folder / paths.CLASSES)["classes"]) for folder in folders.values()]
    assert told == [2, 3]
    # Each alone has what it made in git's and DVC's eyes, and nothing is stale.
    for folder in folders.values():
        assert json.loads(ended((*THAW, "explain", "--json"), folder, surroundings))["stale"] == {}
        assert (folder / "mlflow.db").is_file()
