import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thaw.config import schema
from thaw.config.images import FITS, INTERPOLATIONS
from thaw.images import fitting, integrity, preprocessing, reference
from thaw.runtime.framework import tf

SIZES = [
    (24, 40),
    (40, 24),
    (64, 64),
    (63, 31),
    (200, 20),
    (1, 5),
    (33, 32),
]  # of a 32-pixel square the fifth is large


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A picture of each size; the last three are JPEGs, the last turned by EXIF."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    paths = []
    for number, (width, height) in enumerate(SIZES):
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        path = folder / f"{number}.{'png' if number < 4 else 'jpg'}"
        exif = Image.Exif()
        exif[274] = 6
        Image.fromarray(pixels).save(path, exif=exif if number == len(SIZES) - 1 else Image.Exif())
        paths.append(str(path))
    return paths


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(
    ("interpolation", "antialias"),
    [("bilinear", True), ("bilinear", False), ("bicubic", True), ("bicubic", False), ("nearest", False)],
)
def test_a_batch_of_pictures_is_fitted_as_one_is(
    files: list[str], fit: str, interpolation: str, antialias: bool
) -> None:
    image = schema.Image(32, fit, interpolation, antialias)
    load = preprocessing.load(image)
    encoded = [Path(path).read_bytes() for path in files]
    turned = [integrity.orientation(data) if data.startswith(b"\xff\xd8") else 1 for data in encoded]
    assert 6 in turned
    pixels, sides, fitted = fitting.decoder(image)(encoded, turned)
    signature = [tf.TensorSpec((None, None, None, 3), tf.uint8), tf.TensorSpec((None, 2), tf.int32)]
    fit_all = tf.function(fitting.fitter(image), input_signature=[*signature, tf.TensorSpec((None, None, None, 3))])
    found = fit_all(pixels, sides, fitted).numpy()
    assert found.dtype == np.float32
    for data, one in zip(encoded, found, strict=True):
        # By far the most agree within a thousandth; see ``fitting.TOLERANCE``.
        expected = load(tf.constant(data)).numpy()
        most = fitting.TOLERANCE if interpolation == "bicubic" and not antialias else 1e-3
        np.testing.assert_allclose(one, expected, rtol=0, atol=most)
    large = [max(width, height) > 2 * 32 for width, height in SIZES]
    assert (sides.numpy()[:, 0] == 0).tolist() == (large if fit != "crop" else [False] * len(SIZES))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("antialias", [True, False])
def test_the_processor_fits_pictures_as_the_reference_says(
    files: list[str], interpolation: str, antialias: bool
) -> None:
    for fit in FITS:
        image = schema.Image(32, fit, interpolation, antialias)
        dataset = tf.data.Dataset.from_tensor_slices(([Path(path).read_bytes() for path in files], [1] * len(files)))
        (fields,) = dataset.map(fitting.picture(image)).padded_batch(len(files)).as_numpy_iterator()
        with ThreadPoolExecutor(2) as pool:
            found = fitting.batch(fields, image, pool)
        assert found.dtype == np.float32
        assert found.shape == (len(files), 32, 32, 3)
        for path, one in zip(files, found, strict=True):
            expected = reference.fit(np.asarray(Image.open(path)), image)
            np.testing.assert_allclose(one, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_a_long_strip_is_padded_without_the_square_of_its_side(interpolation: str) -> None:
    strip = np.random.default_rng(0).integers(0, 256, (8, 6000, 3), dtype=np.uint8)
    image = schema.Image(32, "pad", interpolation, interpolation != "nearest")
    tracemalloc.start()
    found = fitting.fit(strip, image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6  # the square alone has 108 MB
    square = preprocessing.framed(tf.constant(strip), image).numpy()
    np.testing.assert_array_equal(found, fitting.fit(square, image))


def test_no_bytes_are_a_black_picture() -> None:
    image = schema.Image(32, "squash", "bilinear", antialias=True)
    pixels, sides, fitted = fitting.picture(image)(tf.constant(""), tf.constant(1))
    assert fitted.shape == (0, 0, 3)
    assert not pixels.numpy().any()
    assert sides.numpy().tolist() == [1, 1]
