"""Which image files training decodes: formats, flaws, and what to do about them.

Whatever passes here is decoded by TensorFlow 2.21's ``tf.io.decode_image`` with ``channels=3,
expand_animations=False``. Pillow alone is laxer (it opens a PNG whose end is missing, and any BMP); ``_flaw`` holds
what must be looked at besides.
"""

import struct
import zlib
from io import BytesIO

from PIL import Image, UnidentifiedImageError

# By Pillow's names; MPO is a JPEG with more pictures behind the first.
KINDS = {name: name for name in ("JPEG", "PNG", "GIF", "BMP", "WEBP")} | {"MPO": "JPEG"}
# Pillow's own limit against decompression bombs: 256 MiB of RGB.
MAX_PIXELS = 89_478_485
ORIENTATION = 0x0112  # EXIF tag; 5 to 8 lie on their side
RARE_JPEG = {0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)}  # marks of frames; C0 to C2 are common
BITFIELDS = struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)  # the one order of colours that TensorFlow knows

CONVERT = "save it again as PNG or JPEG"
REPLACE = "replace it with a whole copy, or remove it"
REMOVE = "remove it; if it is a photograph (HEIC, raw), save it again as PNG or JPEG"


class Unusable(Exception):  # noqa: N818 -- not an error of the program
    """Carries the reason and the remedy of a refusal."""


def inspect(data: bytes) -> tuple[str, int, int]:
    """Decode every pixel of an image.

    Args:
        data: the file's bytes.

    Returns:
        The format (a value of ``KINDS``), and width and height in pixels, after EXIF orientation.

    Raises:
        Unusable: training could not decode it; with the reason and the remedy.
    """
    try:
        with Image.open(BytesIO(data)) as image:
            kind = KINDS.get(image.format or "")
            if kind is None:
                raise Unusable(f"{image.format} is a format that training does not decode", CONVERT)
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            flaw = _flaw(kind, image, data)
            if flaw:
                raise Unusable(flaw, REPLACE if flaw.startswith("a damaged image") else CONVERT)
            image.load()
            width, height = image.size
            return (kind, height, width) if kind == "JPEG" and _on_its_side(image) else (kind, width, height)
    except Unusable:
        raise
    except UnidentifiedImageError:
        raise Unusable("not an image", REMOVE) from None
    except Image.DecompressionBombError:
        raise Unusable(f"more than {MAX_PIXELS:,} pixels", "make it smaller") from None
    except (IndexError, struct.error):
        raise Unusable("a damaged image: it ends early", REPLACE) from None
    except Exception as error:  # Pillow raises nearly anything on broken files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Unusable(f"a damaged image: {reason}", REPLACE) from None


def _on_its_side(image: Image.Image) -> bool:
    """Whether EXIF says so. ``Image.getexif`` would also look into XMP, which ``thaw.preprocessing`` does not."""
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        return exif.get(ORIENTATION) in range(5, 9)
    except Exception:  # a broken EXIF block does not make a broken image
        return False


def _flaw(kind: str, image: Image.Image, data: bytes) -> str:
    """What TensorFlow would stop at, or misread, and Pillow would not; empty if nothing."""
    if kind == "WEBP" and getattr(image, "is_animated", False):
        return "an animated WebP, which training does not decode"
    if kind == "WEBP" and image.mode != "RGB":
        return "a WebP with transparency, which training does not decode"
    if kind == "BMP":
        return _bmp_flaw(image, data)
    if kind == "JPEG":
        return _jpeg_flaw(data)
    if (kind == "PNG" and not _png_is_whole(data)) or (kind == "GIF" and not _gif_is_whole(data)):
        return f"a damaged image: the {kind} ends early or fails its checksum"
    return ""


def _jpeg_flaw(data: bytes) -> str:
    """Look for the end mark of the first picture; thumbnails before it and pictures after it don't count."""
    place = 2
    while data[place : place + 2] != b"\xff\xda":  # there the picture's bytes begin, in which no mark occurs by chance
        mark = data[place + 1]
        if data[place] != 0xFF or mark == 0xFF:  # filling
            place += 1
        elif mark in RARE_JPEG:
            return "a JPEG in a rare coding (lossless, hierarchical or arithmetic), which training does not decode"
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return "" if data.find(b"\xff\xd9", place) > 0 else "a damaged image: the JPEG ends early"


def _gif_is_whole(data: bytes) -> bool:
    """Whether the first frame is there up to its end mark; the others are not used."""

    def table(flags: int) -> int:
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    def after_blocks(place: int) -> int:
        while data[place]:
            place += data[place] + 1
        return place + 1

    place = 13 + table(data[10])
    while data[place] == 0x21:  # an extension
        place = after_blocks(place + 2)
    return data[place] == 0x2C and after_blocks(place + 11 + table(data[place + 9])) <= len(data)


def _png_is_whole(data: bytes) -> bool:
    """Whether every chunk up to the end mark is there and has the right CRC."""
    place = 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        end = place + 8 + length
        if data[end : end + 4] != zlib.crc32(data[place + 4 : end]).to_bytes(4, "big"):
            return False
        if data[place + 4 : place + 8] == b"IEND":
            return True
        place = end + 4
    return False


def _bmp_flaw(image: Image.Image, data: bytes) -> str:
    """TensorFlow reads a BMP by its plainest form and takes palette indices for grey values."""
    start, header = struct.unpack_from("<II", data, 10)
    if header < 40:
        return "an OS/2 BMP, which training does not decode"
    bits, compression = struct.unpack_from("<HI", data, 28)
    if bits not in (8, 24, 32) or (bits == 8 and image.mode != "L"):
        return f"a BMP with {'a palette' if bits <= 8 else f'{bits} bits a pixel'}, which training does not decode"
    if compression != 0 and not (bits == 32 and compression == 3 and data[54:66] == BITFIELDS):
        return "a compressed BMP, which training does not decode"
    if len(data) - start != (image.width * bits + 31) // 32 * 4 * image.height:
        return "a BMP with bytes missing or left over, which training does not decode"
    return ""
