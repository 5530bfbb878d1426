"""The lineage of stages: what determines them, and nothing else."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from thaw import paths, records
from thaw.tracking import lineage


def test_it_names_all_that_a_stage_hangs_on(project: Path) -> None:
    assert project == Path.cwd()
    paths.PREPARED.mkdir(parents=True)
    paths.MANIFEST.write_text("path\n", encoding="utf-8")
    found = lineage.inputs("phase1_head")
    declared = yaml.safe_load(lineage.PIPELINE.read_text(encoding="utf-8"))["stages"]["phase1_head"]
    assert set(found["code"]) == {name for name in declared["deps"] if name.startswith(("thaw/", "stages/"))}
    assert set(found["parameters"]) == {*(name.partition(".")[0] for name in declared["params"]), "compute"}
    assert found["parameters"]["compute"]["deterministic"] is True
    assert set(found["data"]) == {"data/prepared"}
    assert {"tensorflow", "keras", "numpy", "pillow", "python"} <= set(found["packages"])
    with pytest.raises(ValueError, match=r"expected one of the stages sample, prepare, .*, received 'train'"):
        lineage.inputs("train")


def test_a_converted_image_is_known_by_the_manifest(project: Path) -> None:
    (project / paths.CONVERTED).mkdir(parents=True)
    paths.MANIFEST.write_text("path\n", encoding="utf-8")
    before = lineage.content(paths.PREPARED)
    paths.converted("0" * 64).write_bytes(b"large")
    assert lineage.content(paths.PREPARED) == before
    paths.CLASSES.write_text("{}", encoding="utf-8")
    assert lineage.content(paths.PREPARED) != before


def test_what_is_prepared_is_hashed_once_for_the_whole_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths.PREPARED.mkdir(parents=True)
    paths.MANIFEST.write_text("path\n", encoding="utf-8")
    hashed, content = list[Path](), lineage.content

    def noted(path: Path) -> str:
        hashed.append(path)
        return content(path)

    monkeypatch.setattr(lineage, "content", noted)
    assert lineage.describe()["data"]["data/prepared"] == content(paths.PREPARED)
    assert hashed.count(paths.PREPARED) == 1 and project == Path.cwd()


def test_the_same_run_has_the_same_lineage_wherever_it_lies(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage in lineage.TRAININGS:
        records.write_json(paths.metrics(stage), {"threads": 2, "device": {"name": "cpu"}, "precision": "float32"})
    found = lineage.describe()
    assert found["hardware"]["phase1_head"]["threads"] == 2 and "export" not in found["parameters"]
    copy = tmp_path_factory.mktemp("elsewhere") / "project"
    shutil.copytree(project, copy)
    monkeypatch.chdir(copy)
    assert json.dumps(lineage.describe()) == json.dumps(found)
    assert str(project) not in json.dumps(found) and lineage.changes(found, lineage.describe()) == []
