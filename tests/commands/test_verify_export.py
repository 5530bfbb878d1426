"""``thaw verify EXPORT``, on a machine that has the package and no project."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.serving import tiny
from thaw import paths, records
from thaw.commands import verify_export
from thaw.commands.comparison import OTHER, SAME
from thaw.exports import hashes

ROOT = Path(__file__).resolve().parents[2]
CAME_OF = {"thaw": "1.2.3", "weights": "a" * 64, "data": "b" * 64}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of one format."""
    folder = tmp_path_factory.mktemp("whole") / "an export"
    folder.mkdir()
    about = tiny.ABOUT | {"provenance": CAME_OF}
    tiny.write(folder / paths.ONNX_FILE, **about)
    records.write_json(folder / paths.LABELS, {name: value for name, value in about.items() if name != "format"})
    hashes.write(folder)
    return folder


@pytest.fixture
def export(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "export"))


def test_a_machine_without_the_project_says_that_it_is_whole_and_what_it_came_of(whole: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    shutil.copytree(ROOT / "thaw", site / "thaw", ignore=shutil.ignore_patterns("__pycache__"))
    empty = tmp_path / "empty"
    empty.mkdir()
    said = {}
    for name, path in {"whole": whole, "file": whole / paths.ONNX_FILE, "none": empty, "word": Path("export")}.items():
        words = [sys.executable, "-m", "thaw.commands", "verify", str(path)]
        environment = os.environ | {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
        said[name] = subprocess.run(words, cwd=empty, env=environment, capture_output=True, text=True, check=False)
    assert [each.returncode for each in said.values()] == [0, 0, 1, 1], said
    assert said["whole"].stdout == said["file"].stdout
    assert said["whole"].stdout.count(SAME) == 2 and f"{len(tiny.CLASSES)} classes" in said["whole"].stdout
    assert all(value[:12] in said["whole"].stdout for value in CAME_OF.values())
    assert all(said[name].stderr.count("\n") == 1 for name in ("none", "word"))
    assert paths.HASHES in said["none"].stderr and "expected a project" in said["word"].stderr
    assert list(empty.iterdir()) == []


def test_a_script_gets_a_verdict_for_each_part(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verify_export.report(export, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["as_exported"] and told["provenance"] == CAME_OF
    assert {each["path"]: each["verdict"] for each in told["findings"]} == {paths.ONNX_FILE: SAME, paths.LABELS: SAME}
    (export / paths.ONNX_FILE).unlink()
    with pytest.raises(ValueError, match=r"^not what was exported: "):
        verify_export.report(export, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (
        not told["as_exported"]
        and {each["path"]: each["note"] for each in told["findings"]}[paths.ONNX_FILE] == "gone"
    )


@pytest.mark.parametrize("wrong", [{"classes": None}, {"provenance": ["x"]}, {"provenance": {"thaw": 1}}], ids=str)
def test_labels_of_something_else_are_one_line(export: Path, wrong: dict[str, object]) -> None:
    records.write_json(export / paths.LABELS, records.read_json(export / paths.LABELS) | wrong)
    hashes.write(export)
    with pytest.raises(ValueError, match="of an export, received"):
        verify_export.report(export)


def cut_off(export: Path) -> None:
    file = export / paths.ONNX_FILE
    file.write_bytes(file.read_bytes()[:-1])


def other_labels(export: Path) -> None:
    record = records.read_json(export / paths.LABELS)
    records.write_json(export / paths.LABELS, record | {"classes": ["one", "two"]})


def labels_of_another(export: Path) -> None:
    """As where two exports are mixed, hashes and all."""
    other_labels(export)
    hashes.write(export)


@pytest.mark.parametrize(
    ("harm", "wrong"),
    [
        (cut_off, {paths.ONNX_FILE}),
        (other_labels, {paths.LABELS, paths.ONNX_FILE}),
        (labels_of_another, {paths.ONNX_FILE}),
        (lambda export: (export / paths.ONNX_FILE).unlink(), {paths.ONNX_FILE}),
        (lambda export: (export / "notes").write_text("mine"), {"notes"}),
    ],
)
def test_what_is_not_as_it_was_exported_is_named(
    harm: Callable[[Path], object], wrong: set[str], export: Path
) -> None:
    harm(export)
    found = verify_export.findings(export)
    assert {each.path for each in found if each.verdict == OTHER and each.note} == wrong
    with pytest.raises(ValueError, match=r"^not what was exported"):
        verify_export.report(export)


def test_an_export_that_lacks_what_it_would_be_known_by_is_said(export: Path) -> None:
    (export / paths.LABELS).write_text(json.dumps({}))
    (export / paths.HASHES).unlink()
    with pytest.raises(ValueError, match=paths.HASHES):
        verify_export.report(export)
