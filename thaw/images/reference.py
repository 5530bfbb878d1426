"""Preprocessing once more, in NumPy and Pillow: the reference that ``thaw.images.preprocessing`` is held to.

It says what the contract is, slowly and in float64, and uses nothing of what it checks. A server without TensorFlow
can prepare its images with it.
"""

from typing import Any

import numpy as np

from thaw.config import schema
from thaw.images import decoding


def decode(data: bytes) -> np.ndarray:
    """Decode all pixels of a file, upright: (height, width, 3) uint8 RGB.

    Raises:
        thaw.images.integrity.Unusable: it is no image, or a broken one.
    """
    return np.asarray(decoding.inspect(data)[1])


def fit(pixels: Any, image: schema.Image) -> np.ndarray:
    """Fit pixels to the input square.

    Args:
        pixels: (height, width, 3) in [0, 255].

    Returns:
        (size, size, 3) float64 in [0, 255].
    """
    pixels = np.asarray(pixels, np.float64)
    height, width = pixels.shape[:2]
    short, spare = min(height, width), abs(height - width)
    if image.fit == "crop":
        top, left = (height - short) // 2, (width - short) // 2
        pixels = pixels[top : top + short, left : left + short]
    if image.fit == "pad":
        # As wide on either side: where a pixel is left over, it is not added, and the picture is drawn out by it.
        border = (spare // 2, spare // 2)
        pixels = np.pad(pixels, (border if height < width else (0, 0), border if width < height else (0, 0), (0, 0)))
    rows, columns = (weights(side, image) for side in pixels.shape[:2])
    fitted: np.ndarray = np.einsum("yh,hwc,xw->yxc", rows, pixels, columns, optimize=True).clip(0, 255)
    return fitted


def load(data: bytes, image: schema.Image) -> np.ndarray:
    """Preprocess a file: its bytes → (size, size, 3) float64 in [0, 255]. ``thaw.catalog.pixel_ranges`` has the
    ranges.
    """
    return fit(decode(data), image)


def weights(side: int, image: schema.Image) -> np.ndarray:
    """Return what each new pixel takes of each old one along an axis: (size, side), rows that sum to 1.

    Pixels are areas, their centres at halves. Old pixels that the filter would reach beyond the edge do not count.
    """
    scale = side / image.size
    centres = (np.arange(image.size) + 0.5) * scale  # in old pixels
    if image.interpolation == "nearest":
        taken: np.ndarray = np.floor(centres).astype(int).clip(0, side - 1)
        nearest = np.zeros((image.size, side))
        nearest[np.arange(image.size), taken] = 1.0
        return nearest
    stretch = max(scale, 1.0) if image.antialias else 1.0  # how far the filter reaches, to pass no detail that is lost
    distances = np.abs(np.arange(side) + 0.5 - centres[:, None]) / stretch
    weights = _triangle(distances) if image.interpolation == "bilinear" else _cubic(distances)
    normalised: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return normalised


def _triangle(distances: np.ndarray) -> np.ndarray:
    shares: np.ndarray = np.maximum(1 - distances, 0)
    return shares


def _cubic(distances: np.ndarray) -> np.ndarray:
    """Return the cubic kernel of Keys (1981), doi:10.1109/TASSP.1981.1163711, with a = -1/2."""
    near = (1.5 * distances - 2.5) * distances**2 + 1
    far = ((-0.5 * distances + 2.5) * distances - 4) * distances + 2
    shares: np.ndarray = np.where(distances < 1, near, np.where(distances < 2, far, 0))
    return shares
