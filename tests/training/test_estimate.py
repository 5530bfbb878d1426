from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from thaw import paths, records, timings
from thaw.classifier import model
from thaw.config import load
from thaw.training import estimate

ROOT = Path(__file__).resolve().parents[2]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
PROJECT = load.check(PARAMS)
CARD = model.Card(PROJECT.backbone, "", PROJECT.image, PROJECT.head, ["a", "b"])
IMAGES = 3200  # 100 steps an epoch


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths.PARAMS.write_text(yaml.safe_dump(PARAMS), encoding="utf-8")


def said(share: float = 0.5, **changes: object) -> str:
    return estimate.phase2(CARD, replace(PROJECT.phase2, **changes), share, IMAGES)  # type: ignore[arg-type]


def test_what_phase_two_took_here_before_at_the_same_depth_tells_most() -> None:
    assert "a guess" in said()
    timings.note("extraction", count=100, seconds=1.0)
    # Three times half of a pass of 10 ms and one more in training, for 3,200 images: 52.8 s an epoch.
    assert said() == (
        "about 17 min 36 s for 20 epochs, at most about 35 min 12 s for 40, by what the frozen layers took here"
    )
    records.write_json(paths.AUTO_DEPTH, {"unfreeze": "75%", "reason": ""})
    timings.note("phase2", count=100, seconds=2.0)
    assert said().startswith("about 21 min 20 s for 20 epochs") and said().endswith("by what phase 2 took here before")
    records.write_json(paths.AUTO_DEPTH, {"unfreeze": "30%", "reason": ""})
    assert said().startswith("about 17 min 36 s ")  # another depth was not measured


def test_the_estimate_is_bounded_by_minutes_and_of_a_cosine_it_is_all_epochs() -> None:
    timings.note("extraction", count=100, seconds=1.0)
    assert said(minutes=1) == "at most about 1 min 0 s, by what the frozen layers took here"
    assert said(minutes=18).startswith("about 17 min 36 s for 20 epochs, at most about 18 min 0 s ")
    assert said(schedule="cosine", epochs=10).startswith("at most about 8 min 48 s, ")


def test_who_thaws_more_is_told_of_more_time() -> None:
    timings.note("extraction", count=100, seconds=1.0)
    assert said(0.1).startswith("about 3 min 31 s ") and said(1.0).startswith("about 35 min 12 s ")


def test_of_few_images_more_epochs_are_usual_and_allowed() -> None:
    timings.note("extraction", count=100, seconds=1.0)
    line = estimate.phase2(CARD, PROJECT.phase2, 0.5, 320)  # 10 steps
    assert line.startswith("about 11 min 16 s for 128 epochs, at most about 22 min 32 s for 256, ")
    assert [PROJECT.phase2.most_epochs(images) for images in (1, 160, 2048, 100_000)] == [300, 300, 40, 40]
    assert replace(PROJECT.phase2, epochs=3).most_epochs(20) == 3
