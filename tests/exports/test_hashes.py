"""Tests of what is no export: what hashes.json does not know, or that names others. No TensorFlow here."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import external_data_helper, numpy_helper

from tests.serving import tiny
from thaw import paths
from thaw.exports import formats, hashes
from thaw.exports.exported import ForeignError


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


@pytest.mark.parametrize("path_first", [False, True])
def test_an_onnx_file_that_names_another_is_refused_in_whatever_order_it_does(
    export: Path, tmp_path: Path, path_first: bool
) -> None:
    content = onnx.load(export / paths.ONNX_FILE)
    content.graph.initializer.append(numpy_helper.from_array(np.ones(300, np.float32), "more"))
    external_data_helper.convert_model_to_external_data(content, location="w.bin", size_threshold=1000)
    onnx.save(content, tmp_path / "other.onnx")
    data, entry = (tmp_path / "other.onnx").read_bytes(), (b"\x0a\x08location", b"\x12\x05w.bin")
    assert data.count(b"".join(entry)) == 1
    if path_first:  # which protobuf reads as well
        data = data.replace(b"".join(entry), b"".join(reversed(entry)))
        assert "w.bin" in str(onnx.load_from_string(data).graph.initializer[-1].external_data)
    (tmp_path / "other.onnx").write_bytes(data)
    with pytest.raises(ForeignError, match="expected all weights in the file"):
        formats.load(tmp_path / "other.onnx")
