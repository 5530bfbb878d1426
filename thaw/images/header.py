"""Read an image's header with Pillow, before a pixel is decoded: its format, what is odd, and what is converted."""

from contextlib import suppress
from typing import Any

from PIL import Image
from PIL.Image import Transpose

from thaw.images import bit_depth, integrity
from thaw.images.integrity import Unusable

# By Pillow's names; MPO is a JPEG with more pictures behind the first.
KINDS = {name: name for name in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")} | {"MPO": "JPEG"}
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


def may_be_image(start: bytes) -> bool:
    """Return whether a file whose first 16 bytes or more these are may be of a format that is decoded."""
    return start.startswith((b"BM", *BEGINNINGS)) and (start[:4] != b"RIFF" or start[8:12] == b"WEBP")


def beyond(width: int, height: int, max_pixels: int) -> str:
    """Say that an image is too large."""
    return f"{width} × {height}, more than {max_pixels:,} pixels"


def read(image: Image.Image, data: bytes, max_pixels: int) -> tuple[str, int, dict[str, str]]:
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


def _depth(kind: str, image: Image.Image, data: bytes) -> int:
    """Return the bits of a channel, where these are decoded."""
    depth = bits(kind, image, data)
    if image.mode not in MODES or depth not in (1, 2, 4, 8, 16):
        raise Unusable(
            "unsupported", f"a {kind} with pixels of {depth} bits ({image.mode}), which have no fixed range"
        )
    if depth == 16 and kind == "TIFF" and all(tile[0] == "raw" and ";16" not in tile[3][0] for tile in _tiles(image)):
        raise Unusable("unsupported", "an uncompressed TIFF of 16 bits a channel in planes, which Pillow misreads")
    return depth


def bits(kind: str, image: Image.Image, data: bytes) -> int:
    """Return the bits of a channel as the file of an opened image has them, so far as its format has several."""
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
