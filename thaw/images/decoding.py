"""Decode a file's bytes to upright RGB with Pillow: what is wrong with them, what is odd, and what is converted.

Pillow's pixels are the reference, and ``thaw.images.preprocessing.decode`` in TensorFlow makes the same of every file
that passes here unconverted. What TensorFlow cannot decode, or decodes otherwise, is ``converted``: a PNG made here is
read in its place, by training and by ``thaw predict`` alike. Pillow alone is laxer than it should be (it opens a PNG
whose end is missing, and any BMP); ``thaw.images.integrity`` looks at what must be looked at besides.
"""

import struct
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from thaw.config import schema
from thaw.images import bit_depth, cmyk, header, integrity, jpeg_scale
from thaw.images.integrity import Unusable

MAX_PIXELS = 89_478_485  # where no data.max_pixels is known: Pillow's own limit, 256 MiB of RGB

# The limit is data.max_pixels, and it is looked at before a pixel is decoded.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class Reading:
    """The settings by which files are read; a model carries them, so that it reads files as training did."""

    max_pixels: int = MAX_PIXELS  # width × height above which nothing is decoded
    stretch: bool = True  # whether of 16 bits a channel the upper 8 of those in use are taken, and not of all


USUAL = Reading()


@dataclass
class Picture:
    """The properties of a decoded image."""

    format: str  # a value of KINDS
    width: int  # pixels, upright
    height: int  # pixels, upright
    oddities: dict[str, str]  # kind (a key of ``issues.REMEDIES``) → what was seen


def inspect(data: bytes, max_pixels: int = MAX_PIXELS, *, stretch: bool = True) -> tuple[Picture, Image.Image]:
    """Decode every pixel of an image.

    Args:
        data: the file's bytes.
        max_pixels: width × height above which nothing is decoded.
        stretch: of 16 bits a channel take the upper 8 of those in use, and not the upper 8 of all.

    Returns:
        What it is like, and its pixels: upright RGB.

    Raises:
        Unusable: nothing can be learnt from it.
    """
    kind, oddities, image = _decoded(data, max_pixels, stretch, None)
    return Picture(kind, *image.size, oddities), image


def pixels(data: bytes, reading: Reading, image: schema.Image) -> np.ndarray:
    """Decode an image for a model that was exported: to the pixels that training had of the same file.

    Args:
        data: the file's bytes.
        reading: how training read files.
        image: the model's input; a large JPEG is decoded at the scale of ``thaw.images.jpeg_scale``, as in training.

    Returns:
        (height, width, 3) uint8 RGB, upright.

    Raises:
        Unusable: as for ``inspect``.
    """
    return np.asarray(_decoded(data, reading.max_pixels, reading.stretch, image)[2])


def _decoded(
    data: bytes, max_pixels: int, stretch: bool, size: schema.Image | None
) -> tuple[str, dict[str, str], Image.Image]:
    """Return the format, what is odd, and upright RGB; ``size``: of a JPEG at the scale that is enough for it."""
    try:
        with Image.open(BytesIO(data)) as image:
            kind, turned, oddities = header.read(image, data, max_pixels)
            ratio = jpeg_scale.ratio(*image.size, size) if size and kind == "JPEG" else 1
            if ratio > 1 and "converted" not in oddities:  # training has a PNG of all pixels in its place
                image.draft(None, (image.width // ratio, image.height // ratio))
            image.load()
            hole = _transparent(image, data) if "alpha" in oddities and kind == "PNG" else None
            pixels = _rgb(_eight_bits(image, data, oddities, stretch) if "deep" in oddities else image, hole)
    except (Unusable, MemoryError):
        raise
    except Exception as error:
        raise _unusable(error, data) from None
    is_turned = turned in header.TURNS and kind != "TIFF"  # Pillow turns a TIFF by itself
    return kind, oddities, pixels.transpose(header.TURNS[turned]) if is_turned else pixels


def png(pixels: Image.Image) -> bytes:
    """Encode RGB pixels without loss, and without anything else that the image brought along."""
    buffer = BytesIO()
    bare = pixels.copy()
    bare.info = {}
    bare.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def servable(data: bytes, max_pixels: int = MAX_PIXELS, *, stretch: bool = True) -> bytes:
    """Return what an exported model is to be given for a file: its own bytes, or the PNG that training read in its
    place.

    Args:
        data, max_pixels, stretch: as for ``inspect``.

    Raises:
        Unusable: it is not decoded by training either.
    """
    try:
        with Image.open(BytesIO(data)) as image:
            _, _, oddities = header.read(image, data, max_pixels)
    except (Unusable, MemoryError):
        raise
    except Exception as error:
        raise _unusable(error, data) from None
    if not oddities.keys() & {"converted", "deep"}:
        return data
    picture, pixels = inspect(data, max_pixels, stretch=stretch)
    return png(pixels) if "converted" in picture.oddities else data


def _eight_bits(image: Image.Image, data: bytes, oddities: dict[str, str], stretch: bool) -> Image.Image:
    """Stretch an image of 16 bits a channel by the bits in use, and note how many these are if they are fewer."""
    used = bit_depth.in_use(image, data)
    if used == 16:
        return image
    oddities["unused_bits"] = f"16 bits a channel, of which {used} are in use"
    if not stretch:
        return image
    if "transparency" in image.info:
        raise Unusable("unsupported", f"{oddities['unused_bits']}, and a transparent colour")
    oddities.setdefault("converted", f"{used} of 16 bits in use; a PNG is read in its place")
    return bit_depth.stretched(image, data)


def _transparent(image: Image.Image, data: bytes) -> np.ndarray | None:
    """Return where a PNG has the one colour that it calls transparent, (height, width) bool.

    None where Pillow can tell: it compares 8-bit pixels with a colour of as many bits as the file has a channel.

    Args:
        image: decoded by Pillow.
        data: the file's bytes.
    """
    bits, kind, colour = data[24], data[25], image.info.get("transparency")
    if bits == 8 or kind not in (0, 2) or colour is None:  # palettes and alpha have no such colour
        return None
    found: np.ndarray
    if kind == 2:
        found = (bit_depth.all_bits(image, data) == np.array(colour)).all(axis=-1)
        return found
    largest = (1 << bits) - 1
    # Pillow spreads 2 and 4 bits over the range of 8; of 1 and 16 it keeps the numbers.
    found = np.asarray(image).astype(np.uint16) == (colour & largest) * (255 // largest if bits in (2, 4) else 1)
    return found


def _rgb(image: Image.Image, hole: np.ndarray | None = None) -> Image.Image:
    """Return the decoded pixels as 8-bit RGB: of 16 bits the upper 8, transparency on white, grey repeated.

    Args:
        image: decoded by Pillow.
        hole: (height, width) bool, where it is transparent, if its own word for that is not to be taken.
    """
    if hole is not None:
        image.info.pop("transparency")
    if image.mode in bit_depth.GREY:
        image = bit_depth.upper(image)
    if hole is not None:
        pixels = np.array(image.convert("RGB"))
        pixels[hole] = 255
        return Image.fromarray(pixels)
    if image.mode == "CMYK" and image.format in cmyk.JPEGS:
        image = cmyk.rgb(image)
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    image = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return canvas


def _unusable(error: Exception, data: bytes) -> Unusable:
    """Say what Pillow, which raises nearly anything on broken files, meant."""
    if integrity.ends_early(data):
        return Unusable("truncated", "it ends early")
    if isinstance(error, UnidentifiedImageError):
        if data.startswith(header.BEGINNINGS):
            return Unusable("damaged", "begins like an image, but what follows makes no sense")
        return Unusable("not_an_image", "no image format that is known")
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, IndexError | struct.error | EOFError) or "truncated" in reason:
        return Unusable("truncated", "it ends early")
    return Unusable("damaged", reason)
