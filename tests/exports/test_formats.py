from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thaw import paths
from thaw.catalog import export_formats
from thaw.classifier import head, model
from thaw.config import schema
from thaw.exports import exported, formats, parity, probe, write
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


def test_the_process_that_asks_reads_files_as_training_did(picture: Path) -> None:
    def say(files: Sequence[bytes]) -> list[exported.Answer]:
        return exported.answered(np.zeros((len(files), 2), np.float32))

    for most, answered in ((600, True), (599, False)):
        loaded = exported.Exported(CLASSES, say, decoding.Reading(max_pixels=most, stretch=True))
        (answer,) = probe.ask(loaded, [str(picture)])
        assert np.isfinite(answer.probabilities).all() == answered
