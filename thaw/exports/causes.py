"""Find the likely cause of an exported model's wrong answers: the evaluated model, asked as a wrong one would be.

Each fault that deployed classifiers are known for is planted in the preprocessing or in the answer of the evaluated
model. The fault whose answers are those of the exported model is named.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from io import BytesIO

import numpy as np
from PIL import Image

from thaw.catalog import pixel_ranges
from thaw.classifier import model
from thaw.config import schema
from thaw.config.images import FITS, INTERPOLATIONS
from thaw.exports import parity
from thaw.exports.exported import Deployed
from thaw.images import decoding, integrity, preprocessing
from thaw.runtime.framework import keras, tf

# A fault explains a difference where it leaves this share of it at most, in the root mean square: that of a format in
# float32, and that of one that also rounds.
EXPLAINED, EXPLAINED_OF_ROUNDED = 0.1, 0.4
ALIKE = 1e-6  # two ranges explain equally well within float32's rounding of probabilities
RANGE = "range, "

# Encoded images → (images, classes) float32 probabilities, or what else the evaluated model makes of them
Answer = Callable[[Sequence[bytes]], np.ndarray]
# (height, width, 3) uint8 → (size, size, 3) float32
Fit = Callable[[np.ndarray], np.ndarray]


def evaluated(classifier: model.Classifier, temperature: float) -> Answer:
    """Return the evaluated model as a function of encoded images, in TensorFlow from the first to the last."""
    load, answer = preprocessing.load(classifier.card.image), _network(classifier, temperature)
    return lambda files: answer(np.stack([np.asarray(load(tf.constant(data))) for data in files]))


def embedded(classifier: model.Classifier) -> Answer:
    """Return the embeddings of encoded images by the evaluated model, as a function: (images, channels) float32."""
    load = preprocessing.load(classifier.card.image)

    def embed(files: Sequence[bytes]) -> np.ndarray:
        pixels = tf.stack([load(tf.constant(data)) for data in files])
        found: np.ndarray = keras.ops.convert_to_numpy(classifier.pool(classifier.backbone(pixels, training=False)))
        return found

    return embed


def explainer(deployed: Deployed) -> Callable[[Sequence[bytes], np.ndarray, bool], str]:
    """Return the function that names the likely cause of wrong answers.

    Args:
        deployed: the evaluated model and its settings.

    Returns:
        n encoded images, (n, classes) probabilities that a format gives for them, and whether it computes in float32 →
        the cause, in a few words; one of ``parity.UNEXPLAINED`` where no fault explains them.
    """

    def explain(files: Sequence[bytes], received: np.ndarray, exact: bool) -> str:
        usable = [data for data in files if _is_usable(data, deployed.reading)]
        if not usable or len(usable) < len(files) or not np.isfinite(received).all():
            return "images that it can't read"
        pixels = [decoding.pixels(data, deployed.reading, deployed.classifier.card.image) for data in files]
        answer = _network(deployed.classifier, deployed.temperature)
        fit = _fit(deployed.classifier.card.image)
        right = answer(np.stack([fit(picture) for picture in pixels]))
        if right.shape != received.shape:
            return "labels, another number of classes"
        most = (EXPLAINED if exact else EXPLAINED_OF_ROUNDED) * _apart(right, received)
        wrong = itertools.chain(_labels(right, received), _inputs(files, pixels, deployed, answer))
        left = {cause: _apart(rows, received) for cause, rows in wrong}
        likeliest = min(left, key=lambda cause: left[cause])
        if left[likeliest] > most:
            return parity.UNKNOWN if exact else parity.SCALE
        # A network whose answers are all 0 or 1 gives the same ones for several ranges.
        alike = [cause for cause, apart in left.items() if apart <= left[likeliest] + ALIKE]
        return " or ".join(cause for cause in alike if cause.startswith(RANGE)) or likeliest

    return explain


def _apart(expected: np.ndarray, received: np.ndarray) -> float:
    return float(np.sqrt(np.square(expected - received).mean()))


def _is_usable(data: bytes, reading: decoding.Reading) -> bool:
    try:
        decoding.servable(data, reading.max_pixels, stretch=reading.stretch)
    except integrity.Unusable:
        return False
    return True


def _network(classifier: model.Classifier, temperature: float) -> Callable[[np.ndarray], np.ndarray]:
    """(n, size, size, 3) float32 in [0, 255] → (n, classes) float32 probabilities."""
    whole = model.whole(classifier)

    def answer(pixels: np.ndarray) -> np.ndarray:
        logits = whole(tf.constant(pixels, tf.float32), training=False)
        found: np.ndarray = keras.ops.convert_to_numpy(keras.ops.softmax(logits / temperature))
        return found

    return answer


def _fit(image: schema.Image) -> Fit:
    resize = preprocessing.resizer(image)
    return lambda pixels: np.asarray(resize(pixels[None].astype(np.float32)))[0]


def _labels(right: np.ndarray, received: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The right probabilities in another order of the classes."""
    for by in (1, -1):
        yield f"labels, off by one ({by:+d})", np.roll(right, by, axis=1)
    # Of each class the place where what is received for all images is nearest to it.
    places = np.abs(right[:, :, None] - received[:, None, :]).max(axis=0).argmin(axis=0)
    if (places != np.arange(right.shape[1])).any():
        yield "labels, in another order", right[:, places]


def _inputs(
    files: Sequence[bytes],
    pixels: Sequence[np.ndarray],
    deployed: Deployed,
    answer: Callable[[np.ndarray], np.ndarray],
) -> Iterator[tuple[str, np.ndarray]]:
    """What the network answers for pixels that were prepared wrongly."""
    image = deployed.classifier.card.image
    fitted = np.stack([_fit(image)(picture) for picture in pixels])
    yield "channels, red and blue exchanged", answer(fitted[..., ::-1])
    for name, scale in pixel_ranges.RANGES.items():
        if name != "0..255":
            yield f"{RANGE}{name} applied twice", answer(scale(fitted).astype(np.float32))
            yield f"{RANGE}{name} forgotten", answer(scale.back(fitted).astype(np.float32))
    yield "EXIF orientation ignored", answer(np.stack([_fit(image)(_lying(data)) for data in files]))
    for fit, interpolation, antialias in itertools.product(FITS, INTERPOLATIONS, (True, False)):
        other = replace(image, fit=fit, interpolation=interpolation, antialias=antialias)
        if other != image:
            how = f"{fit}, {interpolation}, {'with' if antialias else 'without'} antialiasing"
            yield f"resize, as by {how}", answer(np.stack([_fit(other)(picture) for picture in pixels]))
    yield "rounding, of the fitted pixels to whole numbers", answer(np.round(fitted))


def _lying(data: bytes) -> np.ndarray:
    """Return the pixels as they are stored."""
    with Image.open(BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))
