"""Odd photographs, made by a seeded generator: what deployed classifiers trip over, whatever the test set holds.

A photograph that lies on its side, transparency, CMYK, 16 bits a channel, a palette, a single pixel, 12 megapixels.
Two runs make the same bytes.
"""

from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image

from thaw.images import decoding, header, integrity

SEED = 12
LARGE = (4000, 3000)  # width and height: 12 megapixels
SIDES = (160, 90)  # width and height of the others: no square, so that one that is not turned shows


def photos(reading: decoding.Reading) -> dict[str, bytes]:
    """Return encoded images by what is odd about each, without those that training would not read either."""
    found = {}
    for name, make in MAKERS.items():
        data = make()
        try:
            found[name] = decoding.servable(data, reading.max_pixels, stretch=reading.stretch)
        except integrity.Unusable:  # 12 megapixels, where data.max_pixels is less
            continue
    return found


def _scene(width: int, height: int, channels: int = 3) -> np.ndarray:
    """Return a picture with large and small structures and no symmetry: (height, width, channels) float in 0 to 1."""
    random = np.random.default_rng(SEED)
    across, down = np.linspace(0, 1, width)[None, :, None], np.linspace(0, 1, height)[:, None, None]
    phase, pace = random.uniform(0, 6, channels), random.uniform(2, 9, channels)
    waves = np.sin(pace * (across + 2 * down * down) + phase)
    tiles = random.uniform(-1, 1, (5, 7, channels))
    blocks = tiles[(down[:, 0, 0] * 4.99).astype(int)][:, (across[0, :, 0] * 6.99).astype(int)]
    grain = random.uniform(-1, 1, (64, 64, channels))
    fine = np.tile(grain, (-(-height // 64), -(-width // 64), 1))[:height, :width]
    scene: np.ndarray = np.clip(0.5 + 0.25 * waves + 0.2 * blocks + 0.05 * fine, 0, 1)
    return scene


def _bytes(width: int, height: int, channels: int = 3) -> np.ndarray:
    return (_scene(width, height, channels) * 255).round().astype(np.uint8)


def _encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[header.ORIENTATION] = orientation
    return _encoded(Image.fromarray(_bytes(*SIDES)), "JPEG", quality=95, exif=exif)


def _transparent() -> bytes:
    return _encoded(Image.fromarray(_bytes(*SIDES, 4), "RGBA"), "PNG")


def _cmyk() -> bytes:
    return _encoded(Image.fromarray(_bytes(*SIDES, 4), "CMYK"), "JPEG", quality=95)


def _deep(bits: int) -> bytes:
    grey = (_scene(*SIDES, 1)[..., 0] * (2**bits - 1)).astype(np.uint16)
    return _encoded(Image.fromarray(grey), "PNG")


def _palette(kind: str) -> bytes:
    return _encoded(Image.fromarray(_bytes(*SIDES)).quantize(16, dither=Image.Dither.NONE), kind)


def _pixel() -> bytes:
    return _encoded(Image.fromarray(np.array([[[200, 90, 20]]], np.uint8)), "PNG")


def _large() -> bytes:
    small = Image.fromarray(_bytes(LARGE[0] // 8, LARGE[1] // 8))
    return _encoded(small.resize(LARGE, Image.Resampling.BILINEAR), "JPEG", quality=85)


MAKERS: dict[str, Callable[[], bytes]] = {
    "EXIF orientation 5": lambda: _turned(5),
    "EXIF orientation 6": lambda: _turned(6),
    "EXIF orientation 7": lambda: _turned(7),
    "EXIF orientation 8": lambda: _turned(8),
    "transparent PNG": _transparent,
    "CMYK JPEG": _cmyk,
    "PNG of 16 bits": lambda: _deep(16),
    "PNG of 16 bits, 12 in use": lambda: _deep(12),
    "PNG with a palette": lambda: _palette("PNG"),
    "GIF": lambda: _palette("GIF"),
    "one pixel": _pixel,
    "12 megapixels": _large,
}
