from pathlib import Path

import pytest

from thaw import paths


def test_every_path_is_relative_to_the_project() -> None:
    files = [value for value in vars(paths).values() if isinstance(value, Path)]
    files += [
        paths.metrics("x"),
        paths.history("x"),
        paths.predictions("phase1"),
        paths.probabilities("phase1"),
    ]
    files += [paths.confusion_picture("phase1")]
    assert len(files) > 15
    assert not any(path.is_absolute() for path in files)
    assert len(set(files)) == len(files)


def test_stages_and_phases_have_files_of_their_own() -> None:
    assert paths.metrics("prepare") == Path("metrics/prepare.json")
    assert paths.history("phase1_head") == Path("metrics/phase1_head_history.csv")
    for name in (paths.predictions, paths.probabilities, paths.confusion_picture):
        assert name("phase1") != name("phase2")
        assert name("phase1").parent == paths.EVALUATION


def test_what_runs_share_belongs_to_the_main_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert paths.main_root() == tmp_path.resolve()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    assert paths.main_root() == (tmp_path / "main").resolve()
    monkeypatch.setenv("DVC_ROOT", "")
    assert paths.main_root() == tmp_path.resolve()


def test_an_address_is_read_through_a_folder_of_the_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    folder, table = paths.local("s3://bucket/set"), paths.local("s3://bucket/set/list.csv")
    assert folder.parent == tmp_path / paths.REMOTE and table == folder / "list.csv"
    assert paths.local("s3://bucket/set/") == folder != paths.local("s3://bucket/other")
    assert paths.is_listing("s3://bucket/set/list.csv") and not paths.is_listing("s3://bucket/set")
    assert paths.images_root("s3://bucket/set/list.csv") == paths.images_root("s3://bucket/set") == folder
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))  # isolated experiments share it
    assert paths.local("s3://bucket/set").is_relative_to(tmp_path / "main")
    assert not paths.is_remote("data/raw") and paths.local("data/raw") == Path("data/raw")
