import dataclasses
import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from thaw import paths as project_paths
from thaw import records
from thaw.classifier import head, model
from thaw.config import schema
from thaw.evaluation import evaluate
from thaw.exports import parity, write
from thaw.images import manifest
from thaw.runtime.framework import keras, tf

TOLERANCE = 1e-4
CLASSES = ["a", "b", "c"]
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 40, 50, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def classifier() -> model.Classifier:
    """Real, and small: what a backbone is made of is not this module's matter."""
    keras.utils.set_random_seed(0)
    image, linear = schema.Image(32, "crop", "bilinear", antialias=True), schema.Head("avg", [], [], 0.0)
    pixels = keras.Input((32, 32, 3), name="pixels")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(pixels)
    features = keras.layers.Conv2D(16, 3, strides=4, activation="relu", name="only")(scaled)
    card = model.Card(schema.Backbone("efficientnet_lite0", "random", "", "", ""), "", image, linear, CLASSES)
    return model.Classifier(keras.Model(pixels, features, name="tiny"), head.build(linear, 16, 3), card, {})


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Image files, one of which lies on its side."""
    folder = tmp_path_factory.mktemp("images")
    found = [str(folder / f"größe {number}.png") for number in range(4)] + [str(folder / "turned.jpg")]
    for path, pixels in zip(found, PIXELS, strict=True):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(pixels).save(path, exif=exif if path.endswith("jpg") else None)
    return found


@pytest.fixture(scope="module")
def evaluated(classifier: model.Classifier, paths: list[str]) -> np.ndarray:
    split = manifest.Images(
        paths, paths, [records.sha256(Path(path)) for path in paths], np.zeros(len(paths), np.int64)
    )
    return evaluate.probabilities([classifier], split, batch_size=2)[0]


@pytest.fixture(scope="module")
def exported(classifier: model.Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    write.write(folder, classifier, ["keras", "saved_model"])
    return folder


OPTIONS = schema.Export(["keras"], TOLERANCE, 1.0, 0.9, 16, 100, latency=False, model="phase2")


def check(folder: Path, files: Sequence[str], expected: np.ndarray) -> dict[str, float]:
    """The largest difference by way to ask."""
    found = parity.check(folder, parity.Probes(files, expected), CLASSES, OPTIONS)
    return {way: figures["largest_difference"] for way, figures in found.items()}


def tampered(exported: Path, folder: Path, change: float) -> Path:
    """A copy of the Keras file alone, in which one weight of the head is another."""
    with zipfile.ZipFile(exported / project_paths.KERAS_FILE) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    weights = io.BytesIO(parts["model.weights.h5"])
    changed = 0
    with h5py.File(weights, "r+") as file:

        def visit(_: str, item: object) -> None:
            nonlocal changed
            if isinstance(item, h5py.Dataset) and item.shape == (16, 3):
                item[0, 0] = item[0, 0] + change
                changed += 1

        file.visititems(visit)
    assert changed == 1
    parts["model.weights.h5"] = weights.getvalue()
    with zipfile.ZipFile(folder / project_paths.KERAS_FILE, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return folder


def test_an_export_that_says_what_was_evaluated_passes_each_way(
    exported: Path, paths: list[str], evaluated: np.ndarray
) -> None:
    assert evaluated.std(axis=0).min() > 1e-3, "the images must differ, or this test could not fail"
    differences = check(exported, paths, evaluated)
    assert set(differences) == {"keras", "saved_model", "saved_model_images"}
    assert all(0 <= difference < 1e-5 for difference in differences.values())


def test_every_image_counts_and_so_does_its_order(
    exported: Path, tmp_path: Path, paths: list[str], evaluated: np.ndarray
) -> None:
    shutil.copy(exported / project_paths.KERAS_FILE, tmp_path)
    wrong = evaluated.copy()
    wrong[-1, :2] += (0.01, -0.01)
    with pytest.raises(ValueError, match=r"\(keras\) differs from the evaluated one by 1\.0e-02.*is 1e-04"):
        check(tmp_path, paths, wrong)
    with pytest.raises(ValueError, match="differs"):
        check(tmp_path, paths[::-1], evaluated)


@pytest.mark.parametrize(("change", "said"), [(2.0, r"by \d\.\de-0[1-3]"), (float("nan"), "by inf")])
def test_weights_that_were_tampered_with_fail(
    exported: Path, tmp_path: Path, paths: list[str], evaluated: np.ndarray, change: float, said: str
) -> None:
    with pytest.raises(ValueError, match=rf"the exported model \(keras\) differs from the evaluated one {said}"):
        check(tampered(exported, tmp_path, change), paths, evaluated)


def test_another_model_as_saved_model_fails(
    classifier: model.Classifier, exported: Path, tmp_path: Path, paths: list[str], evaluated: np.ndarray
) -> None:
    shutil.copy(exported / project_paths.KERAS_FILE, tmp_path)
    bias = classifier.head.get_layer("logits").bias
    before = bias.numpy()
    bias.assign(before + np.array([0.1, 0, 0], np.float32))
    try:
        write.write(tmp_path, classifier, ["saved_model"])
    finally:
        bias.assign(before)
    with pytest.raises(ValueError, match=r"the exported model \(saved_model\) differs"):
        check(tmp_path, paths, evaluated)


def test_the_names_of_the_classes_are_those_that_were_prepared_in_every_place(
    classifier: model.Classifier, exported: Path, tmp_path: Path, paths: list[str], evaluated: np.ndarray
) -> None:
    shutil.copytree(exported, tmp_path, dirs_exist_ok=True)
    (tmp_path / project_paths.HASHES).unlink()
    about = records.read_json(tmp_path / project_paths.LABELS)
    records.write_json(tmp_path / project_paths.LABELS, about | {"classes": ["c", "b", "a"]})
    with pytest.raises(ValueError, match=r"^labels.json of the exported model: expected class 0 to be a, received c;"):
        check(tmp_path, paths, evaluated)
    records.write_json(tmp_path / project_paths.LABELS, about)

    keras_file = tmp_path / project_paths.KERAS_FILE
    with zipfile.ZipFile(keras_file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts[project_paths.LABELS] = json.dumps(about | {"classes": ["a", "c", "b"]}).encode()
    with zipfile.ZipFile(keras_file, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    with pytest.raises(ValueError, match=r"^labels.json in model.keras .*expected class 1 to be b, received c;"):
        check(tmp_path, paths, evaluated)

    keras_file.unlink()
    card = dataclasses.replace(classifier.card, classes=["b", "a", "c"])
    write.write(tmp_path, dataclasses.replace(classifier, card=card), ["saved_model"])
    records.write_json(tmp_path / project_paths.LABELS, about)
    (tmp_path / project_paths.HASHES).unlink()
    with pytest.raises(ValueError, match=r"^signature classes of saved_model .*class 0 to be a, received b;"):
        check(tmp_path, paths, evaluated)
    with pytest.raises(ValueError, match=r"^labels.json of .*expected 4 classes, received 3;"):
        parity.check(tmp_path, parity.Probes(paths, evaluated), [*CLASSES, "d"], OPTIONS)


def test_the_label_that_a_saved_model_gives_is_that_of_the_likeliest_class(
    classifier: model.Classifier,
    tmp_path: Path,
    paths: list[str],
    evaluated: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    likeliest = tf.argmax
    with monkeypatch.context() as patch:
        patch.setattr(tf, "argmax", lambda rows, axis: (likeliest(rows, axis=axis) + 1) % len(CLASSES))
        write.write(tmp_path, classifier, ["saved_model"])
    with pytest.raises(ValueError, match=r"\(saved_model\) gives 5 of 5 images another label than its probabilities"):
        check(tmp_path, paths, evaluated)


def test_an_export_that_does_not_load_fails(
    exported: Path, tmp_path: Path, paths: list[str], evaluated: np.ndarray
) -> None:
    whole = (exported / project_paths.KERAS_FILE).read_bytes()
    (tmp_path / project_paths.KERAS_FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"does not load in a fresh process: \S+"):
        check(tmp_path, paths, evaluated)


@pytest.mark.parametrize("said", ["ResourceExhaustedError: OOM", "CUDA_ERROR_OUT_OF_MEMORY: out of memory"])
def test_a_gpu_without_room_for_the_process_that_answers_is_a_line_with_a_remedy(
    exported: Path, paths: list[str], evaluated: np.ndarray, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    def full(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(words, 1, "", f"Traceback\n{said}\nthe end\n")

    monkeypatch.setattr(subprocess, "run", full)
    with pytest.raises(ValueError, match=r"^export: expected GPU memory for a process .*CUDA_VISIBLE_DEVICES= before"):
        check(exported, paths, evaluated)


def test_an_image_that_it_cannot_answer_for_fails(
    exported: Path, tmp_path: Path, paths: list[str], evaluated: np.ndarray
) -> None:
    shutil.copy(exported / project_paths.KERAS_FILE, tmp_path)
    with pytest.raises(ValueError, match=r"\(keras\) differs from the evaluated one by inf"):
        check(tmp_path, [*paths[:-1], str(tmp_path / "gone.png")], evaluated)


def test_a_folder_without_an_export_fails(tmp_path: Path, paths: list[str], evaluated: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected an exported model, found none"):
        check(tmp_path, paths, evaluated)
