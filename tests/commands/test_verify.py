"""``thaw verify``: what is reproduced, and what has changed where it is not."""

import argparse
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from PIL import Image

from stages import prepare
from thaw import paths, records
from thaw.commands import comparison, verify
from thaw.tracking import lineage


def run(what: str = "", tolerance: float = 1e-3) -> None:
    verify.run(argparse.Namespace(what=what, tolerance=tolerance))


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
    assert "reproduced: all " in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()} == before


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
