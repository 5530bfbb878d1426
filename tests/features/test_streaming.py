from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thaw import records
from thaw.config import schema
from thaw.features import streaming
from thaw.features.frozen import Frozen
from thaw.images import augment, manifest, preprocessing
from thaw.runtime.framework import keras, tf

# On a GPU too: what is special there has tests of its own.
pytestmark = pytest.mark.usefixtures("processor")

SIZE = schema.Image(32, "squash", "bilinear", antialias=True)
FLIPPED = schema.Augment(2, True, False, False, 0, 0, 0, 0.2, 0, 0)


@pytest.fixture
def split(tmp_path: Path) -> manifest.Images:
    random = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(8)]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (24, 40, 3), dtype=np.uint8)).save(path)
    hashes = [records.sha256(path) for path in paths]
    return manifest.Images([str(path) for path in paths], [path.name for path in paths], hashes, np.zeros(8, np.int64))


@pytest.fixture
def frozen(tmp_path: Path) -> Frozen:
    keras.utils.set_random_seed(0)
    pixels = keras.Input((32, 32, 3))
    output = keras.layers.Conv2D(6, 5, strides=4)(keras.layers.Rescaling(1 / 255)(pixels))
    compute = schema.Compute(
        str(tmp_path / "cache"),
        1,
        shared_cache="",
        shared_cache_gb=1,
        ray="",
        extractor="tensorflow",
        extract_batch_size=4,
        depths=[],
        device="auto",
        devices=1,
        workers=1,
        deterministic=True,
    )
    return Frozen(keras.Model(pixels, output), ["middle"], "", SIZE, FLIPPED, compute)


def test_a_stream_gives_the_views_of_the_images_asked_for(split: manifest.Images, frozen: Frozen, near: float) -> None:
    chosen, views = np.array([7, 2, 2, 5]), np.array([0, 3, 2_000_000_000, 0])
    load = preprocessing.load(SIZE)
    seen = np.stack([load(tf.io.read_file(split.paths[index])) for index in chosen])
    seeds = augment.view_seeds(FLIPPED, [split.hashes[index] for index in chosen], views.tolist())
    made = np.asarray(augment.view(FLIPPED)(seen, seeds))
    expected = np.asarray(frozen.model(np.where((views == 0)[:, None, None, None], seen, made), training=False))
    (source,) = streaming.sources(frozen, split)
    found = source(chosen, views)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    assert not np.array_equal(found[1], found[2])
    for position in range(4):
        alone = source(chosen[position : position + 1], views[position : position + 1])
        # But for the order in which an engine adds; another view is another altogether.
        np.testing.assert_allclose(alone[0], found[position], rtol=0, atol=near * np.abs(expected).max())


def test_nothing_of_a_stream_is_kept(split: manifest.Images, frozen: Frozen) -> None:
    streaming.sources(frozen, split)[0](np.arange(8), np.zeros(8, np.int64))
    assert not Path(frozen.compute.cache_dir).exists()


def test_images_that_were_exchanged_stop_a_stream(split: manifest.Images, frozen: Frozen) -> None:
    (source,), (third, fourth) = streaming.sources(frozen, split), (Path(path) for path in split.paths[3:5])
    third.write_bytes(fourth.read_bytes())
    source(np.array([0, 1, 2, 4]), np.zeros(4, np.int64))
    with pytest.raises(
        ValueError, match=r"^\S+/3\.png: expected the image that was prepared, but it holds other bytes"
    ):
        source(np.array([2, 3]), np.array([0, 7]))
