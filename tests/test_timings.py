"""What is remembered of earlier runs, and what is made of it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from thaw import paths, timings

PARAMS: dict[str, Any] = {
    "backbone": {"name": "efficientnet_lite0"},
    "image": {"size": 64},
    "phase2": {"unfreeze": 20},
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_nothing_is_known_before_something_was_measured_and_nothing_is_noted_outside_of_a_project() -> None:
    timings.note("extraction", count=10, seconds=1.0)
    assert not paths.LEDGER.exists()
    assert timings.seconds_each("extraction") is None
    assert timings.seconds_around("trial") is None


def test_the_seconds_for_an_image_are_the_median_of_those_of_the_same_kind() -> None:
    paths.PARAMS.write_text(yaml.safe_dump(PARAMS))
    for seconds in (1.0, 2.0, 30.0):
        timings.note("extraction", count=10, seconds=seconds)
    timings.note("phase2", count=10, seconds=100.0)
    assert timings.seconds_each("extraction", **timings.about(PARAMS)) == 0.2
    assert timings.seconds_each("extraction", size=224) is None
    for _ in range(timings.NEWEST):
        timings.note("extraction", count=10, seconds=5.0)
    assert timings.seconds_each("extraction") == 0.5


def test_what_a_trial_took_beside_its_work_on_images(monkeypatch: pytest.MonkeyPatch) -> None:
    paths.PARAMS.write_text(yaml.safe_dump(PARAMS))
    monkeypatch.setenv("DVC_EXP_NAME", "a trial")
    timings.note("phase2", count=10, seconds=4.0)
    monkeypatch.delenv("DVC_EXP_NAME")
    timings.note("phase2", count=10, seconds=5.0)
    inside = timings.inside("a trial", 0)
    assert inside == 4
    assert timings.inside("a trial", 1e12) == 0
    timings.write("trial", PARAMS, seconds=10, inside=inside)
    assert timings.seconds_around("trial") == 6


def test_a_line_that_a_crash_has_cut_off_is_passed_over() -> None:
    timings.write("extraction", PARAMS, count=10, seconds=1.0)
    with paths.LEDGER.open("a") as file:
        file.write('{"what": "extr\n')
    timings.write("extraction", PARAMS, count=10, seconds=1.0)
    assert len(list(timings.lines(what="extraction"))) == 2


def test_an_isolated_experiment_writes_to_the_main_repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = folder / "copy"
    copy.mkdir()
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(folder))
    timings.write("phase1", PARAMS, count=1, seconds=1.0)
    assert (folder / paths.LEDGER).is_file()
    assert not (copy / paths.LEDGER).exists()
