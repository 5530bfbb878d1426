import itertools

import numpy as np
import pytest

from thaw.config import schema
from thaw.config.images import FITS, INTERPOLATIONS
from thaw.exports import resize
from thaw.images import preprocessing, reference
from thaw.runtime.framework import tf

SIZE = 45  # no power of two, at which float32 would be exact
# Heights and widths: larger, smaller and the same, a single pixel, a line, and odd ones that leave half a border.
SHAPES = ((50, 30), (20, 61), (SIZE, SIZE), (9, 17), (1, 1), (1, 70), (301, 2), (33, 31), (380, 601))
GREY_LEVELS = 1e-3
# From the reference in float64, to which training is as near: TensorFlow rounds places between pixels to float32, and
# without antialiasing reads the cubic filter from a table.
FROM_REFERENCE = {("bilinear", False): 1e-2, ("bicubic", False): 0.25}
OTHERS_FROM_REFERENCE = 2e-3
WAYS = list(itertools.product(FITS, INTERPOLATIONS, (True, False)))


@pytest.mark.parametrize(("fit", "interpolation", "antialias"), WAYS)
def test_two_products_give_the_pixels_of_training_within_a_thousandth_of_a_grey_level(
    fit: str, interpolation: str, antialias: bool
) -> None:
    image = schema.Image(SIZE, fit, interpolation, antialias=antialias)
    trained = preprocessing.resizer(image)
    deployed = tf.function(lambda pixels: resize.fitted(pixels, image), reduce_retracing=True)
    random = np.random.default_rng(0)
    for height, width in SHAPES:
        pixels = random.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        found = deployed(tf.constant(pixels)).numpy()
        assert found.shape == (2, SIZE, SIZE, 3) and found.dtype == np.float32
        assert found.min() >= 0 and found.max() <= 255
        as_trained = np.stack([np.asarray(trained(picture.astype(np.float32))) for picture in pixels])
        np.testing.assert_allclose(found, as_trained, rtol=0, atol=GREY_LEVELS)
        expected = np.stack([reference.fit(picture, image) for picture in pixels])
        most = FROM_REFERENCE.get((interpolation, antialias), OTHERS_FROM_REFERENCE)
        np.testing.assert_allclose(found, expected, rtol=0, atol=most)


def test_a_resize_of_another_kind_is_seen() -> None:
    """Show that any two settings differ by more than the test above allows."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, 50, 81, 3), dtype=np.uint8)
    made = [resize.fitted(tf.constant(pixels), schema.Image(SIZE, *way)).numpy() for way in WAYS]
    differ = [
        np.abs(a - b).max()
        for (one, a), (two, b) in itertools.combinations(zip(WAYS, made, strict=True), 2)
        if not one[1] == two[1] == "nearest" or one[0] != two[0]
    ]  # nearest has no use for antialiasing
    assert min(differ) > 100 * GREY_LEVELS
