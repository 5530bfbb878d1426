"""Augmentation: random views of training images, each a pure function of image, view number and seed.

Keras's random layers draw from a generator that moves on with every call, so the view they give depends on what was
drawn before. A view that is cached, or computed again after a crash, must not: every number here is drawn with a
stateless generator from the seed, the image's content hash and the view's number. All geometry is composed into one
matrix, so that an image is resampled once (``keras.ops.image.affine_transform``) instead of once per operation.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from thaw.config import schema
from thaw.runtime.framework import keras, tf

# Exact cosines and sines of 0, 90, 180 and 270 degrees, so that a mere quarter turn moves whole pixels.
_QUARTER_TURNS = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)], np.float64)


def view_seeds(augment: schema.Augment, hashes: Sequence[str], views: Sequence[int]) -> np.ndarray:
    """Return the seed of each view of each image.

    Args:
        hashes: hex sha256 of the images' files, n of them.
        views: the number of the view wanted of each, from 1; n of them.

    Returns:
        (n, 2) int32.
    """
    digests = (
        hashlib.sha256(f"{augment.seed} {sha} {view}".encode()).digest()
        for sha, view in zip(hashes, views, strict=True)
    )
    return np.array([np.frombuffer(digest[:8], np.int32) for digest in digests], np.int32).reshape(-1, 2)


def view(augment: schema.Augment) -> Any:
    """Return a function from clean images and seeds to augmented views.

    Returns:
        ((batch, height, width, 3) float32 in [0, 255], (batch, 2) int32) → (batch, height, width, 3) float32 in
        [0, 255]. What the geometry uncovers is filled with the mirrored image.
    """

    def make(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        chance = _chance(seeds)
        if _geometric(augment):
            images = _move(images, _matrices(augment, chance, tf.shape(images)[1:3]))
        # Contrast and brightness in one pass over the pixels: factor * pixel + offset.
        factor, offset = tf.ones_like(chance[:, 7]), 255 * augment.brightness * (2 * chance[:, 8] - 1)
        if augment.contrast:
            factor += augment.contrast * (2 * chance[:, 7] - 1)
            # One by one: TensorFlow adds a batch's numbers in an order that depends on the size of the batch.
            offset += (1 - factor) * tf.map_fn(tf.reduce_mean, images)
        if augment.contrast or augment.brightness:
            images = images * factor[:, None, None, None] + offset[:, None, None, None]
        return tf.clip_by_value(images, 0, 255)

    # With the sizes left open, since TensorFlow optimises a graph of known sizes to other last bits: a view must not
    # depend on how many others are made with it.
    return tf.function(
        make, input_signature=[tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((None, 2), tf.int32)]
    )


def drawn(augment: schema.Augment, size: int) -> Any:
    """Return a function from seeds to what ``moved`` does with them, the same numbers that ``view`` draws.

    Args:
        size: pixels, height and width of the images.

    Returns:
        (batch, 2) int32 → (batch, 8) float32, the geometry, and (batch, 2) float32, contrast and brightness.
    """

    def draw(seeds: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        chance = _chance(seeds)
        factor = 1 + augment.contrast * (2 * chance[:, 7] - 1)
        shift = 255 * augment.brightness * (2 * chance[:, 8] - 1)
        return _matrices(augment, chance, tf.constant([size, size])), tf.stack([factor, shift], axis=1)

    return draw


def moved(augment: schema.Augment) -> Any:
    """Return a function from clean images and what was drawn to views, a whole batch at once, as a GPU makes them.

    Returns:
        ((batch, height, width, 3) float32, (batch, 8) float32, (batch, 2) float32) → (batch, height, width, 3) float32
        in [0, 255]. They are ``view``'s but for the order in which a mean is added up, and a device's last bits.
    """

    def move(images: tf.Tensor, matrices: tf.Tensor, colours: tf.Tensor) -> tf.Tensor:
        if _geometric(augment):
            images = _move(images, matrices)
        factor, offset = colours[:, 0], colours[:, 1]
        if augment.contrast:
            offset += (1 - factor) * tf.reduce_mean(images, axis=(1, 2, 3))
        if augment.contrast or augment.brightness:
            images = images * factor[:, None, None, None] + offset[:, None, None, None]
        return tf.clip_by_value(images, 0, 255)

    return move


def _geometric(augment: schema.Augment) -> bool:
    """Return whether pixels change their places."""
    flags = augment.horizontal_flip, augment.vertical_flip, augment.quarter_turns
    return any(flags) or any((augment.rotation, augment.zoom, augment.translation))


def _chance(seeds: tf.Tensor) -> tf.Tensor:
    """Return nine independent numbers in [0, 1) an image: (batch, 2) int32 → (batch, 9)."""
    return tf.map_fn(lambda seed: tf.random.stateless_uniform((9,), seed), seeds, fn_output_signature=tf.float32)


def _move(images: tf.Tensor, matrices: tf.Tensor) -> tf.Tensor:
    return keras.ops.image.affine_transform(
        images, matrices, interpolation="bilinear", fill_mode="reflect", data_format="channels_last"
    )


def _matrices(augment: schema.Augment, chance: tf.Tensor, sides: tf.Tensor) -> tf.Tensor:
    """Return what leads from a pixel of each view to the pixel of its image: (batch, 8) float32; sides: (2,) int32."""
    # In float64, rounded once at the end: in float32 TensorFlow's sines and quotients differ in their last bits
    # between a single number and one among many, and between a graph and outside of one.
    chance = tf.cast(chance, tf.float64)
    height, width = tf.unstack(tf.cast(sides, tf.float64))

    def around_zero(column: int, most: float) -> tf.Tensor:
        return most * (2 * chance[:, column] - 1)

    def flip(column: int, wanted: bool) -> tf.Tensor:
        return tf.where(wanted & (chance[:, column] < 0.5), tf.constant(-1, tf.float64), tf.constant(1, tf.float64))

    angle = around_zero(2, math.radians(augment.rotation))
    cosine, sine = tf.cos(angle), tf.sin(angle)
    if augment.quarter_turns:
        quarter = tf.cast(tf.floor(4 * chance[:, 3]), tf.int32)
        turn_cosine, turn_sine = tf.unstack(tf.gather(_QUARTER_TURNS, quarter), axis=1)
        cosine, sine = cosine * turn_cosine - sine * turn_sine, sine * turn_cosine + cosine * turn_sine
    scale = 1 / (1 + around_zero(4, augment.zoom))
    mirror_x, mirror_y = flip(0, augment.horizontal_flip), flip(1, augment.vertical_flip)
    shift_x, shift_y = around_zero(5, augment.translation) * width, around_zero(6, augment.translation) * height
    # From a pixel of the view to the pixel of the image: [x' y'] = A [x y] + b around the middle of the image.
    a0, a1 = mirror_x * scale * cosine, -mirror_x * scale * sine
    b0, b1 = mirror_y * scale * sine, mirror_y * scale * cosine
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    a2 = middle_x + shift_x - a0 * middle_x - a1 * middle_y
    b2 = middle_y + shift_y - b0 * middle_x - b1 * middle_y
    zero = tf.zeros_like(a0)
    return tf.cast(tf.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1), tf.float32)
