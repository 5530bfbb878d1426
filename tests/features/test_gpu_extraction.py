import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from thaw import records
from thaw.config import schema
from thaw.features import engines, extraction, gpu_extraction, streaming
from thaw.features.frozen import Frozen
from thaw.images import augment, fitting, manifest, preprocessing
from thaw.runtime import devices, seeds, threads
from thaw.runtime.framework import keras, tf

SIZE = schema.Image(32, "squash", "bilinear", antialias=True)
LIGHT = schema.Augment(3, True, False, False, 10, 0.1, 0.05, 0.1, 0.1, 0)
COUNT = 11


@pytest.fixture(autouse=True)
def _on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the way to a GPU, on whatever computes here."""
    monkeypatch.setattr(devices, "on_gpu", lambda: True)


@pytest.fixture
def split(tmp_path: Path) -> manifest.Images:
    random = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(COUNT)]
    for number, path in enumerate(paths):
        height, width = 20 + 3 * number, 90 if number == 4 else 40  # one is too large to be fitted on the card
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    hashes = [records.sha256(path) for path in paths]
    return manifest.Images(
        [str(path) for path in paths], [path.name for path in paths], hashes, np.zeros(COUNT, np.int64)
    )


def frozen(folder: Path, size: int = 4) -> Frozen:
    keras.utils.set_random_seed(0)
    pixels = keras.Input((32, 32, 3))
    middle = keras.layers.Conv2D(6, 5, strides=4, activation="relu")(keras.layers.Rescaling(1 / 255)(pixels))
    outputs = [keras.layers.GlobalAveragePooling2D()(middle), middle]
    compute = schema.Compute(
        str(folder / "cache"),
        1,
        shared_cache="",
        shared_cache_gb=1,
        ray="",
        extractor="auto",
        extract_batch_size=size,
        depths=[],
        device="auto",
        devices=1,
        workers=1,
        deterministic=True,
    )
    return Frozen(keras.Model(pixels, outputs), ["pool", "middle"], "", SIZE, LIGHT, compute)


def expected(wanted: Frozen, split: manifest.Images, view: int) -> list[np.ndarray]:
    """What Keras makes in float32 of the pixels that a processor makes."""
    load = preprocessing.load(SIZE)
    pixels = np.stack([load(tf.io.read_file(path)) for path in split.paths])
    if view:
        pixels = augment.view(LIGHT)(pixels, augment.view_seeds(LIGHT, split.hashes, [view] * COUNT))
    return [np.asarray(output) for output in wanted.model(pixels, training=False)]


def test_what_is_streamed_for_training_and_validation_has_one_engine(
    tmp_path: Path, split: manifest.Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, init = list[engines.Widening](), engines.Widening.__init__

    def noted(self: engines.Widening, *words: Any) -> None:
        made.append(self)
        init(self, *words)

    monkeypatch.setattr(engines.Widening, "__init__", noted)
    wanted, few = frozen(tmp_path), replace(split, paths=split.paths[::-1], hashes=split.hashes[::-1])
    train, val = streaming.sources(wanted, split, few)
    one, same = train(np.arange(3), np.zeros(3, np.int64)), val(np.arange(COUNT)[:-4:-1], np.zeros(3, np.int64))
    np.testing.assert_array_equal(one, same)
    assert len(made) == 1


def assert_near(found: np.ndarray, exact: np.ndarray) -> None:
    assert found.shape == exact.shape
    np.testing.assert_allclose(found, exact, rtol=0, atol=engines.MIXED_TOLERANCE * float(np.abs(exact).max()))


def test_every_view_of_every_image_is_what_a_processor_makes_of_it(tmp_path: Path, split: manifest.Images) -> None:
    wanted = frozen(tmp_path)
    few = manifest.Images(split.paths[:3], split.names[:3], split.hashes[:3], split.labels[:3])
    extraction.cached(wanted, [(few, 2)])  # so that later batches miss different views
    readers, _ = extraction.cached(wanted, [(split, 3), (few, 1)])
    for view in range(3):
        for reader, exact in zip(readers, expected(wanted, split, view), strict=True):
            assert_near(reader(np.arange(COUNT), np.full(COUNT, view)), exact)
    assert len({readers[1](np.arange(COUNT), np.full(COUNT, view)).tobytes() for view in range(3)}) == 3


def test_all_batches_have_one_shape(tmp_path: Path, split: manifest.Images, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, launched = [], engines.Widening.launched

    def noted(self: engines.Widening, pixels: tf.Tensor) -> list[tf.Tensor]:
        seen.append(tuple(pixels.shape))
        return launched(self, pixels)

    monkeypatch.setattr(engines.Widening, "launched", noted)
    extraction.cached(frozen(tmp_path), [(split, 2)])
    assert seen == [(4, 32, 32, 3)] * 6
    seen.clear()
    (source,) = streaming.sources(frozen(tmp_path), split)
    for count in (4, 2, 3):
        source(np.arange(count), np.arange(count))
    assert seen == [(4, 32, 32, 3)] * 3


def test_a_stream_gives_the_views_that_are_asked_for(tmp_path: Path, split: manifest.Images) -> None:
    wanted, views = frozen(tmp_path), np.array([0, 1, 2, 0])
    (source,) = streaming.sources(wanted, split)
    chosen = np.array([7, 2, 4, 4])
    exact = np.stack([expected(wanted, split, view)[0][index] for index, view in zip(chosen, views, strict=True)])
    found = source(chosen, views)
    assert found.dtype == np.float32
    assert_near(found, exact)
    assert_near(source(chosen[:3], np.zeros(3, np.int64)), expected(wanted, split, 0)[0][chosen[:3]])


@pytest.mark.skipif(threads.used() < 2, reason="needs two cores")
def test_files_are_decoded_at_once_also_where_operations_must_repeat(
    tmp_path: Path, split: manifest.Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    met, fit = threading.Barrier(2, timeout=30), fitting.fit

    def fitted(pixels: np.ndarray, image: schema.Image) -> np.ndarray:
        met.wait()  # for another
        return fit(pixels, image)

    monkeypatch.setattr(fitting, "fit", fitted)
    seeds.fix(0)
    large = [tmp_path / f"large {number}.png" for number in range(4)]  # each is fitted as it is decoded
    for number, path in enumerate(large):
        Image.new("RGB", (70, 70), (number, 0, 0)).save(path)
    hashes = [records.sha256(path) for path in large]
    few = manifest.Images([str(path) for path in large], split.names[:4], hashes, split.labels[:4])
    ((pool, _),) = extraction.cached(frozen(tmp_path), [(few, 2)])
    assert pool(np.arange(4), np.ones(4, np.int64)).shape == (4, 6)


def full_above(most: int) -> Callable[[engines.Widening, tf.Tensor], list[tf.Tensor]]:
    """``Widening.launched`` of a card whose memory holds so many images."""
    launched = engines.Widening.launched

    def run(self: engines.Widening, pixels: tf.Tensor) -> list[tf.Tensor]:
        if len(pixels) > most:
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        return launched(self, pixels)

    return run


def test_where_the_memory_is_full_images_go_on_in_smaller_parts(
    tmp_path: Path, split: manifest.Images, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engines.Widening, "launched", full_above(2))
    wanted = frozen(tmp_path, size=8)
    ((pool, _),) = extraction.cached(wanted, [(split, 2)])
    assert_near(pool(np.arange(COUNT), np.full(COUNT, 1)), expected(wanted, split, 1)[0])
    said = " ".join(capsys.readouterr().err.split())
    assert [said.count(f"images go on {size} at a time") for size in (4, 2, 1)] == [1, 1, 0]


def test_a_memory_that_holds_no_image_is_said_in_a_line(
    tmp_path: Path, split: manifest.Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines.Widening, "launched", full_above(0))
    with pytest.raises(ValueError, match=r"compute\.extract_batch_size: expected .* received 1 at once"):
        extraction.cached(frozen(tmp_path), [(split, 1)])


def test_a_file_that_has_changed_is_named_and_none_of_its_batch_is_kept(
    tmp_path: Path, split: manifest.Images
) -> None:
    Image.new("RGB", (24, 40)).save(split.paths[6])
    wanted = frozen(tmp_path)
    with pytest.raises(ValueError, match=r"^\S+/6\.png: expected the image that was prepared, but"):
        extraction.cached(wanted, [(split, 1)])
    Path(split.paths[6]).write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"^\S+/6\.png: .*holds other bytes"):
        extraction.cached(wanted, [(split, 1)])
    rows = list((tmp_path / "cache").glob("*/index.csv"))
    assert {len(path.read_text().splitlines()) for path in rows} <= {4}


def test_what_float16_cannot_hold_is_computed_again_in_bfloat16(
    tmp_path: Path, split: manifest.Images, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = frozen(tmp_path)
    pixels = keras.Input((32, 32, 3))
    # Noise, as the engine is tried with, adds up to 49,000, and a picture that is nearly white to more than 65,504.
    total = keras.layers.Dense(1, use_bias=False, kernel_initializer=keras.initializers.Constant(0.125))
    outputs = keras.layers.Rescaling(1e-2)(total(keras.layers.Flatten()(pixels)))
    wanted.model, wanted.cuts = keras.Model(pixels, outputs), ["total"]
    Image.new("RGB", (32, 32), (250, 250, 250)).save(split.paths[9])
    split = replace(split, hashes=[*split.hashes[:9], records.sha256(Path(split.paths[9])), *split.hashes[10:]])
    ((reader,),) = extraction.cached(wanted, [(split, 1)])
    assert capsys.readouterr().err.count("too large for float16; the backbone goes on in bfloat16") == 1
    found = reader(np.array([9]), np.array([0]))
    np.testing.assert_allclose(found, 250 * 3072 * 0.125e-2, rtol=1e-2)


@pytest.mark.gpu
def test_on_a_gpu_views_are_within_half_a_grey_level_of_the_processors(split: manifest.Images) -> None:
    pixels = np.concatenate(list(manifest.pixels(SIZE, split.paths, split.hashes, COUNT)))
    seeds = augment.view_seeds(LIGHT, split.hashes, [1] * COUNT)
    with tf.device("/CPU:0"):
        exact = augment.view(LIGHT)(pixels, seeds).numpy()
        drawn = augment.drawn(LIGHT, SIZE.size)(tf.constant(seeds))
    with tf.device(devices.place()):
        found = augment.moved(LIGHT)(tf.constant(pixels), *drawn).numpy()
    assert (np.abs(found - exact) > gpu_extraction.MOVED).mean() < 1e-4
