from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thaw import paths, records
from thaw.classifier import head, model
from thaw.config import schema
from thaw.evaluation import evaluate, intervals, metrics, predictions
from thaw.images import manifest, preprocessing
from thaw.runtime.framework import keras, tf

CLASSES = ["a", "b, c", "d"]
NUMBER = 11  # images; no batch size below divides it


def classifier(seed: int) -> model.Classifier:
    """Real, and small: what a backbone is made of is not this module's matter."""
    keras.utils.set_random_seed(seed)
    image, linear = schema.Image(32, "squash", "bilinear", antialias=True), schema.Head("avg", [], [], 0.0)
    pixels = keras.Input((32, 32, 3), name="pixels")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(pixels)
    features = keras.layers.Conv2D(16, 3, strides=4, activation="relu")(scaled)
    card = model.Card(schema.Backbone("efficientnet_lite0", "random", "", "", ""), "", image, linear, CLASSES)
    return model.Classifier(keras.Model(pixels, features, name="tiny"), head.build(linear, 16, 3), card, {})


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> manifest.Images:
    """Images of many sizes; their names are in another order than the alphabet's."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    names = [f"{CLASSES[number % 3]}/{NUMBER - number:02}.png" for number in range(NUMBER)]
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True)
        pixels = random.integers(0, 256, (20 + number, 45 - number, 3)) * random.random(3)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
    labels = np.array([number % 3 for number in range(NUMBER)])
    hashes = [records.sha256(folder / name) for name in names]
    return manifest.Images([str(folder / name) for name in names], names, hashes, labels)


@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_every_image_counts_once_in_its_place_whatever_the_batch_size(split: manifest.Images, batch_size: int) -> None:
    classifiers = [classifier(1), classifier(2)]
    found = evaluate.probabilities(classifiers, split, batch_size)
    for each, rows in zip(classifiers, found, strict=True):
        assert rows.shape == (NUMBER, len(CLASSES))
        assert rows.dtype == np.float32
        load, whole = preprocessing.load(each.card.image), model.whole(each)
        logits = [whole(load(tf.io.read_file(path))[None], training=False)[0] for path in split.paths]
        np.testing.assert_allclose(rows, keras.ops.softmax(np.stack(logits)), atol=1e-5)
        assert len(np.unique(rows.round(4), axis=0)) == NUMBER, "the images must differ, or this test could not fail"
    assert not np.allclose(found[0], found[1], atol=1e-3)


@dataclass
class Nested:
    """A group with a group in it, as ``data`` has its ``policy``."""

    inner: schema.Evaluate


@dataclass
class Settings:
    """The groups that matter here; the stage's Config has more, for the report."""

    evaluate: schema.Evaluate
    tracking: schema.Tracking
    nested: Nested


def evaluating(suspects: int) -> schema.Evaluate:
    """Everything on but what needs more images than these."""
    return schema.Evaluate([2], 0.9, 4, suspects, True, False, 1, 0.001, 0.01, True, 0.9, [0.5], 0.2, 0.0)


SETTINGS = Settings(
    evaluating(3),
    schema.Tracking(enabled=False, uri="secret", experiment="x"),
    Nested(evaluating(7)),
)


SIZE = {"width": "20", "height": "45"}


def listed(
    split: manifest.Images, groups: dict[int, str], others: Sequence[dict[str, str]] = ()
) -> list[dict[str, str]]:
    """Write and return the rows of the test images, of which some have a unit, and of other images."""
    rows = [
        {"path": name, "label": name.split("/")[0], "split": "test", "unit": groups.get(number, "")}
        for number, name in enumerate(split.names)
    ]
    learnt = [
        {"path": f"{own}/{kind}.png", "label": own, "split": kind, "unit": ""}
        for kind in ("train", "val")
        for own in CLASSES
    ]
    every = [SIZE | row for row in (*rows, *learnt, *others)]
    records.write_csv(paths.MANIFEST, list(every[0]), every)
    return every


def answered(found: dict[str, np.ndarray]) -> dict[str, predictions.Answers]:
    """Answers with embeddings of which the first channels are the probabilities."""
    return {phase: predictions.Answers(rows, (rows[:, :3] @ np.eye(3, 16))) for phase, rows in found.items()}


KEPT_START = {
    "layers": 4,
    "epochs": 3,
    "best_epoch": 0,
    "val_loss_change": 0.0512,
    "val_loss_low": 0.0104,
    "val_loss_high": 0.092,
    "ended_too_early": True,
    "advice": "set phase2.epochs above 3",
}


@pytest.fixture
def written(split: manifest.Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Probabilities by phase, of which figures, tables, pictures and the report have been written."""
    monkeypatch.chdir(tmp_path)
    rows = listed(split, {})
    per_class = [{"class": name, "train": 2, "val": 1, "test": 4} for name in CLASSES]
    records.write_json(paths.metrics("prepare"), {"per_class": per_class})
    for stage, folder in (("phase1_head", paths.PHASE1), ("phase2_finetune", paths.PHASE2)):
        folder.mkdir(parents=True)
        (folder / model.WEIGHTS).write_bytes(stage.encode())
        columns = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
        records.write_csv(paths.history(stage), columns, [dict.fromkeys(columns, 0.5) | {"epoch": 1}])
    records.write_json(paths.metrics("phase2_finetune"), KEPT_START)
    blocks = [{"block": "stem", "layers": 4, "parameters": 992, "trained": 0, "computation": 1}]
    records.write_csv(paths.BLOCKS, model.BLOCKS, blocks)
    right = np.full((NUMBER, 3), 0.1, np.float32)
    right[np.arange(NUMBER), split.labels] = 0.8
    wrong = right.copy()
    wrong[:3] = (0.2, 0.1, 0.7)  # labels 0, 1, 2: two wrong answers, of which one is right among two
    for split_name in ("train", "val"):
        records.write_arrays(paths.embeddings(paths.PHASE1, split_name), rows=np.eye(3, 16), images=np.arange(3))
    np.save(paths.validation(paths.PHASE1), np.full((3, 3), 0.1) + np.eye(3) * 0.7)
    found = {"phase1": wrong, "phase2": right}
    text, _ = evaluate.write(answered(found), split, rows, CLASSES, SETTINGS.evaluate)
    assert text.startswith("test accuracy 81.8% (")
    assert "after phase 1, 100.0% (" in text
    assert text.endswith("; phase 2 ended too early: set phase2.epochs above 3")
    return found


def test_the_figures_are_those_of_the_images(written: dict[str, np.ndarray], split: manifest.Images) -> None:
    figures = records.read_json(paths.metrics("evaluate"))
    assert figures["phase1"] == metrics.summary(written["phase1"], split.labels, [2], 0.9)
    assert figures["phase1"]["accuracy"] == 9 / NUMBER
    assert figures["phase2"]["accuracy"] == 1
    assert figures["phase1"]["images"] == figures["phase2"]["images"] == NUMBER
    assert figures["made_from"] == records.made_from(
        [paths.MANIFEST, paths.PHASE1 / model.WEIGHTS, paths.PHASE2 / model.WEIGHTS]
    )
    rows = records.read_csv(paths.PER_CLASS)
    assert [(row["phase"], row["class"]) for row in rows] == [
        (p, name) for p in ("phase1", "phase2") for name in CLASSES
    ]
    assert {row["recall"] for row in rows[3:]} == {"1.0"}
    assert sum(int(row["support"]) for row in rows[:3]) == NUMBER


def test_the_difference_is_that_of_the_same_images(written: dict[str, np.ndarray]) -> None:
    difference = records.read_json(paths.metrics("evaluate"))["difference"]
    first, second = np.ones(NUMBER, bool), np.ones(NUMBER, bool)
    first[:2] = False
    assert difference == {**intervals.difference(first, second, 0.9), **intervals.mcnemar(first, second)}


def test_each_prediction_is_in_the_splits_order(written: dict[str, np.ndarray], split: manifest.Images) -> None:
    for phase, probabilities in written.items():
        np.testing.assert_array_equal(np.load(paths.probabilities(phase)), probabilities)
        rows = records.read_csv(paths.predictions(phase))
        assert [row["path"] for row in rows] == split.names
        assert [row["label"] for row in rows] == [CLASSES[label] for label in split.labels]
        assert [row["predicted"] for row in rows] == [CLASSES[row.argmax()] for row in probabilities]
        assert [np.float32(row["probability"]) for row in rows] == list(probabilities.max(axis=1))


@pytest.mark.usefixtures("written")
def test_slices_and_map_are_of_the_model_to_ship(written: dict[str, np.ndarray], split: manifest.Images) -> None:
    turned = {"phase1": written["phase2"], "phase2": written["phase1"]}
    rows = [row | {"camera": "ab"[number % 2]} for number, row in enumerate(listed(split, {}))]
    for found in (written, turned):
        _, judged = evaluate.write(answered(found), split, rows, CLASSES, SETTINGS.evaluate)
        shipped = answered(found)[judged.ship].embeddings
        np.testing.assert_array_equal(np.load(paths.EMBEDDINGS), shipped)
        right = found[judged.ship].argmax(axis=1) == split.labels
        cameras = [row for row in records.read_csv(paths.SLICES) if row["slice"] == "camera"]
        assert [float(row["accuracy"]) for row in cameras] == [right[::2].mean(), right[1::2].mean()]


def test_pictures_of_the_confusion_are_written() -> None:
    for phase in ("phase1", "phase2"):
        with Image.open(paths.confusion_picture(phase)) as picture:
            assert min(picture.size) > 100


def test_images_of_one_group_count_as_one_in_intervals_and_tests(
    written: dict[str, np.ndarray], split: manifest.Images, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = {number: f"person {number // 4}" for number in range(8)}
    rows = listed(split, groups)
    text, _ = evaluate.write(answered(written), split, rows, CLASSES, SETTINGS.evaluate)
    assert ", on 5 independent units" in text
    figures, own = records.read_json(paths.metrics("evaluate")), np.array([0] * 4 + [4] * 4 + [8, 9, 10])
    assert figures["phase1"] == metrics.summary(written["phase1"], split.labels, [2], 0.9, own)
    assert (figures["phase1"]["units"], figures["phase1"]["images"]) == (5, NUMBER)
    first, second = np.ones(NUMBER, bool), np.ones(NUMBER, bool)
    first[:2] = False
    expected = {**intervals.difference(first, second, 0.9, own), **intervals.mcnemar(first, second, own)}
    assert figures["difference"] == expected
    assert "warning" not in capsys.readouterr().err and "without_leaks" not in figures


def test_leaks_are_said_where_accuracy_is_read_with_the_accuracy_without_them(
    written: dict[str, np.ndarray], split: manifest.Images, capsys: pytest.CaptureFixture[str]
) -> None:
    learnt = {"path": "elsewhere.png", "label": "a", "split": "train", "unit": "x"}
    rows = listed(split, {0: "x", 2: "x", 3: "x"}, [learnt])
    _, judged = evaluate.write(answered(written), split, rows, CLASSES, SETTINGS.evaluate)
    clean = records.read_json(paths.metrics("evaluate"))["without_leaks"]
    # Of the three leaked ones phase 1 has the first wrong, and it has one of the others wrong.
    assert clean["images"] == 8 and clean["phase1"]["accuracy"] == 7 / 8 and clean["phase2"]["accuracy"] == 1
    assert clean["phase1"]["accuracy_low"] == intervals.wilson(7, 8, 0.9)[0]
    (line,) = capsys.readouterr().err.splitlines()
    assert "3 of 11 test images" in line and "87.5%" in line and "100.0%" in line
    assert records.read_json(paths.metrics("evaluate"))["warnings"] == [line.removeprefix("warning: ")]
    assert judged.difference["units"] == 8 and "without 3 test images that leak" in judged.text
    assert judged.baselines["phase1"]["accuracy"] == 7 / 8
    rows = listed(split, dict.fromkeys(range(NUMBER), "x"), [learnt])
    evaluate.write(answered(written), split, rows, CLASSES, SETTINGS.evaluate)
    assert records.read_json(paths.metrics("evaluate"))["without_leaks"] == {"images": 0}
    assert "no test image is left" in capsys.readouterr().err


def test_a_class_without_test_images_is_named_and_in_no_mean(
    written: dict[str, np.ndarray], split: manifest.Images, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {phase: np.pad(rows, ((0, 0), (0, 1))) for phase, rows in written.items()}
    evaluate.write(answered(found), split, listed(split, {}), [*CLASSES, "elk"], SETTINGS.evaluate)
    figures = records.read_json(paths.metrics("evaluate"))
    assert figures["untested"] == ["elk"] and figures["phase2"]["macro_f1"] == figures["phase2"]["macro_recall"] == 1
    rows = [row for row in records.read_csv(paths.PER_CLASS) if row["class"] == "elk"]
    assert [(row["precision"], row["recall"], row["f1"], row["support"]) for row in rows] == [("", "", "", "0")] * 2
    assert "elk" in capsys.readouterr().err
    assert "elk" in figures["warnings"][0]
