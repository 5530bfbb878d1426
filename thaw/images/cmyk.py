"""CMYK JPEGs: to RGB as TensorFlow makes it, which rounds down where Pillow rounds to the nearest."""

import numpy as np
from PIL import Image

JPEGS = ("JPEG", "MPO")  # Pillow's names


def rgb(image: Image.Image) -> Image.Image:
    """Return RGB of a decoded CMYK JPEG, without a colour profile: of each colour what its ink and black let through.

    Args:
        image: mode CMYK. Pillow takes all for Adobe's, which are stored inverted, and turns them round.
    """
    inks = np.asarray(image, np.uint16)
    light = 255 - inks if "adobe" in image.info else inks
    return Image.fromarray((light[..., :3] * light[..., 3:] // 255).astype(np.uint8))
