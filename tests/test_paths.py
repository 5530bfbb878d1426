from pathlib import Path

import pytest

from thaw import paths as project_paths


def test_every_path_is_relative_to_the_project() -> None:
    paths = [value for value in vars(project_paths).values() if isinstance(value, Path)]
    paths += [
        project_paths.metrics("x"),
        project_paths.history("x"),
        project_paths.predictions("phase1"),
        project_paths.probabilities("phase1"),
    ]
    paths += [project_paths.confusion_picture("phase1")]
    assert len(paths) > 15
    assert not any(path.is_absolute() for path in paths)
    assert len(set(paths)) == len(paths)


def test_stages_and_phases_have_files_of_their_own() -> None:
    assert project_paths.metrics("prepare") == Path("metrics/prepare.json")
    assert project_paths.history("phase1_head") == Path("metrics/phase1_head_history.csv")
    for name in (project_paths.predictions, project_paths.probabilities, project_paths.confusion_picture):
        assert name("phase1") != name("phase2")
        assert name("phase1").parent == project_paths.EVALUATION


def test_what_runs_share_belongs_to_the_main_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert project_paths.main_root() == tmp_path.resolve()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    assert project_paths.main_root() == (tmp_path / "main").resolve()
    monkeypatch.setenv("DVC_ROOT", "")
    assert project_paths.main_root() == tmp_path.resolve()
