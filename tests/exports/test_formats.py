import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thaw import paths
from thaw.catalog import export_formats
from thaw.classifier import head, model
from thaw.config import schema
from thaw.exports import causes, exported, formats, parity, probe, write
from thaw.images import decoding
from thaw.runtime.framework import keras

CLASSES = ["ant", "bee"]
OPTIONS = schema.Export(list(schema.FORMATS), 1e-5, 1.0, 0.9, 16, 100, latency=False, model="phase2")


@pytest.fixture(scope="module")
def classifier() -> model.Classifier:
    image, linear = schema.Image(32, "squash", "bilinear", antialias=True), schema.Head("avg", [], [], 0.0)
    pixels = keras.Input((32, 32, 3), name="pixels")
    backbone = keras.Model(pixels, keras.layers.Rescaling(1 / 255, name="range")(pixels), name="tiny")
    card = model.Card(schema.Backbone("efficientnet_lite0", "random", "", "", ""), "", image, linear, CLASSES)
    return model.Classifier(backbone, head.build(linear, 3, 2), card, {})


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_what_the_configuration_can_ask_for_is_what_can_be_written() -> None:
    assert tuple(formats.FORMATS) == tuple(export_formats.FORMATS) == schema.FORMATS
    files = [form.about.file for form in formats.FORMATS.values()]
    assert len(set(files)) == len(files)


@pytest.mark.parametrize("name", formats.FORMATS)
def test_a_format_alone_is_written_loaded_and_asked_in_each_way(
    name: str, classifier: model.Classifier, tmp_path: Path, picture: Path
) -> None:
    form, folder = formats.FORMATS[name], tmp_path / "export"
    write.write(folder, classifier, [name], calibration=lambda: iter([np.zeros((20, 30, 3), np.uint8)]))
    assert sorted(path.name for path in folder.iterdir()) == sorted([form.about.file, paths.HASHES, paths.LABELS])
    assert list(formats.present(folder)) == [name]
    loaded = formats.load(folder)
    assert loaded.classes == CLASSES
    ((_, answer),) = exported.answers(loaded, [picture])
    assert not isinstance(answer, str)
    found = parity.check(folder, parity.Probes([str(picture)], answer.probabilities[None]), CLASSES, OPTIONS)
    assert list(found) == form.ways(name) == [name, *(f"{name}_{probe}" for probe in form.probes)]


def test_a_block_of_convnext_is_written_as_onnx_and_says_what_keras_says(
    classifier: model.Classifier, tmp_path: Path, picture: Path
) -> None:
    """Keras compiles its convolution by channel with XLA, and ONNX has no operation that its exact GELU needs."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((32, 32, 3), name="pixels")
    values = keras.layers.Conv2D(8, 4, strides=4)(keras.layers.Rescaling(1 / 255)(pixels))
    values = keras.layers.LayerNormalization(epsilon=1e-6)(keras.layers.Conv2D(8, 7, padding="same", groups=8)(values))
    backbone = keras.Model(pixels, keras.layers.Activation("gelu")(keras.layers.Dense(16)(values)), name="block")
    block = model.Classifier(backbone, head.build(classifier.card.head, 16, 2), classifier.card, {})
    expected = causes.evaluated(block, 1.0)([picture.read_bytes()])
    calibration = [decoding.pixels(picture.read_bytes(), decoding.USUAL, classifier.card.image)]
    write.write(tmp_path / "export", block, ["onnx", "onnx_int8"], calibration=lambda: iter(calibration))
    found = parity.check(tmp_path / "export", parity.Probes([str(picture)], expected), CLASSES, OPTIONS)
    assert 0 < found["onnx"]["largest_difference"] <= OPTIONS.tolerance
    assert 0 < found["onnx_int8"]["largest_difference"] < 0.02


# Runs the process in which `export` asks a runtime, and prints what can't be imported when a model is loaded there.
ASKED = """\
import importlib, json, sys
from thaw.exports import formats, probe
load, wanted, failing = formats.load, json.loads(sys.argv.pop()), []
def loaded(*words):
    for name in wanted:
        try:
            importlib.import_module(name)
        except ImportError:
            failing.append(name)
    return load(*words)
formats.load = loaded
probe.main()
print(json.dumps(failing))
"""
WRITERS = ["tf2onnx", "onnx", "ai_edge_quantizer"]


@pytest.mark.parametrize(("name", "own", "other"), [
    ("onnx", "onnxruntime", "ai_edge_litert"), ("litert", "ai_edge_litert", "onnxruntime"),
])  # fmt: skip
def test_where_onnx_or_litert_is_asked_neither_tensorflow_nor_another_runtime_can_be_imported(
    name: str, own: str, other: str, classifier: model.Classifier, tmp_path: Path, picture: Path
) -> None:
    write.write(tmp_path / "export", classifier, [name])
    (tmp_path / "paths.json").write_text(json.dumps([str(picture)]), encoding="utf-8")
    runtime = formats.FORMATS[name].about.runtime
    words = [runtime, str(tmp_path / "export"), str(tmp_path / "paths.json"), str(tmp_path / "out.npz")]
    wanted = ["tensorflow", "keras", other, own, *WRITERS]
    command = [sys.executable, "-c", ASKED, *words, json.dumps(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ["tensorflow", "keras", other, *WRITERS]
    with np.load(tmp_path / "out.npz") as said:
        assert said[name].shape == (1, len(CLASSES)) and np.isfinite(said[name]).all()


def test_the_process_that_asks_reads_files_as_training_did(picture: Path) -> None:
    def say(files: Sequence[bytes]) -> list[exported.Answer]:
        return exported.answered(np.zeros((len(files), 2), np.float32))

    for most, answered in ((600, True), (599, False)):
        loaded = exported.Exported(CLASSES, say, decoding.Reading(max_pixels=most, stretch=True))
        (answer,) = probe.ask(loaded, [str(picture)])
        assert np.isfinite(answer.probabilities).all() == answered
