"""``thaw verify``: what is reproduced, and what has changed where it is not."""

import argparse
import json
import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from PIL import Image

from stages import prepare
from tests.conftest import set_params
from thaw import paths, records
from thaw.commands import comparison, verify
from thaw.config import load
from thaw.runtime import threads
from thaw.tracking import lineage


def run(what: str = "", tolerance: float = 1e-3, *, as_json: bool = False) -> None:
    verify.run(argparse.Namespace(what=what, tolerance=tolerance, json=as_json))


@pytest.fixture
def prepared(project: Path, tiny_images: Path) -> Path:
    """A project of prepare alone, as far as dvc.yaml goes, and the record of what its run hung on."""
    assert tiny_images.is_relative_to(project)
    pipeline = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))
    pipeline["stages"] = {"prepare": pipeline["stages"]["prepare"]}
    Path("dvc.yaml").write_text(yaml.safe_dump(pipeline), encoding="utf-8")
    prepare.main()
    records.write_json(paths.PROVENANCE, lineage.describe())
    return project


@pytest.mark.usefixtures("prepared")
def test_what_is_run_again_has_the_same_bytes_and_the_project_stays_as_it_was(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
    run()
    said = capsys.readouterr().out
    assert "reproduced: all " in said and "changed" not in said
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("listed", [False, True])
def test_images_beside_the_project_or_listed_in_it_are_found_and_nothing_is_written_elsewhere(
    listed: bool,
    project: Path,
    tiny_images: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if listed:
        files = sorted(tiny_images.rglob("*.png"))
        rows = [{"path": file.relative_to(project / "data"), "label": file.parent.name} for file in files]
        records.write_csv(Path("data/list.csv"), ["path", "label"], rows)
        set_params(data={"raw": "data/list.csv"})
    else:
        beside = project.with_name(f"{project.name}-photos")
        tiny_images.rename(beside)
        set_params(data={"raw": f"../../{beside.parent.name}/{beside.name}"})
    prepare.main()
    records.write_json(paths.PROVENANCE, lineage.describe())
    scratch = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
    run("prepare")
    assert "reproduced: all " in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()} == before
    assert list(scratch.iterdir()) == []


def test_a_changed_image_parameter_package_and_line_of_code_are_named(prepared: Path) -> None:
    recorded = records.read_json(paths.PROVENANCE)
    recorded["packages"]["pillow"] = "1.0"
    records.write_json(paths.PROVENANCE, recorded)
    Image.new("RGB", (40, 40), (1, 2, 3)).save("data/raw/class_1/03.png")
    with pytest.raises(ValueError, match=r"^not reproduced: prepare is the first stage that differs") as error:
        run("prepare")
    assert "images: class_1/03.png" in str(error.value) and "packages: pillow: 1.0 →" in str(error.value)
    assert "parameters" not in str(error.value) and "code" not in str(error.value)

    values = yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))
    values["data"]["seed"] += 1
    paths.PARAMS.write_text(yaml.safe_dump(values), encoding="utf-8")
    code = prepared / "thaw" / "data" / "splits.py"
    code.write_text(code.read_text(encoding="utf-8") + "\nMORE = 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="not reproduced") as error:
        run()
    assert "parameters: data.seed: 0 → 1" in str(error.value) and "code: thaw/data: " in str(error.value)


@pytest.mark.usefixtures("prepared")
def test_what_was_edited_by_hand_differs_though_no_input_has_changed() -> None:
    record = records.read_json(paths.metrics("prepare"))
    record["refused"] += 1
    records.write_json(paths.metrics("prepare"), record)
    with pytest.raises(ValueError, match="nothing in its inputs has changed"):
        run()
    run(tolerance=2)
    paths.QUARANTINE.unlink()
    with pytest.raises(ValueError, match="nothing in its inputs has changed"):
        run(tolerance=2)
    shutil.rmtree(paths.PREPARED)
    with pytest.raises(ValueError, match=r"expected data/prepared, which prepare makes, found none"):
        run()


@pytest.mark.usefixtures("prepared")
def test_a_script_gets_a_verdict_for_each_file_and_nothing_else_on_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(as_json=True)
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert (told["reproduced"], told["differs_first"], told["changed"]) == (True, None, [])
    assert {each["verdict"] for each in told["findings"]} == {comparison.SAME} and "prepare: " in said.err
    paths.QUARANTINE.unlink()
    with pytest.raises(ValueError, match=r"^not reproduced: "):
        run(as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["reproduced"], told["differs_first"]) == (False, "prepare")
    differs = [each for each in told["findings"] if each["verdict"] != comparison.SAME]
    assert differs == [{"stage": "prepare", "path": str(paths.QUARANTINE), "verdict": comparison.OTHER, "note": "new"}]


@pytest.mark.usefixtures("prepared")
def test_a_run_that_nobody_knows_is_said() -> None:
    with pytest.raises(
        ValueError, match=r"expected a stage \(prepare\), a commit or an experiment, received 'nonesuch'"
    ):
        run("nonesuch")


def test_threads_and_device_are_named_for_the_training_that_they_were_of() -> None:
    before = {"hardware": {"phase1_head": {"threads": 2, "device": {"name": "cpu"}}}, "data": {"a": "1"}}
    now = {"hardware": {"phase1_head": {"threads": 4, "device": {"name": "cpu"}}}, "data": {"a": "2"}}
    assert lineage.changes(before, now, ["hardware"]) == ["hardware: phase1_head.threads: 2 → 4"]
    assert len(lineage.changes(before, now)) == 2


def test_figures_are_compared_and_bytes_where_there_are_none(tmp_path: Path) -> None:
    folders = tmp_path / "old", tmp_path / "new"
    for number, folder in enumerate(folders):
        folder.mkdir()
        np.save(folder / "a.npy", np.array([1.0, 2.0 + 1e-4 * number]))
        np.savez(folder / "a.npz", rows=np.array([1.0, 2.0 + 1e-4 * number]))
        with h5py.File(folder / "a.h5", "w") as file:
            file["layer/kernel"] = np.array([[1.0 + 1e-4 * number]])
        records.write_json(folder / "a.json", {"loss": 1 + 1e-4 * number, "threads": number, "list": [{"x": 1}]})
        records.write_csv(folder / "a.csv", ["label", "loss"], [{"label": "cat", "loss": 1 + 1e-4 * number}])
        records.write_csv(folder / "b.csv", ["label", "loss"], [{"label": f"cat{number}", "loss": 1.0}])
        records.write_json(folder / "b.json", {"loss": 1 + number})
        (folder / "a.png").write_bytes(bytes([number]))
        (folder / "same").write_bytes(b"1")
        (folder / f"{number}.csv").write_bytes(b"a\n")

    def verdict(name: str) -> str:
        return comparison.compare("stage", folders[0], folders[1], Path(name), 1e-3).verdict

    assert {verdict(f"a.{kind}") for kind in ("npy", "npz", "h5", "json", "csv")} == {comparison.NEAR}
    assert {verdict(name) for name in ("b.csv", "b.json", "0.csv", "1.csv")} == {comparison.OTHER}
    assert (verdict("a.png"), verdict("same")) == (comparison.BYTES, comparison.SAME)


TINY = ("data=folder", "image=px64", "image.size=32", "backbone.weights=random", "augment=none", "head=linear")
MORE = ("phase1.epochs=2", "phase2.epochs=2", "phase2.unfreeze=top", "export.formats=[onnx]", "tracking.enabled=false")


@pytest.mark.slow
def test_a_whole_run_is_reproduced_and_what_was_changed_is_named(
    project: Path, tiny_images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table in docs/how-a-run-works.md."""
    assert tiny_images.is_dir()
    monkeypatch.setenv(threads.VARIABLE, "2")
    paths.PARAMS.write_text(load.compose([*TINY, *MORE]), encoding="utf-8", newline="\n")
    subprocess.run(["dvc", "repro", "export"], check=True, capture_output=True)

    def said(what: str) -> str:
        """Verify, and return the last line, with the findings before it."""
        try:
            run(what)
        except ValueError as error:
            return capsys.readouterr().out + str(error)
        return capsys.readouterr().out

    def changed(path: Path, old: str, new: str, what: str) -> str:
        """Change a file, verify, and change it back."""
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8", newline="\n")
        found = said(what)
        path.write_text(text, encoding="utf-8", newline="\n")
        print(f"{path}: {found}")
        return found + capsys.readouterr().out

    whole = said("")
    assert "reproduced: all" in whole and "changed" not in whole, whole
    version = records.read_json(paths.PROVENANCE)["packages"]["numpy"]
    package = changed(paths.PROVENANCE, f'"numpy": "{version}"', '"numpy": "1.0"', "prepare")
    assert "reproduced: all " in package and f"inputs have changed: packages: numpy: 1.0 → {version}" in package
    line = changed(Path("thaw/evaluation/evaluate.py"), "MAPPED = 5000", "MAPPED = 3", "evaluate")
    assert "different: models/evaluate/embeddings.npy" in line and "not reproduced: evaluate is the first" in line
    assert "code: thaw/evaluation: " in line and "parameters" not in line
    rate = "learning_rate: 0.0003"
    parameter = changed(paths.PARAMS, rate, "learning_rate: 0.0009", "phase2_finetune")
    assert "parameters: phase2.learning_rate: 0.0003 → 0.0009" in parameter and "code" not in parameter
    monkeypatch.setenv(threads.VARIABLE, "1")
    fewer = said("phase2_finetune")
    assert "hardware: phase2_finetune.threads: 2 → 1" in fewer and "parameters" not in fewer
    monkeypatch.setenv(threads.VARIABLE, "2")
    Image.new("RGB", (40, 40), (1, 2, 3)).save("data/raw/class_1/03.png")
    image = said("prepare")
    assert "not reproduced: prepare is the first stage that differs" in image and "images: class_1/03.png" in image
    print(whole, fewer, image)
