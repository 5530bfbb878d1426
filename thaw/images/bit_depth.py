"""Images of 16 bits a channel: how many of the bits are in use, and the 8 bits that training sees of each.

Cameras and scanners of 10, 12 or 14 bits leave their numbers as they are in files of 16, where the largest is 1023,
4095 or 16383 of 65535. To who takes the upper 8 bits, such a picture is black. How many bits are in use is told by the
largest number in the file and nothing else, so that a deployed model, which sees one file at a time, finds the same as
training did.
"""

import re
import sys
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from thaw.images.integrity import Unusable

GREY = ("I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes that hold all 16 bits
COLOUR = ("RGB", "RGBA")  # modes in which it keeps the upper 8; RGBA also of grey with alpha
PHOTOMETRIC = 262  # TIFF tag; 0 where white is 0
PLANES = 284  # TIFF tag; 2 where each channel lies by itself
IN_USE = (8, 10, 12, 14)  # bits that cameras have; a number that needs more is one of 16
NATIVE, FOREIGN = ("L", "B") if sys.byteorder == "little" else ("B", "L")
SWAPPED = {"L": "B", "B": "L", "N": FOREIGN}  # the order of bytes in which the lower one is taken for the upper one
RAW_MODE = re.compile(r"(.+;16)([LBN])")


def in_use(image: Image.Image, data: bytes) -> int:
    """Return the bits in use of an image of 16 bits a channel: 8, 10, 12, 14 or 16. All black is 16.

    Args:
        image: decoded by Pillow.
        data: the file's bytes.

    Raises:
        Unusable: few are in use, and Pillow decodes no more than the upper 8.
    """
    if may_be_fewer(image):
        values = all_bits(image, data)
    elif image.mode in GREY:
        values = np.asarray(image)
    else:
        return 16
    return _bits(_colours(values))


def may_be_fewer(image: Image.Image) -> bool:
    """Return whether of a decoded image in colour, if its file has 16 bits a channel, fewer may be in use.

    Args:
        image: decoded by Pillow, which keeps the upper 8 bits.
    """
    return image.mode in COLOUR and int(_colours(np.asarray(image)).max(initial=0)) < 1 << max(IN_USE) - 8


def upper(image: Image.Image, bits: int = 16) -> Image.Image:
    """Return a grey image of 16 bits in 8: the upper 8 of so many, white where it is white.

    Pillow leaves a TIFF of 16 bits in which 0 is white as it is, and turns one of 8 over.
    """
    values = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
    return Image.fromarray(255 - values if is_negative(image) else values)


def is_negative(image: Image.Image) -> bool:
    """Return whether an image is a grey TIFF of 16 bits in which 0 is white."""
    return image.mode in GREY and getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == 0


def stretched(image: Image.Image, data: bytes) -> Image.Image:
    """Return an image of 16 bits a channel in 8: the upper 8 of the bits in use.

    Args:
        image: decoded by Pillow.
        data: the file's bytes.
    """
    if image.mode in GREY:
        return upper(image, _bits(np.asarray(image)))
    values = all_bits(image, data)
    parts = [_colours(values), values[..., 3:]]  # alpha, if there is one, has a range of its own
    return Image.fromarray(np.concatenate([(part >> (_bits(part) - 8)).astype(np.uint8) for part in parts], axis=-1))


def told(used: Mapping[str, int], deep: int, policy: str) -> str:
    """Say in a line what becomes of images of 16 bits a channel that use fewer.

    Args:
        used: how many images there are by what was found of their bits.
        deep: images of 16 bits a channel in all.
        policy: ``data.policy.unused_bits``.
    """
    count = sum(used.values())
    kinds = "; ".join(f"{number:,} of {reason}" for reason, number in sorted(used.items()))
    text = (
        f"{count:,} of {deep:,} images of 16 bits a channel use fewer ({kinds}); data.policy.unused_bits is {policy}"
    )
    if policy == "keep":
        return f"{text}, so they stay nearly black; stretch takes the bits that each uses"
    if policy != "stretch" or (len(used) == 1 and count == deep):
        return text
    return (
        f"{text}, by the bits that each uses: where all are from one camera, dark images became brighter than "
        "its others; keep leaves them as they are"
    )


def _bits(values: np.ndarray) -> int:
    largest = int(values.max(initial=0))
    return next((bits for bits in IN_USE if 0 < largest < 1 << bits), 16)


def _colours(values: np.ndarray) -> np.ndarray:
    """Return the values of an image without its alpha: (height, width[, 3 or 4]) → (height, width[, 3])."""
    return values[..., :3] if values.ndim == 3 else values


def all_bits(image: Image.Image, data: bytes) -> np.ndarray:
    """Return what Pillow keeps the upper halves of, an image in colour: (height, width, 3 or 4) uint16.

    The file is decoded again with its bytes taken in the other order, by which Pillow keeps the lower halves.
    """
    again: Any
    with Image.open(BytesIO(data)) as again:
        if getattr(again, "tag_v2", {}).get(PLANES) == 2:
            raise Unusable("unsupported", "a TIFF of 16 bits a channel in planes, of which few are in use")
        is_grey = False
        for number, tile in enumerate(again.tile):
            arguments = tile.args if isinstance(tile.args, tuple) else (tile.args,)
            found = RAW_MODE.fullmatch(str(arguments[0]))
            if found is None:
                raise Unusable("unsupported", f"a {image.format} of 16 bits a channel, of which few are in use")
            is_grey = found[1] == "LA;16"  # grey and alpha, for which there is one order; all four bytes are wanted
            swapped = "RGBA" if is_grey else found[1] + SWAPPED[found[2]]
            args = (swapped, *arguments[1:]) if isinstance(tile.args, tuple) else swapped
            again.tile[number] = tile._replace(args=args)
        again.load()
        lower = np.asarray(again)
    if is_grey:
        lower = lower[..., [1, 1, 1, 3]]
    values: np.ndarray = np.asarray(image).astype(np.uint16) << 8 | lower
    return values
