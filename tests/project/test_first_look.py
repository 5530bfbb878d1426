"""A first look: a sample of the images, a short run, nothing changed. And `thaw run` around it."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from thaw import paths, records
from thaw.api import runs
from thaw.commands import cli, explain
from thaw.config import composition, load, schema
from thaw.data.table import Entry
from thaw.data.table import read as read_table
from thaw.project import first_look, pipeline_run


def test_the_sample_has_as_many_of_each_class_and_is_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_look, "IMAGES", 60)
    entries = [Entry(f"{label}/{index}.png", label) for label in "abc" for index in range(50 if label < "c" else 5)]
    taken = first_look.draw(entries)
    counts = [sum(entry.label == label for entry in taken) for label in "abc"]
    assert counts == [20, 20, 5]
    assert taken == first_look.draw(entries[::-1])


def test_the_folder_holds_a_table_of_the_images_where_they_lie_and_short_phases(
    project: Path, tiny_images: Path
) -> None:
    composition.configure(["evaluate.scratch=true"])
    settings, values = load.read()
    entries = [
        Entry(path.relative_to(tiny_images).as_posix(), path.parent.name) for path in tiny_images.rglob("*.png")
    ]
    own = Path("stages/phase1_head.py")
    own.write_text(f"{own.read_text(encoding='utf-8')}\nMINE = 1\n", encoding="utf-8")
    first_look.write(tiny_images.relative_to(project), first_look.draw(entries), settings, values)
    assert (first_look.FOLDER / own).read_bytes() == own.read_bytes()
    found, missing = read_table(first_look.FOLDER / "images.csv")
    assert len(found) == 36 and missing == []
    changed = yaml.safe_load((first_look.FOLDER / paths.PARAMS).read_text(encoding="utf-8"))
    assert not settings.augment.is_clean
    assert (
        changed["phase2"]["minutes"] == 0.25
        and load.check(changed).augment.is_clean
        and changed["augment"]["views"] == 1
        and not changed["tracking"]["enabled"]
    )
    assert (
        changed["phase1"] == values["phase1"]
    )  # a head that has not learnt tells nothing, and its epochs cost nothing
    assert values["evaluate"]["scratch"] and not changed["evaluate"]["scratch"]
    assert changed["compute"]["cache_dir"] == str(project / ".thaw" / "activations")
    assert load.read()[1] == values


def test_the_outcome_is_the_verdict_where_there_is_one(tmp_path: Path) -> None:
    figures = {"accuracy": 0.5, "accuracy_low": 0.25, "accuracy_high": 0.75, "images": 8}
    records.write_json(
        tmp_path / paths.metrics("evaluate"), {"phase1": figures, "phase2": figures | {"accuracy": 0.625}}
    )
    first = pipeline_run.lines(pipeline_run.outcome(tmp_path))[0]
    assert first == "verdict: test accuracy 50.0% (25.0% to 75.0%) after phase 1, 62.5% (25.0% to 75.0%) after phase 2"
    records.write_json(tmp_path / paths.METRICS / "verdict.json", {"text": "Fine-tuning helped.", "ship": "phase2"})
    found = pipeline_run.outcome(tmp_path)
    assert pipeline_run.lines(found)[0] == "verdict: Fine-tuning helped." and found["ship"] == "phase2"
    assert found["model"] is None


def test_run_outside_of_a_project_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["thaw", "run"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert str(ended.value.code).startswith("thaw run: expected a project, with dvc.yaml and conf/, received ")


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """Run the command; return what it ended with, empty if it did not."""
    monkeypatch.setattr(sys, "argv", ["thaw", *words])
    try:
        cli.main()
    except SystemExit as ended:
        return str(ended.code)
    return ""


def test_images_that_are_not_there_are_missed_before_anything_runs(
    project: Path, tiny_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline_run.check_images("data/raw")
    tiny_images.rename(project / "elsewhere")
    missed = r"found nothing at .*raw; put them there, or name them: thaw run data\.raw=PATH"
    with pytest.raises(ValueError, match=missed):
        pipeline_run.check_images("data/raw")
    tiny_images.mkdir()  # as `thaw new` leaves it
    (tiny_images / ".gitkeep").touch()
    with pytest.raises(ValueError, match=missed):
        pipeline_run.check_images("data/raw")
    (project / "data" / "raw.dvc").touch()
    with pytest.raises(ValueError, match="`dvc pull` fetches them"):
        pipeline_run.check_images("data/raw")
    assert "found nothing at" in call(monkeypatch, "run", "data.raw=nowhere")
    assert not (project / "dvc.lock").exists()


@pytest.mark.parametrize("words", [[], ["--fast"], ["--reset"]])
def test_a_run_without_its_images_forgets_nothing(
    project: Path, tiny_images: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    composition.configure(["data=folder", f"data.raw={tiny_images}"])
    before = paths.CHOSEN.read_bytes(), paths.PARAMS.read_bytes()
    assert "found nothing at" in call(monkeypatch, "run", *words, "data=folder", "data.raw=wrong")
    with pytest.raises(ValueError, match=r"^data\.raw: expected your images"):
        runs._configure(project, ["data.raw=wrong"])
    assert (paths.CHOSEN.read_bytes(), paths.PARAMS.read_bytes()) == before


def test_a_first_look_takes_choices_on_top_and_remembers_none(
    project: Path, tiny_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composition.configure(["data=folder", "phase2.epochs=7"])
    before = paths.CHOSEN.read_bytes(), paths.PARAMS.read_bytes()
    taken: list[tuple[int, int]] = []

    def look(settings: schema.Project, values: dict[str, Any], *, quiet: bool) -> tuple[dict[str, Any], str]:
        taken.append((settings.phase1.epochs, values["phase2"]["epochs"]))
        figures = {"accuracy": 0.5, "accuracy_low": 0.25, "accuracy_high": 0.75}
        return {"phase1": figures, "phase2": figures, "verdict": "", "report": "", "model": None}, "a look"

    monkeypatch.setattr(first_look, "run", look)
    assert call(monkeypatch, "run", "--fast", "phase1.epochs=1") == ""
    assert taken == [(1, 7)]
    assert (paths.CHOSEN.read_bytes(), paths.PARAMS.read_bytes()) == before


def test_a_stage_that_fails_fails_the_run(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    composition.configure(["data.raw=nowhere"])
    with pytest.raises(ValueError, match="expected all stages to run, received a failure"):
        pipeline_run.reproduce(Path(), *pipeline_run.targets(), quiet=True)
    said = capfd.readouterr()
    assert said.out == "" and "nowhere" in said.err
    assert pipeline_run.targets() == ["export"]


@pytest.mark.slow
def test_a_first_look_leaves_the_project_as_it_is(project: Path, tiny_images: Path) -> None:
    composition.configure(["data=folder", "image=px64", "phase2.unfreeze=block_7a"])
    assert set(explain.project()["time"].values()) == {None}
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*") if ".thaw" not in path.parts}
    found, line = first_look.run(*load.read(), quiet=True)
    assert found["phase2"]["images"] > 0 and Path(found["report"]).is_file()
    assert "36 of 36 images" in line and os.fspath(first_look.FOLDER) in found["report"]
    assert {path: path.stat().st_mtime_ns for path in project.rglob("*") if ".thaw" not in path.parts} == before
    told = explain.project()
    assert None not in told["time"].values() and told["disk"]["cache_needs"] > 0


def test_images_in_an_object_store_are_not_looked_for_on_the_disk() -> None:
    pipeline_run.check_images("s3://bucket/set")
    with pytest.raises(ValueError, match=r"^data\.raw: expected your images, found nothing at "):
        pipeline_run.check_images("bucket/set")
