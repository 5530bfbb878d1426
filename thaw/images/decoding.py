"""Decode a file's bytes to upright RGB with Pillow: what is wrong with them, what is odd, and what is converted.

Pillow's pixels are the reference, and ``thaw.images.preprocessing.decode`` in TensorFlow makes the same of every file
that passes here unconverted. What TensorFlow cannot decode, or decodes otherwise, is ``converted``: a PNG made here is
read in its place, by training and by ``thaw predict`` alike. Pillow alone is laxer than it should be (it opens a PNG
whose end is missing, and any BMP); ``thaw.images.integrity`` looks at what must be looked at besides.
"""

import struct
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.Image import Transpose

from thaw.config import schema
from thaw.images import bit_depth, cmyk, integrity, jpeg_scale
from thaw.images.integrity import Unusable

# By Pillow's names; MPO is a JPEG with more pictures behind the first.
KINDS = {name: name for name in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")} | {"MPO": "JPEG"}
MAX_PIXELS = 89_478_485  # where no data.max_pixels is known: Pillow's own limit, 256 MiB of RGB
ORIENTATION = 0x0112  # EXIF tag
BITS_PER_SAMPLE = 258  # TIFF tag
TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", *bit_depth.GREY)
BEGINNINGS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")

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
            kind, turned, oddities = _header(image, data, max_pixels)
            ratio = jpeg_scale.ratio(*image.size, size) if size and kind == "JPEG" else 1
            if ratio > 1 and "converted" not in oddities:  # training has a PNG of all pixels in its place
                image.draft(None, (image.width // ratio, image.height // ratio))
            image.load()
            pixels = _rgb(_eight_bits(image, data, oddities, stretch) if "deep" in oddities else image)
    except (Unusable, MemoryError):
        raise
    except Exception as error:
        raise _unusable(error, data) from None
    is_turned = turned in TURNS and kind != "TIFF"  # Pillow turns a TIFF by itself
    return kind, oddities, pixels.transpose(TURNS[turned]) if is_turned else pixels


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
            _, _, oddities = _header(image, data, max_pixels)
    except (Unusable, MemoryError):
        raise
    except Exception as error:
        raise _unusable(error, data) from None
    if not oddities.keys() & {"converted", "deep"}:
        return data
    picture, pixels = inspect(data, max_pixels, stretch=stretch)
    return png(pixels) if "converted" in picture.oddities else data


def may_be_image(start: bytes) -> bool:
    """Return whether a file whose first 16 bytes or more these are may be of a format that is decoded."""
    return start.startswith((b"BM", *BEGINNINGS)) and (start[:4] != b"RIFF" or start[8:12] == b"WEBP")


def beyond(width: int, height: int, max_pixels: int) -> str:
    return f"{width} × {height}, more than {max_pixels:,} pixels"


def _header(image: Image.Image, data: bytes, max_pixels: int) -> tuple[str, int, dict[str, str]]:
    """Return format, orientation and oddities of an image of which no pixel is decoded yet."""
    kind = KINDS.get(image.format or "")
    if kind is None:
        raise Unusable("unsupported", f"{image.format} is a format that is not decoded")
    if image.width * image.height > max_pixels:
        raise Unusable("too_large", beyond(*image.size, max_pixels))
    integrity.check(kind, data)
    depth = _depth(kind, image, data)
    turned = _orientation(kind, image)
    oddities = {}
    if kind != "JPEG" and _is_animated(image):
        oddities["animated"] = f"{kind} of several {'pages' if kind == 'TIFF' else 'frames'}; the first one counts"
    if image.mode == "CMYK":
        oddities["cmyk"] = "CMYK, converted to RGB without a colour profile"
    if depth == 16:
        oddities["deep"] = "16 bits a channel, of which 8 are taken"
    if image.mode in ("P", "PA") and kind != "GIF":
        oddities["palette"] = "colours from a palette"
    if image.has_transparency_data:
        oddities["alpha"] = "transparency, put on white"
    if turned != 1:
        oddities["rotated"] = f"EXIF orientation {turned}, turned upright"
    why = _conversion(kind, image, data, oddities, turned)
    if why:
        oddities["converted"] = f"{why}; a PNG is read in its place"
    return kind, turned, oddities


def _conversion(kind: str, image: Image.Image, data: bytes, oddities: dict[str, str], turned: int) -> str:
    """Return why TensorFlow would not decode the file, or not to the same pixels; empty if it does."""
    if kind == "TIFF" or (kind == "WEBP" and oddities.keys() & {"animated", "alpha"}):
        return "TIFF" if kind == "TIFF" else "WebP with several frames or transparency"
    if kind == "GIF" and ("alpha" in oddities or _extent(image) != (0, 0, *image.size)):
        return "GIF with transparency"
    if (
        kind == "PNG" and "alpha" in oddities and data[24] != 8 and data[25] in (0, 2)
    ):  # bits; neither alpha nor palette
        return f"PNG with {data[24]} bits a channel and a transparent colour"
    if kind == "BMP":
        return integrity.odd_bmp(image.mode, data)
    if kind == "JPEG":
        return "EXIF orientation in a rare form" if turned != integrity.orientation(data) else ""
    return "EXIF orientation outside of a JPEG" if turned != 1 else ""


def _extent(image: Image.Image) -> tuple[int, ...]:
    """Return left, top, right and bottom of the first frame, which need not cover the picture."""
    return tuple(_tiles(image)[0][1])


def _tiles(image: Image.Image) -> list[Any]:
    """Yield the parts of a file that are decoded one by one: name of the decoder, extent, place in the file,
    arguments.
    """
    return image.tile  # type: ignore[attr-defined, no-any-return]  # Image.open says Image only


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


def _rgb(image: Image.Image) -> Image.Image:
    """Return the decoded pixels as 8-bit RGB: of 16 bits the upper 8, transparency on white, grey repeated."""
    if image.mode in bit_depth.GREY:
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "CMYK" and image.format in cmyk.JPEGS:
        image = cmyk.rgb(image)
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    image = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return canvas


def _depth(kind: str, image: Image.Image, data: bytes) -> int:
    """Return the bits of a channel, where these are decoded."""
    depth = _bits(kind, image, data)
    if image.mode not in MODES or depth not in (1, 2, 4, 8, 16):
        raise Unusable(
            "unsupported", f"a {kind} with pixels of {depth} bits ({image.mode}), which have no fixed range"
        )
    if depth == 16 and kind == "TIFF" and all(tile[0] == "raw" and ";16" not in tile[3][0] for tile in _tiles(image)):
        raise Unusable("unsupported", "an uncompressed TIFF of 16 bits a channel in planes, which Pillow misreads")
    return depth


def _bits(kind: str, image: Image.Image, data: bytes) -> int:
    if kind == "PNG":
        return data[24]
    if kind == "TIFF":
        found = image.tag_v2.get(BITS_PER_SAMPLE, (1,))  # type: ignore[attr-defined]  # Image.open says Image only
        return max(found) if isinstance(found, tuple) else int(found)
    return 8


def _is_animated(image: Image.Image) -> bool:
    with suppress(Exception):  # what comes behind the first frame need not be whole
        return bool(getattr(image, "is_animated", False))
    return False


def _orientation(kind: str, image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8. ``Image.getexif`` would also look into XMP, which
    ``thaw.images.preprocessing`` does not.
    """
    with suppress(Exception):  # a broken EXIF block does not make a broken image
        if kind == "TIFF":
            turned = image.tag_v2.get(ORIENTATION)  # type: ignore[attr-defined]  # Image.open says Image only
        else:
            exif = Image.Exif()
            exif.load(image.info.get("exif", b""))
            turned = exif.get(ORIENTATION)
        return turned if turned in TURNS else 1
    return 1


def _unusable(error: Exception, data: bytes) -> Unusable:
    """Say what Pillow, which raises nearly anything on broken files, meant."""
    if integrity.ends_early(data):
        return Unusable("truncated", "it ends early")
    if isinstance(error, UnidentifiedImageError):
        if data.startswith(BEGINNINGS):
            return Unusable("damaged", "begins like an image, but what follows makes no sense")
        return Unusable("not_an_image", "no image format that is known")
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, IndexError | struct.error | EOFError) or "truncated" in reason:
        return Unusable("truncated", "it ends early")
    return Unusable("damaged", reason)
