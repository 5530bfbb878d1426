"""Opened PIL images of 16 bits a channel: their file's bytes, since Pillow keeps the upper 8 bits of colours only."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from thaw.images import bit_depth, content, header
from thaw.images.integrity import Unusable

DEEP = ("PNG", "TIFF")  # formats that may have 16 bits a channel


def file(image: Image.Image, stretch: bool) -> bytes | None:
    """Return the bytes of the file that a PIL image of 16 bits a channel was opened from.

    None: the pixels are all that counts, since they have 8 bits, or were changed or made by the caller.

    Args:
        image: opened, made or changed.
        stretch: whether the bits in use count, and not all 16.

    Raises:
        ValueError: the file is gone, and which bits are in use cannot be told from the pixels.
    """
    if image.format not in DEEP or image.mode not in (*bit_depth.COLOUR, *bit_depth.GREY):
        return None  # a copy has no format
    data = _source(image)
    is_told = data is not None if image.format == "PNG" else hasattr(image, "tag_v2")
    if is_told and header.bits(image.format, image, data or b"") != 16:
        return None
    if data and _is_of(data, image):
        return data
    if stretch and bit_depth.may_be_fewer(image):
        raise ValueError(
            f"expected the file of a dark {image.format}, received 8 bits a channel, which may be the upper ones of "
            "16 of which fewer are in use; give the path or the bytes"
        )
    return None


def _source(image: Image.Image) -> bytes | None:
    """Return the bytes that an image was opened from, if they are still there: from its stream, or from its path."""
    try:
        for stream in (getattr(image, "fp", None), getattr(image, "_fp", None)):  # the latter once it is loaded
            if stream is not None and not stream.closed:
                place = stream.tell()
                stream.seek(0)
                data: bytes = stream.read()
                stream.seek(place)
                return data
        name = getattr(image, "filename", "")
        return content.read(Path(name)) if name else None
    except (OSError, ValueError, Unusable):
        return None


def _is_of(data: bytes, image: Image.Image) -> bool:
    """Return whether an image has the pixels of a file: it may have been changed in place, or the file may have."""
    try:
        with Image.open(BytesIO(data)) as again:
            again.load()
            return again.mode == image.mode and np.array_equal(np.asarray(again), np.asarray(image))
    except Exception:  # Pillow raises nearly anything on what is no image any more
        return False
