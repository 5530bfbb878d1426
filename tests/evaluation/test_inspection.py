"""Grad-CAM finds what decides, and the pictures of mistakes are those of the images, small and few."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thaw import paths, records
from thaw.classifier import head, model
from thaw.config import schema
from thaw.evaluation import gradcam, inspection, mistakes
from thaw.images import manifest
from thaw.runtime.framework import keras

CLASSES = ["red", "green"]
SIZE = 32


@pytest.fixture(scope="module")
def classifier() -> model.Classifier:
    """A network whose two channels are how red and how green a place is, and whose logits are their means."""
    image, linear = schema.Image(SIZE, "squash", "bilinear", antialias=True), schema.Head("avg", [], [], 0.0)
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    features = keras.layers.Conv2D(2, 1, strides=4, use_bias=False, name="colours")(pixels)
    backbone = keras.Model(pixels, features, name="tiny")
    backbone.get_layer("colours").set_weights([np.array([[[[1, 0], [0, 1], [0, 0]]]], np.float32)])
    card = model.Card(schema.Backbone("efficientnet_lite0", "random", "", "", ""), "", image, linear, CLASSES)
    built = model.Classifier(backbone, head.build(linear, 2, 2), card, {})
    built.head.get_layer("logits").set_weights([np.eye(2, dtype=np.float32), np.zeros(2, np.float32)])
    return built


def halves() -> np.ndarray:
    """One image whose left half is red and whose right half is green."""
    image = np.zeros((1, SIZE, SIZE, 3), np.float32)
    image[0, :, : SIZE // 2, 0] = image[0, :, SIZE // 2 :, 1] = 255
    return image


def test_the_heat_lies_where_the_class_is_found(classifier: model.Classifier) -> None:
    maps = gradcam.heat_maps(classifier, np.repeat(halves(), 20, axis=0), np.array([0, 1] * 10))  # over one batch
    assert maps.shape == (20, 8, 8) and maps.dtype == np.float32
    for number, found in enumerate(maps):
        own, other = (found[:, :4], found[:, 4:])[:: 1 if number % 2 == 0 else -1]
        np.testing.assert_array_equal(own, 1)
        np.testing.assert_array_equal(other, 0)


def test_an_image_without_the_class_has_no_heat_and_no_image_no_map(classifier: model.Classifier) -> None:
    green = np.zeros((1, SIZE, SIZE, 3), np.float32)
    green[..., 1] = 255
    assert not gradcam.heat_maps(classifier, green, np.array([0])).any()
    assert len(gradcam.heat_maps(classifier, green[:0], np.array([], int))) == 0


def test_an_overlay_is_the_grey_picture_under_colours_that_grow_with_the_heat() -> None:
    pixels, heat = np.full((16, 16, 3), 100, np.float32), np.zeros((2, 2), np.float32)
    np.testing.assert_allclose(inspection.overlay(pixels, heat), 100, atol=0.1)
    heat[0, 0] = 1
    found = inspection.overlay(pixels, heat)
    assert found[0, 0, 0] > found[0, 0, 2] + 50  # red
    np.testing.assert_allclose(found[-1, -1], 100, atol=8)


@pytest.fixture
def split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> manifest.Images:
    """Forty test images, of which each is all red or all green, and near-duplicates with another label."""
    monkeypatch.chdir(tmp_path)
    names = [f"{CLASSES[number % 2]}/{number:02}.png" for number in range(40)]
    for number, name in enumerate(names):
        Path(name).parent.mkdir(exist_ok=True)
        colour = (200, 0, number) if number % 2 == 0 else (0, 200, number)
        Image.new("RGB", (48, 40), colour).save(name)
    rows = [
        {"cluster": "1", "path": names[0], "label": "red", "split": "test", "sha256": ""},
        {"cluster": "1", "path": "green/twin.png", "label": "green", "split": "train", "sha256": ""},
    ]
    records.write_csv(paths.COPIES, list(rows[0]), rows)
    hashes = [records.sha256(Path(name)) for name in names]
    return manifest.Images(names, names, hashes, np.arange(40) % 2)


def test_mistakes_hits_and_pairs_have_their_pictures(classifier: model.Classifier, split: manifest.Images) -> None:
    sure = np.linspace(0.6, 0.99, 40)
    answers = np.where(np.arange(40) < 34, 1 - split.labels, split.labels)  # more wrong ones than are shown
    probabilities = np.stack([np.where(answers == c, sure, 1 - sure) for c in (0, 1)], axis=1).astype(np.float32)
    inspection.write("phase1", classifier, split, probabilities)
    inside, table = records.read_json(paths.PICTURES), records.read_csv(paths.MISTAKES)
    assert inside["phase"] == "phase1"
    assert [row["path"] for row in table] == split.names[33::-1]  # the surest first
    assert [row["path"] for row in inside["mistakes"]] == split.names[33:9:-1] and mistakes.MISTAKES == 24
    assert {row["path"]: row["twin"] for row in table if row["twin"]} == {split.names[0]: "green/twin.png"}
    assert [row["path"] for row in inside["hits"]] == split.names[:33:-1]
    assert set(inside["heat_maps"]) == {row["path"] for row in (*inside["mistakes"], *inside["hits"])}
    (first, second) = inside["pairs"]
    assert (first["actual"], first["predicted"], first["images"], first["of"], first["reverse"]) == (
        *("red", "green", 17, 20, 17),
    )
    assert first["mistaken"] == [split.names[n] for n in (32, 30, 28)]
    assert first["right"] == [split.names[n] for n in (39, 37, 35)] and second["actual"] == "green"
    assert set(inside["pictures"]) >= {*first["mistaken"], *first["right"], *second["mistaken"], *inside["heat_maps"]}
    for path, uri in inside["pictures"].items():
        image = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))))
        assert image.size == (SIZE, SIZE)  # as the model sees it
        red, green, _ = np.asarray(image)[16, 16]
        assert bool(red > green) is path.startswith("red")


def test_large_pictures_are_made_small_and_no_mistake_is_no_fault(
    classifier: model.Classifier, split: manifest.Images
) -> None:
    image = Image.open(io.BytesIO(base64.b64decode(inspection.jpeg(np.zeros((600, 600, 3))).partition(",")[2])))
    assert image.size == (inspection.SIDE, inspection.SIDE)
    right = np.eye(2, dtype=np.float32)[split.labels] * 0.8 + 0.1
    inspection.write("phase2", classifier, split, right)
    inside = records.read_json(paths.PICTURES)
    assert inside["mistakes"] == inside["pairs"] == [] and len(inside["hits"]) == mistakes.HITS
