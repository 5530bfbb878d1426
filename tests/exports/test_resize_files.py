"""The resize as converted ONNX and LiteRT files have it, for every setting of ``image``."""

from pathlib import Path

import numpy as np
import pytest

from tests.exports.test_resize import FROM_REFERENCE, GREY_LEVELS, OTHERS_FROM_REFERENCE, SHAPES, SIZE, WAYS
from thaw.classifier import head, model
from thaw.config import schema
from thaw.exports import formats, graph, resize, write
from thaw.images import preprocessing, reference
from thaw.runtime.framework import keras, tf

FILES = ("onnx", "litert")
VALUES = SIZE * SIZE * 3


def write_fitted(folder: Path, image: schema.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write files that answer with the fitted pixels in place of probabilities."""
    classes = list(map(str, range(VALUES)))
    pixels, linear = keras.Input((SIZE, SIZE, 3), name="pixels"), schema.Head("avg", [], [], 0.0)
    card = model.Card(schema.Backbone("efficientnet_lite0", "random", "", "", ""), "", image, linear, classes)
    classifier = model.Classifier(keras.Model(pixels, pixels, name="none"), head.build(linear, 3, VALUES), card, {})
    monkeypatch.setattr(graph, "outputs", lambda _, fit: {graph.PROBABILITIES: tf.reshape(fit, (-1, VALUES))})
    write.write(folder, classifier, FILES)


@pytest.mark.slow
@pytest.mark.parametrize(("fit", "interpolation", "antialias"), WAYS)
def test_converted_files_fit_pixels_as_the_graph_and_training_do_within_a_thousandth_of_a_grey_level(
    fit: str, interpolation: str, antialias: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = schema.Image(SIZE, fit, interpolation, antialias=antialias)
    write_fitted(tmp_path, image, monkeypatch)
    trained, random = preprocessing.resizer(image), np.random.default_rng(0)
    for name in FILES:
        run = formats.load(tmp_path, name).run
        assert run is not None
        for height, width in SHAPES:
            pixels = random.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
            found = np.stack([each.probabilities.reshape(SIZE, SIZE, 3) for each in run(pixels)])
            in_graph = resize.fitted(tf.constant(pixels), image).numpy()
            as_trained = np.stack([np.asarray(trained(picture.astype(np.float32))) for picture in pixels])
            expected = np.stack([reference.fit(picture, image) for picture in pixels])
            np.testing.assert_allclose(found, in_graph, rtol=0, atol=GREY_LEVELS)
            np.testing.assert_allclose(found, as_trained, rtol=0, atol=GREY_LEVELS)
            most = FROM_REFERENCE.get((interpolation, antialias), OTHERS_FROM_REFERENCE)
            np.testing.assert_allclose(found, expected, rtol=0, atol=most)
