"""The scale at which a JPEG is decoded: 1/1, 1/2, 1/4 or 1/8, by what its pixels are for. The one rule.

A JPEG decoder can stop its inverse cosine transform early, which takes a fraction of the time and memory.
``thaw.images.preprocessing`` goes by these numbers in TensorFlow, ``thaw.images.decoding`` with Pillow.
"""

import numpy as np

from thaw.config import schema

# How many pixels a JPEG decoded at reduced scale still has for each pixel of the input, on its shorter side: enough
# for the filter that fits it to find what it would in the full picture; its test says how nearly.
REDUCING_GAP = 2
# By how much of a pixel of the input the picture may be drawn out where its size is no multiple of the scale.
DRIFT = 0.1
# Scales at which the JPEG decoder can stop, in eighths of the inverse DCT.
RATIOS = (1, 2, 4, 8)


def takes_all(image: schema.Image) -> bool:
    """Return whether the full picture is always decoded: these settings take single pixels of it."""
    return not image.antialias or image.interpolation == "nearest"


def ratio(width: int, height: int, image: schema.Image) -> int:
    """Return by how much each side of a JPEG is divided when it is decoded: one of ``RATIOS``."""
    if takes_all(image):
        return 1
    sides = np.array((height, width), np.float32)
    enough = REDUCING_GAP * image.size
    possible = [
        each
        for each in RATIOS
        if ((sides >= each * enough) & (-sides % each * image.size <= np.float32(DRIFT) * sides)).all()
    ]
    return max(possible, default=1)
