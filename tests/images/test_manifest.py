import hashlib
import threading
from collections import Counter
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from PIL import Image

from thaw import paths, records
from thaw.config import schema
from thaw.images import columns, fitting, manifest, preprocessing
from thaw.runtime import seeds, threads
from thaw.runtime.framework import keras, tf

SQUARE = schema.Image(32, "squash", "bilinear", antialias=True)


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A prepared folder of seven images."""
    monkeypatch.chdir(tmp_path)
    random, rows = np.random.default_rng(0), []
    for number in range(7):
        label, split = ("cat", "dog", "eel")[number % 3], "val" if number > 4 else "train"
        path = Path("data/raw", label, f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        name = path.relative_to("data/raw").as_posix()
        row = {"path": name, "sha256": records.sha256(path), "label": label, "split": split}
        rows.append(row | {"converted": "", "weight": "1.0", "unit": "1" if number in (0, 4) else ""})
    records.write_csv(paths.MANIFEST, list(rows[0]), rows)
    records.write_json(paths.CLASSES, {"classes": ["cat", "dog", "eel"]})
    return Path("data/raw")


def test_a_split_is_read_in_the_manifests_order(raw: Path) -> None:
    (train,) = manifest.read(str(raw), "train")
    assert len(train) == 5
    assert train.names == ["cat/0.png", "dog/1.png", "eel/2.png", "cat/3.png", "dog/4.png"]
    assert train.labels.tolist() == [0, 1, 2, 0, 1]
    assert train.labels.dtype == np.int64
    for path, sha256 in zip(train.paths, train.hashes, strict=True):
        assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == sha256
    assert manifest.read(str(raw), "val")[0].names == ["eel/5.png", "cat/6.png"]
    assert len(manifest.read(str(raw), "test")[0]) == 0


def test_the_manifest_is_read_once_for_all_splits_until_it_changes(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[str] = []

    def counted(file: BinaryIO) -> columns.Manifest:
        times.append(file.name)
        return parsed(file)

    parsed = columns.parsed
    monkeypatch.setattr(columns, "parsed", counted)
    columns._read.cache_clear()
    (train,) = manifest.read(str(raw), "train")
    assert list(map(len, manifest.read(str(raw), "train", "val", "test"))) == [5, 2, 0]
    assert times == [str(paths.MANIFEST.resolve())]
    assert train.units == ["1", "", "", "", "1"]
    train.labels[:] = 0
    assert manifest.read(str(raw), "train")[0].labels.tolist() == [0, 1, 2, 0, 1]
    text = paths.MANIFEST.read_text()
    paths.MANIFEST.write_text(text.replace(",train,", ",tests,", 1).replace("tests", "test", 1))
    assert list(map(len, manifest.read(str(raw), "train", "val", "test"))) == [4, 2, 1]


def test_weights_that_a_table_gave_are_read_and_none_where_all_are_one(raw: Path) -> None:
    assert manifest.read(str(raw), "train")[0].weights is None
    rows = records.read_csv(paths.MANIFEST)
    rows[1]["weight"] = "0.25"
    records.write_csv(paths.MANIFEST, list(rows[0]), rows)
    weights = manifest.read(str(raw), "train")[0].weights
    assert weights is not None
    assert weights.dtype == np.float32
    assert weights.tolist() == [1, 0.25, 1, 1, 1]
    assert manifest.read(str(raw), "val")[0].weights is None


def test_what_was_converted_is_read_in_place_of_the_file_with_its_own_hash(raw: Path) -> None:
    rows = records.read_csv(paths.MANIFEST)
    made = paths.converted(rows[1]["sha256"])
    made.parent.mkdir()
    Image.new("RGB", (9, 9)).save(made)
    rows[1]["converted"] = records.sha256(made)
    records.write_csv(paths.MANIFEST, list(rows[0]), rows)
    (train,) = manifest.read(str(raw), "train")
    assert train.names[1] == "dog/1.png"
    assert (train.paths[1], train.hashes[1]) == (str(made), records.sha256(made))
    assert train.paths[2] == str(raw / "eel/2.png")
    assert next(manifest.pixels(SQUARE, train.paths[1:2], train.hashes[1:2], 1)).max() == 0


def test_the_paths_of_a_table_are_relative_to_its_folder(raw: Path) -> None:
    table = raw / "images.csv"
    table.write_text("path,label\n")
    assert manifest.read(str(table), "val")[0].paths == [str(raw / "eel/5.png"), str(raw / "cat/6.png")]


def test_labels_follow_the_list_of_classes(raw: Path) -> None:
    records.write_json(paths.CLASSES, {"classes": ["eel", "dog", "cat"]})
    assert manifest.read(str(raw), "train")[0].labels.tolist() == [2, 1, 0, 2, 1]


def test_a_folder_that_is_gone_is_named(raw: Path) -> None:
    raw.rename("data/moved")
    with pytest.raises(ValueError, match=r"^data\.raw: expected the folder of images data/raw, found none"):
        manifest.read(str(raw), "train")


def test_pixels_come_in_order_and_none_is_left_out(raw: Path) -> None:
    (train,) = manifest.read(str(raw), "train")
    load = preprocessing.load(SQUARE)
    expected = np.stack([load(tf.io.read_file(path)) for path in train.paths])
    for batch_size, sizes in ((2, [2, 2, 1]), (5, [5]), (64, [5])):
        batches = list(manifest.pixels(SQUARE, train.paths, train.hashes, batch_size))
        assert [len(batch) for batch in batches] == sizes
        assert all(batch.dtype == np.float32 for batch in batches)
        np.testing.assert_allclose(np.concatenate(batches), expected, rtol=0, atol=1e-3)


@pytest.mark.skipif(threads.used() < 2, reason="needs two cores")
def test_files_are_decoded_at_once_also_where_operations_must_repeat(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (train,) = manifest.read(str(raw), "train")
    met, fit = threading.Barrier(2, timeout=30), fitting.fit

    def fitted(pixels: np.ndarray, image: schema.Image) -> np.ndarray:
        met.wait()  # for another
        return fit(pixels, image)

    monkeypatch.setattr(fitting, "fit", fitted)
    seeds.fix(0)
    for path in train.paths:
        Image.new("RGB", (70, 70)).save(path)  # more than twice the square: each is fitted as it is decoded
    hashes = [records.sha256(Path(path)) for path in train.paths[:4]]
    (pixels,) = manifest.pixels(SQUARE, train.paths[:4], hashes, 4)
    assert len(pixels) == 4


def test_a_few_images_are_the_first_of_them(raw: Path) -> None:
    (train,) = manifest.read(str(raw), "train")
    (whole,) = manifest.pixels(SQUARE, train.paths, train.hashes, len(train))
    np.testing.assert_array_equal(manifest.few(SQUARE, train), whole)
    many = manifest.few(SQUARE, replace(train, paths=[*train.paths] * 10, hashes=[*train.hashes] * 10))
    assert len(many) == manifest.FEW
    np.testing.assert_array_equal(many[:5], whole)


def test_exchanged_images_are_noticed_by_whoever_reads_them(raw: Path) -> None:
    (train,) = manifest.read(str(raw), "train")
    manifest.check(train)
    first, second = (Path(path) for path in train.paths[2:4])
    name = first.with_name("new\nline.png")
    first.rename(name)
    train.paths = [*train.paths[:2], str(name), *train.paths[3:]]
    assert len(list(manifest.pixels(SQUARE, train.paths, train.hashes, 1))) == 5
    first.write_bytes(second.read_bytes())  # each is a whole image, and none is where it was
    second.write_bytes(name.read_bytes())
    name.write_bytes(first.read_bytes())
    for read in (
        lambda: manifest.check(train),
        lambda: list(manifest.pixels(SQUARE, train.paths, train.hashes, 2)),
        lambda: manifest.few(SQUARE, train),
    ):
        with pytest.raises(
            ValueError, match=r"new\nline\.png: expected the image that was prepared, but it holds other"
        ):
            read()
    name.unlink()
    with pytest.raises(ValueError, match=r"new\nline\.png: .*, but cannot be read: No such file.*run `dvc repro`"):
        manifest.few(SQUARE, train)


def index_and_view(indices: np.ndarray, views: np.ndarray) -> np.ndarray:
    """A source whose inputs say what was asked for."""
    return np.stack([indices, views], axis=1).astype(np.float32)


class Seen(keras.layers.Layer):  # type: ignore[misc]  # Keras has no stubs
    """Writes down each input that passes in training, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[np.ndarray] = []

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if training:
            self.steps.append(np.asarray(inputs))
        return inputs


def fitted(train: manifest.Batches, epochs: int) -> list[list[np.ndarray]]:
    """What a real ``model.fit`` shows the model: epochs of steps of (batch, 2) indices and views."""
    seen = Seen()
    bounds: list[int] = []
    numbers: list[int] = []
    model = keras.Sequential([seen, keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)

    def mark(_epoch: int, _logs: object) -> None:
        bounds.append(len(seen.steps))
        numbers.append(train.epoch)

    callbacks = [keras.callbacks.LambdaCallback(on_epoch_begin=mark)]
    val = manifest.Batches(index_and_view, train.labels, 4)
    model.fit(train, validation_data=val, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)
    assert numbers == list(range(numbers[0], numbers[0] + epochs))  # Keras turns the page once before it begins
    return [seen.steps[first:last] for first, last in zip(bounds, [*bounds[1:], len(seen.steps)], strict=True)]


def test_in_fit_each_image_is_seen_once_an_epoch_in_an_order_of_its_own() -> None:
    labels = np.arange(10) % 3
    train = manifest.Batches(index_and_view, labels, 4, views=5, seed=3)
    epochs = fitted(train, 6)
    orders = []
    drawn: Counter[int] = Counter()
    for steps in epochs:
        assert [len(step) for step in steps] == [4, 4, 2]
        indices, views = np.concatenate(steps).astype(int).T
        assert sorted(indices) == list(range(10))
        assert views.min() >= 0
        assert views.max() < 5
        orders.append(tuple(indices))
        drawn.update(views.tolist())
    assert len(set(orders)) == 6
    assert set(drawn) == set(range(5))
    again = fitted(manifest.Batches(index_and_view, labels, 4, views=5, seed=3), 6)
    for one, two in zip(again, epochs, strict=True):
        np.testing.assert_array_equal(np.concatenate(one), np.concatenate(two))
    other = fitted(manifest.Batches(index_and_view, labels, 4, views=5, seed=4), 1)
    assert not np.array_equal(np.concatenate(other[0]), np.concatenate(epochs[0]))


def test_the_views_of_an_image_change_from_epoch_to_epoch() -> None:
    train = manifest.Batches(index_and_view, np.zeros(200, np.int64), 200, views=4, seed=0)
    table = np.zeros((50, 200), int)
    for epoch in range(50):
        indices, views = train[0][0].astype(int).T
        table[epoch, indices] = views
        train.on_epoch_end()
    assert (np.bincount(table.ravel(), minlength=4) > 0.23 * table.size).all()
    assert all(len(set(column)) == 4 for column in table.T)


@pytest.mark.parametrize("views", [2, 3, 8])
def test_no_view_of_an_image_comes_again_before_all_have_come(views: int) -> None:
    train = manifest.Batches(index_and_view, np.zeros(50, np.int64), 50, views=views, seed=0)
    table = np.zeros((2 * views, 50), int)
    for epoch in range(2 * views):
        indices, drawn = train[0][0].astype(int).T
        table[epoch, indices] = drawn
        train.on_epoch_end()
    for turn in (table[:views], table[views:]):
        np.testing.assert_array_equal(np.sort(turn, axis=0), np.arange(views)[:, None].repeat(50, axis=1))
    assert len({tuple(column) for column in table.T}) == views  # images begin at different views


def test_an_image_that_is_drawn_more_often_goes_through_its_views_in_turn() -> None:
    chances = np.array([0.6, 0.2, 0.1, 0.1])
    train = manifest.Batches(index_and_view, np.zeros(4, np.int64), 4, views=3, seed=0, chances=chances)
    drawn: dict[int, list[int]] = {image: [] for image in range(4)}
    for _ in range(30):
        for image, view in train[0][0].astype(int).tolist():
            drawn[image].append(view)
        train.on_epoch_end()
    assert len(drawn[0]) > 2 * len(drawn[1]) > 0
    for seen in drawn.values():
        assert seen == [(seen[0] + turn) % 3 for turn in range(len(seen))]


def test_weights_stay_with_their_images() -> None:
    weights = np.random.default_rng(0).uniform(size=11).astype(np.float32)
    train = manifest.Batches(index_and_view, np.zeros(11, np.int64), 4, views=2, seed=1, weights=weights)
    for number in range(len(train)):
        inputs, _, given = train[number]
        np.testing.assert_array_equal(given, weights[inputs[:, 0].astype(int)])


def test_labels_stay_with_their_images() -> None:
    labels = np.random.default_rng(0).integers(0, 3, 11)
    train = manifest.Batches(index_and_view, labels, 4, views=2, seed=1)
    for number in range(len(train)):
        inputs, given = train[number]
        np.testing.assert_array_equal(given, labels[inputs[:, 0].astype(int)])


def test_validation_takes_the_clean_images_in_their_order_each_time() -> None:
    val = manifest.Batches(index_and_view, np.zeros(5, np.int64), 2, views=3)
    for _ in range(2):
        batches = [val[number][0] for number in range(len(val))]
        assert [len(batch) for batch in batches] == [2, 2, 1]
        np.testing.assert_array_equal(np.concatenate(batches), [[index, 0] for index in range(5)])
        val.on_epoch_end()


def test_one_view_is_always_the_clean_image() -> None:
    train = manifest.Batches(index_and_view, np.zeros(9, np.int64), 9, views=1, seed=5)
    assert (train[0][0][:, 1] == 0).all()


def test_who_leaves_off_half_way_is_told_nothing_when_the_interpreter_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def numbers() -> Generator[int]:
        with manifest.told():
            yield from range(9)

    half_way = numbers()
    next(half_way)
    monkeypatch.setattr(manifest, "tf", None)  # as Python leaves a module that it takes down
    half_way.close()  # at the very end Python would print what is raised here
