"""From files to the backbone's input: decoded by TensorFlow, then fitted to the square in batches.

It makes the pixels of ``thaw.images.preprocessing``, within ``TOLERANCE``, in a fraction of the time: a resize is two
products with matrices. A processor takes sparse ones, since a new pixel is made of few old ones, and a GPU full ones.
What is larger than twice the square is fitted one by one, before it is put into a batch.
"""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import astuple
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import sparse

from thaw.config import schema
from thaw.images import preprocessing, reference
from thaw.runtime import threads
from thaw.runtime.framework import tf

# Grey levels of 255. A thousandth of that was measured, but for bicubic filters without antialiasing: TensorFlow reads
# them from a table, which is off by 0.1.
TOLERANCE = 0.2
LARGEST = 2  # sides of the input square that a picture may have to go into a batch as it is

Fields = tuple[tf.Tensor, ...]


def picture(image: schema.Image) -> Callable[[tf.Tensor, tf.Tensor], Fields]:
    """Return a function from a file's bytes and EXIF orientation to what is fitted of it; no bytes: a black picture.

    Returns:
        () string, () int32 → its picture, upright, cropped or padded, (height, width, 3) uint8; height and width, (2,)
        int32, or zeros where it is fitted already; the fitted picture, (size, size, 3) float32, or (0, 0, 3).
    """
    nothing, black = tf.zeros((0, 0, 3)), tf.zeros((1, 1, 3), tf.uint8)

    def one(pixels: np.ndarray) -> np.ndarray:
        return fit(pixels, image)

    def decoded(encoded: tf.Tensor, turned: tf.Tensor) -> Any:
        pixels = preprocessing.decode(encoded, image, turned)
        if image.fit == "crop":
            pixels = preprocessing.framed(pixels, image)
        return tf.cond(
            tf.reduce_all(tf.shape(pixels)[:2] <= LARGEST * image.size),
            lambda: framed(pixels),
            lambda: (black, tf.zeros(2, tf.int32), tf.numpy_function(one, [pixels], tf.float32, stateful=False)),
        )

    def framed(pixels: tf.Tensor) -> Fields:
        whole = preprocessing.framed(pixels, image)
        return whole, tf.shape(whole)[:2], nothing

    def either(encoded: tf.Tensor, turned: tf.Tensor) -> Fields:
        pixels, sides, fitted = tf.cond(
            encoded == "", lambda: (black, tf.ones(2, tf.int32), nothing), lambda: decoded(encoded, turned)
        )
        return tf.ensure_shape(pixels, (None, None, 3)), sides, tf.ensure_shape(fitted, (None, None, 3))

    return either


def decoder(image: schema.Image) -> Any:
    """Return a function from many files' bytes and EXIF orientations to a batch of pictures; all cores decode.

    The files are given to it and not drawn from Python by TensorFlow's own pipeline: that would decode them one after
    the other where operations must repeat (``compute.deterministic``), as it does with what it takes for stateful.

    Returns:
        (n,) string, (n,) int32 → of ``picture``, each filled up with zeros to the largest of the batch.
    """
    return _decoder(*astuple(image))


@lru_cache(maxsize=8)  # to trace one takes half a second
def _decoder(*settings: Any) -> Any:
    one = picture(schema.Image(*settings))

    def decoded(encoded: tf.Tensor, turned: tf.Tensor) -> Any:
        with tf.device("/CPU:0"):
            files = tf.data.Dataset.from_tensor_slices((encoded, turned))
            pictures = files.map(one, num_parallel_calls=threads.used(), deterministic=True)
            return pictures.padded_batch(tf.size(turned, tf.int64)).get_single_element()

    return tf.function(decoded, input_signature=[tf.TensorSpec((None,), kind) for kind in (tf.string, tf.int32)])


def fit(pixels: np.ndarray, image: schema.Image) -> np.ndarray:
    """Fit a picture on the processor, the products without Python's lock.

    Args:
        pixels: (height, width, 3) uint8, cropped. The border of a picture that is padded may be missing: it would take
            the square of its longer side.

    Returns:
        (size, size, 3) float32 in [0, 255].
    """
    height, width = pixels.shape[:2]
    spare = abs(height - width) // 2 if image.fit == "pad" else 0
    above, beside = (spare, 0) if height < width else (0, spare)
    how = image.size, image.interpolation, image.antialias
    lines = _taps(height, above, *how) @ pixels.reshape(height, -1).astype(np.float32)
    fitted = _turned(_taps(width, beside, *how) @ _turned(lines)).reshape(image.size, image.size, 3)
    return np.clip(fitted, 0, 255, out=fitted)  # a bicubic filter overshoots at edges


def _turned(lines: np.ndarray) -> np.ndarray:
    """Exchange rows and columns of pixels: (rows, 3 columns) float32 → (columns, 3 rows)."""
    pixel = np.dtype((np.void, 3 * lines.itemsize))  # moved as one, which takes a third of the time
    return np.ascontiguousarray(lines.view(pixel).T).view(lines.dtype)


@lru_cache(maxsize=1024)
def _taps(side: int, border: int, size: int, interpolation: str, antialias: bool) -> sparse.csr_array:
    """Return what each new pixel takes of the old ones along an axis: (size, side) float32, mostly zeros.

    Args:
        border: black pixels on either side, which add nothing.
    """
    weights = reference.weights(side + 2 * border, schema.Image(size, "squash", interpolation, antialias))
    return sparse.csr_array(weights[:, border : border + side].astype(np.float32))


def batch(fields: tuple[np.ndarray, ...], image: schema.Image, pool: Executor) -> np.ndarray:
    """Fit a batch of pictures on the processor, each by itself.

    Args:
        fields: of ``decoder``.

    Returns:
        (batch, size, size, 3) float32 in [0, 255].
    """
    pictures, sides, already = fields
    pixels: np.ndarray = np.empty((len(pictures), image.size, image.size, 3), np.float32)

    def put(place: int) -> None:
        height, width = sides[place]
        pixels[place] = fit(pictures[place, :height, :width], image) if height else already[place]

    list(pool.map(put, range(len(pictures))))
    return pixels


def fitter(image: schema.Image) -> Any:
    """Return a function that fits a batch of pictures on a GPU, as ``fit`` does one, within ``TOLERANCE``.

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
