"""A file is taken for an export's only if hashes.json beside it says so; no TensorFlow is needed for that."""

import json
import shutil
from pathlib import Path

import pytest

from tests.serving import tiny
from thaw import paths
from thaw.exports import formats, hashes


@pytest.fixture
def export(tmp_path: Path) -> Path:
    tiny.write(tmp_path / "export" / paths.ONNX_FILE)
    hashes.write(tmp_path / "export")
    return tmp_path / "export"


def test_a_file_that_was_put_beside_an_export_does_not_answer_in_its_place(export: Path, tmp_path: Path) -> None:
    """As where int8 is copied from another run into a folder that has none, or float32 into one of int8."""
    tiny.write(export / paths.ONNX_INT8_FILE, classes=["a", "b"])
    with pytest.raises(ValueError, match=r"model_int8\.onnx: expected one of what was exported here \(model\.onnx, "):
        formats.load(export, "onnx_int8")
    assert formats.load(export).classes == tiny.CLASSES
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(export / paths.ONNX_INT8_FILE, alone)
    assert formats.load(alone).classes == ["a", "b"]


@pytest.mark.parametrize("content", ["", '{"model.onnx": "12', "[]", '{"model.onnx": 5}', '{"model.onnx": null}'])
def test_hashes_that_are_damaged_check_nothing_and_so_nothing_is_loaded(export: Path, content: str) -> None:
    (export / paths.HASHES).write_text(content)
    with pytest.raises(ValueError, match=r"hashes\.json: expected the hashes of an export, .*; copy the whole folder"):
        formats.load(export)
    (export / paths.HASHES).write_text(json.dumps({paths.ONNX_FILE: hashes.digest(export / paths.ONNX_FILE)}))
    assert formats.load(export).classes == tiny.CLASSES
