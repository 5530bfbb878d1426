"""From files to the backbone's input on a GPU: decoded by the processor, fitted to the square by the card, in batches.

It makes the pixels of ``thaw.images.preprocessing``, within ``TOLERANCE``. What is larger than twice the square is
fitted by the processor, since the fitted picture is no more to carry.
"""

from collections.abc import Callable
from typing import Any

from thaw.config import schema
from thaw.images import preprocessing
from thaw.runtime.framework import tf

# Grey levels of 255. A thousandth of that was measured, but for bicubic filters without antialiasing: TensorFlow reads
# them from a table, which is off by 0.1.
TOLERANCE = 0.2
LARGEST = 2  # sides of the input square that a picture may have to go to the card as it is

Fields = tuple[tf.Tensor, ...]


def picture(image: schema.Image) -> Callable[[tf.Tensor], Fields]:
    """A function from a file's bytes to what goes to the card of it; no bytes are a black picture.

    Returns:
        () string → its picture, upright, cropped or padded, (height, width, 3) uint8; height and width, (2,) int32, or
        zeros where it was fitted here; the fitted picture, (size, size, 3) float32, or (0, 0, 3).
    """
    resize = preprocessing.resizer(image)
    nothing, black = tf.zeros((0, 0, 3)), tf.zeros((1, 1, 3), tf.uint8)

    def decoded(encoded: tf.Tensor) -> Any:
        pixels = preprocessing.decode(encoded, image)
        framed = preprocessing.framed(pixels, image)
        sides = tf.shape(framed)[:2]
        fits = tf.reduce_all(sides <= LARGEST * image.size)
        return tf.cond(
            fits,
            lambda: (framed, sides, nothing),
            lambda: (black, tf.zeros(2, tf.int32), resize(pixels)),
        )

    def either(encoded: tf.Tensor) -> Fields:
        pixels, sides, fitted = tf.cond(
            encoded == "", lambda: (black, tf.ones(2, tf.int32), nothing), lambda: decoded(encoded)
        )
        return tf.ensure_shape(pixels, (None, None, 3)), sides, tf.ensure_shape(fitted, (None, None, 3))

    return either


def fitter(image: schema.Image) -> Any:
    """A function that fits a batch of pictures, as ``preprocessing.resizer`` does one, within ``TOLERANCE``.

    Returns:
        pictures (batch, height, width, 3) uint8, each in its upper left corner; height and width, (batch, 2) int32, 0
        where it comes fitted; those, (batch, size, size, 3) float32, or (batch, 0, 0, 3) → (batch, size, size, 3)
        float32 in [0, 255].
    """

    def fit(pictures: tf.Tensor, sides: tf.Tensor, fitted: tf.Tensor) -> tf.Tensor:
        batch, height, width, _ = tf.unstack(tf.shape(pictures))
        rows, columns = _weights(sides[:, 0], height, image), _weights(sides[:, 1], width, image)
        lines = tf.reshape(tf.cast(pictures, tf.float32), (batch, height, -1))
        lines = tf.reshape(rows @ lines, (batch, image.size, width, 3))
        across = tf.reshape(tf.transpose(lines, (0, 2, 1, 3)), (batch, width, -1))
        pixels = tf.transpose(tf.reshape(columns @ across, (batch, image.size, image.size, 3)), (0, 2, 1, 3))
        pixels = tf.clip_by_value(pixels, 0, 255)  # a bicubic filter overshoots at edges
        here = (sides[:, 0] == 0)[:, None, None, None]
        return tf.cond(tf.size(fitted) > 0, lambda: tf.where(here, fitted, pixels), lambda: pixels)

    return fit


def _weights(sides: tf.Tensor, canvas: tf.Tensor, image: schema.Image) -> tf.Tensor:
    """Return what each new pixel takes of each old one along an axis, as in ``thaw.images.reference``: (batch, size,
    canvas)."""
    side = tf.cast(sides, tf.float32)[:, None, None]
    scale = side / image.size
    centres = (tf.range(image.size, dtype=tf.float32) + 0.5)[None, :, None] * scale
    places = tf.range(tf.cast(canvas, tf.float32))[None, None, :]
    if image.interpolation == "nearest":
        return tf.cast(places == tf.clip_by_value(tf.floor(centres), 0, side - 1), tf.float32)
    stretch = tf.maximum(scale, 1) if image.antialias else tf.ones_like(scale)
    distances = tf.abs(places + 0.5 - centres) / stretch
    if image.interpolation == "bilinear":
        weights = tf.maximum(1 - distances, 0)
    else:
        near = (1.5 * distances - 2.5) * distances**2 + 1
        far = ((-0.5 * distances + 2.5) * distances - 4) * distances + 2
        weights = tf.where(distances < 1, near, tf.where(distances < 2, far, 0))
    weights = tf.where(places < side, weights, 0)
    return tf.math.divide_no_nan(weights, tf.reduce_sum(weights, axis=2, keepdims=True))
