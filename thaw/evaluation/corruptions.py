"""Ten image corruptions at three severities, of the kinds of Hendrycks & Dietterich 2019 (arXiv:1903.12261).

Each is a pure function of the pixels, the severity and a seed, made with NumPy and Pillow. Lengths go by the image's
side, so that a small image is spoilt as much as a large one. The strengths are this project's own.
"""

import hashlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.float32]  # (height, width, 3) in [0, 255]
SEVERITIES = (1, 2, 3)


def corrupt(pixels: NDArray[Any], name: str, severity: int, image: str) -> Pixels:
    """Return a corrupted image.

    Args:
        pixels: (height, width, 3) in [0, 255].
        name: of ``CORRUPTIONS``.
        severity: 1 to 3.
        image: what the random part is drawn by, such as the image's hash.

    Returns:
        (height, width, 3) float32 in [0, 255]; the same for the same arguments.
    """
    function, strengths = CORRUPTIONS[name]
    seed = hashlib.sha256(f"{image} {name} {severity}".encode()).digest()[:8]
    chance = np.random.default_rng(int.from_bytes(seed, "big"))
    found = function(np.asarray(pixels, np.float32), strengths[severity - 1], chance)
    return np.clip(found, 0, 255).astype(np.float32)


def gaussian_noise(pixels: Pixels, deviation: float, chance: np.random.Generator) -> Pixels:
    """Add normal noise; the deviation is a share of the range."""
    return pixels + 255 * deviation * chance.standard_normal(pixels.shape, np.float32)


def shot_noise(pixels: Pixels, photons: float, chance: np.random.Generator) -> Pixels:
    """Count photons, so many in white: the noise of little light."""
    return np.asarray(chance.poisson(pixels * (photons / 255)) * (255 / photons), np.float32)


def blur(pixels: Pixels, radius: float, _chance: np.random.Generator) -> Pixels:
    """Blur by a Gaussian; the radius is a share of the side."""
    return _array(_image(pixels).filter(ImageFilter.GaussianBlur(radius * max(pixels.shape[:2]))))


def motion_blur(pixels: Pixels, length: float, chance: np.random.Generator) -> Pixels:
    """Move the camera along a line in a random direction; the length is a share of the side."""
    height, width = pixels.shape[:2]
    reach, angle = length * max(height, width) / 2, chance.uniform(0, np.pi)
    margin = int(np.ceil(reach))
    wide = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    steps = np.linspace(-reach, reach, 2 * margin + 1)
    total = np.zeros_like(pixels)
    for down, right in zip(np.rint(steps * np.sin(angle)), np.rint(steps * np.cos(angle)), strict=True):
        top, left = margin + int(down), margin + int(right)
        total += wide[top : top + height, left : left + width]
    return np.asarray(total / len(steps), np.float32)


def pixelate(pixels: Pixels, share: float, _chance: np.random.Generator) -> Pixels:
    """Keep a share of the pixels of each side, and draw them large."""
    height, width = pixels.shape[:2]
    small = (max(round(width * share), 1), max(round(height * share), 1))
    coarse = _image(pixels).resize(small, Image.Resampling.BOX)
    return _array(coarse.resize((width, height), Image.Resampling.NEAREST))


def jpeg(pixels: Pixels, quality: float, _chance: np.random.Generator) -> Pixels:
    """Compress at a low quality."""
    buffer = io.BytesIO()
    _image(pixels).save(buffer, "JPEG", quality=int(quality))
    with Image.open(buffer) as opened:
        return _array(opened)


def exposure(pixels: Pixels, factor: float, _chance: np.random.Generator) -> Pixels:
    """Let in more or less light; what is brighter than white is cut off."""
    return np.asarray(pixels * np.float32(factor), np.float32)


def contrast(pixels: Pixels, share: float, _chance: np.random.Generator) -> Pixels:
    """Draw all pixels towards the mean; a share of the distance is left."""
    mean = pixels.mean(axis=(0, 1), keepdims=True)
    return np.asarray((pixels - mean) * np.float32(share) + mean, np.float32)


def colour_cast(pixels: Pixels, strength: float, chance: np.random.Generator) -> Pixels:
    """Tint towards orange or blue, as a wrong white balance does."""
    sign = 1 if chance.random() < 0.5 else -1
    return pixels * np.array([1 + sign * strength, 1, 1 - sign * strength], np.float32)


Function = Callable[[Pixels, float, np.random.Generator], Pixels]
CORRUPTIONS: dict[str, tuple[Function, tuple[float, float, float]]] = {
    "gaussian_noise": (gaussian_noise, (0.08, 0.15, 0.25)),
    "shot_noise": (shot_noise, (60, 20, 8)),
    "blur": (blur, (0.008, 0.016, 0.03)),
    "motion_blur": (motion_blur, (0.04, 0.08, 0.14)),
    "pixelate": (pixelate, (0.4, 0.25, 0.15)),
    "jpeg": (jpeg, (25, 12, 6)),
    "dark": (exposure, (0.6, 0.4, 0.25)),
    "bright": (exposure, (1.3, 1.7, 2.3)),
    "contrast": (contrast, (0.5, 0.3, 0.15)),
    "colour_cast": (colour_cast, (0.2, 0.4, 0.6)),
}


def _image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(pixels, 0, 255)).astype(np.uint8))


def _array(image: Image.Image) -> Pixels:
    return np.asarray(image, np.float32)
