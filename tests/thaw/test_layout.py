from pathlib import Path

import pytest

from thaw import layout


def test_every_path_is_relative_to_the_project() -> None:
    paths = [value for value in vars(layout).values() if isinstance(value, Path)]
    paths += [layout.metrics("x"), layout.history("x"), layout.predictions("phase1"), layout.probabilities("phase1")]
    paths += [layout.confusion_picture("phase1")]
    assert len(paths) > 15
    assert not any(path.is_absolute() for path in paths)
    assert len(set(paths)) == len(paths)


def test_stages_and_phases_have_files_of_their_own() -> None:
    assert layout.metrics("prepare") == Path("metrics/prepare.json")
    assert layout.history("phase1_head") == Path("metrics/phase1_head_history.csv")
    for name in (layout.predictions, layout.probabilities, layout.confusion_picture):
        assert name("phase1") != name("phase2")
        assert name("phase1").parent == layout.EVALUATION


def test_what_runs_share_belongs_to_the_main_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert layout.main_root() == tmp_path.resolve()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    assert layout.main_root() == (tmp_path / "main").resolve()
    monkeypatch.setenv("DVC_ROOT", "")
    assert layout.main_root() == tmp_path.resolve()
