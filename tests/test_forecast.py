"""How long what follows `prepare` may take."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from stages import prepare
from thaw import forecast, paths, timings
from thaw.config import load, schema, tracked

ROOT = Path(__file__).resolve().parents[1]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
SPLITS = {"train": {"images": 3200}, "val": {"images": 600}, "test": {"images": 600}}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    PARAMS["augment"]["views"] = 2
    PARAMS["phase1"]["epochs"] = 30
    PARAMS["phase2"] |= {"unfreeze": "50%", "epochs": 0, "batch_size": 32, "minutes": 0}
    paths.PARAMS.write_text(yaml.safe_dump(PARAMS), encoding="utf-8")


def said(**phase2: object) -> str:
    project: schema.Project = load.check(PARAMS)
    project.phase2 = replace(project.phase2, **phase2)  # type: ignore[arg-type]
    return forecast.after_prepare(project, SPLITS)


def test_before_anything_was_timed_a_guess_is_said_and_called_so() -> None:
    # 7,000 passes of 10 ms at 224 pixels, and three times half of one of 11 for 3,200 images in 40 epochs.
    PARAMS["image"]["size"] = 224
    assert said() == (
        "what follows takes at most about 36 min 32 s, as nothing was measured here yet, a guess: 7,000 views through "
        "the frozen layers (1 min 10 s), 30 epochs of phase 1 (9.6 s), 40 epochs of phase 2 (about 17 min 36 s for 20 "
        "epochs, at most about 35 min 12 s for 40); then test and export"
    )
    assert "40 epochs of phase 2 (at most about 5 min 0 s)" in said(minutes=5)
    assert "phase 2" not in said(unfreeze="none")
    assert "about 35 min 12 s for 20" in said(unfreeze="all") and "about 26 min 24 s for 20" in said(unfreeze="auto")
    PARAMS["image"]["size"] = 64
    assert "frozen layers (5.7 s)" in said() and "(about 2 min 54 s for 20" in said()  # a step saves less than a pass


def test_what_earlier_runs_took_here_tells_the_time() -> None:
    timings.note("extraction", count=100, seconds=1.0)
    assert said().startswith(
        "what follows takes at most about 36 min 32 s, by what the frozen layers took here: 7,000 "
    )
    timings.note("phase1", count=100, seconds=0.01)
    timings.note("phase2", count=100, seconds=2.0)
    assert said() == (
        "what follows takes at most about 44 min 0 s, by what it took here before: 7,000 views through the frozen "
        "layers (1 min 10 s), 30 epochs of phase 1 (9.6 s), 40 epochs of phase 2 (about 21 min 20 s for 20 epochs, at "
        "most about 42 min 40 s for 40); then test and export"
    )
    assert said(minutes=5).startswith("what follows takes at most about 6 min 20 s, ")
    assert said(unfreeze="none").startswith("what follows takes at most about 1 min 20 s, ")
    assert "about 26 min 24 s for 20" in said(unfreeze="75%")  # another depth: three times its share of a pass


def test_the_fields_of_the_estimate_make_prepare_not_stale() -> None:
    params = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["prepare"]["params"]
    assert params == ["data"]
    _, values = load.groups(prepare.Config)
    assert set(tracked.of_stage("prepare", {name: values[name] for name in ("data", "image", "phase2")})) == {"data"}
