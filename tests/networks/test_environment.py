import hashlib
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from thaw.config import schema
from thaw.networks import environment, external

PACKAGE = schema.Backbone("efficientnet_lite0", "package", "", "", "")


def test_the_packages_are_those_that_are_installed() -> None:
    packages = environment.describe(PACKAGE)["packages"]
    assert {"tensorflow", "keras", "onnxruntime"} <= set(packages)
    assert packages == {name: version(name) for name in packages}


def test_words_and_what_is_not_there_have_no_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    custom = schema.Backbone("custom", "gone.weights.h5", "gone.networks:build", "0..1", "")
    for backbone in (PACKAGE, replace(PACKAGE, weights="random"), custom):
        assert environment.describe(backbone)["sha256"] == {"weights": "", "builder": ""}


def test_a_file_and_a_folder_of_weights_are_told_by_their_bytes(tmp_path: Path) -> None:
    file, folder = tmp_path / "lite.weights.h5", tmp_path / "module"
    file.write_bytes(b"weights")
    found = environment.describe(replace(PACKAGE, weights=str(file)))
    assert found["sha256"]["weights"] == hashlib.sha256(b"weights").hexdigest()
    (folder / "variables").mkdir(parents=True)
    (folder / "variables" / "data").write_bytes(b"1")
    saved = schema.Backbone("saved_model", str(folder), "", "0..1", "")
    before = environment.describe(saved)["sha256"]["weights"]
    assert before == external.digest(folder)  # which backbone.sha256 may pin
    (folder / "variables" / "data").write_bytes(b"2")
    assert environment.describe(saved)["sha256"]["weights"] != before


def test_a_builder_is_told_by_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "my_networks_of_this_test.py"
    module.write_bytes(b"raise RuntimeError  # nothing of it is run\n")
    custom = schema.Backbone("custom", "random", f"{module.stem}:build", "0..1", "")
    assert environment.describe(custom)["sha256"]["builder"] == hashlib.sha256(module.read_bytes()).hexdigest()
