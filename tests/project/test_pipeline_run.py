"""The pipeline run by DVC."""

import subprocess
import sys
from pathlib import Path

import pytest

from thaw.config import concurrency
from thaw.project import pipeline_run


@pytest.fixture
def dvc_project(tmp_path: Path) -> Path:
    """A DVC repository with one stage."""
    for words in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(words, cwd=tmp_path, check=True)
    (tmp_path / "dvc.yaml").write_text("stages:\n  one:\n    cmd: echo x > made.txt\n    outs: [made.txt]\n")
    return tmp_path


@pytest.mark.parametrize("left", ["", '{"a": {"rea'])
def test_a_list_of_used_files_that_a_kill_has_left_half_written_stops_nothing(
    dvc_project: Path, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_run, "WRITING", 0.01)
    used = dvc_project / concurrency.USED
    used.parent.mkdir(parents=True, exist_ok=True)
    used.write_text(left)
    alone = subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=dvc_project, check=False, capture_output=True)
    assert alone.returncode != 0, "DVC mends it by itself: `mend_list` may go"
    pipeline_run.reproduce(dvc_project, quiet=True)
    assert (dvc_project / "made.txt").read_text() == "x\n"


def test_a_list_that_can_be_read_stays(dvc_project: Path) -> None:
    used = dvc_project / concurrency.USED
    used.parent.mkdir(parents=True, exist_ok=True)
    used.write_text("{}")
    pipeline_run.mend_list(dvc_project)
    assert used.read_text() == "{}"
