import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from thaw import formats

WIDTH, HEIGHT = 12, 8
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)
TURNED = Image.fromarray(PIXELS[:, ::-1].copy())


def encoded(kind: str, picture: Image.Image = PICTURE, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def see_through() -> Image.Image:
    picture = PICTURE.convert("RGBA")
    picture.putalpha(100)
    return picture


def sixteen_bits() -> Image.Image:
    return Image.fromarray(np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 500)


def bmp(bits: int, compression: int = 0, masks: bytes = b"") -> bytes:
    row = (WIDTH * bits + 31) // 32 * 4
    start = 54 + len(masks)
    head = struct.pack("<IHHI", start + row * HEIGHT, 0, 0, start)
    info = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, bits, compression, row * HEIGHT, 0, 0, 0, 0)
    return b"BM" + head + info + masks + bytes(row * HEIGHT)


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def arithmetic_jpeg() -> bytes:
    data = encoded("JPEG")
    return data.replace(b"\xff\xc0", b"\xff\xc9", 1)


GOOD = {
    "grey.png": encoded("PNG", PICTURE.convert("L")),
    "bits.png": encoded("PNG", PICTURE.convert("1")),
    "palette.png": encoded("PNG", PICTURE.convert("P")),
    "alpha.png": encoded("PNG", see_through()),
    "deep.png": encoded("PNG", sixteen_bits()),
    "animated.png": encoded("PNG", save_all=True, append_images=[TURNED]),
    "followed.png": encoded("PNG") + b"left over",
    "colour.jpg": encoded("JPEG"),
    "grey.jpg": encoded("JPEG", PICTURE.convert("L")),
    "print.jpg": encoded("JPEG", PICTURE.convert("CMYK")),
    "progressive.jpg": encoded("JPEG", progressive=True),
    "two.jpg": encoded("MPO", save_all=True, append_images=[TURNED]),
    "still.gif": encoded("GIF"),
    "moving.gif": encoded("GIF", save_all=True, append_images=[TURNED]),
    "lossy.webp": encoded("WEBP"),
    "lossless.webp": encoded("WEBP", lossless=True),
    "colour.bmp": encoded("BMP"),
    "grey.bmp": encoded("BMP", PICTURE.convert("L")),
    "alpha.bmp": encoded("BMP", PICTURE.convert("RGBA")),
    "masks.bmp": bmp(32, 3, formats.BITFIELDS),
}
BAD = {
    "text.jpg": (b"not a picture at all", "not an image"),
    "cut.jpg": (encoded("JPEG")[:-30], "a damaged image"),
    "cut_end.jpg": (encoded("JPEG")[:-2], "a damaged image"),
    "cut_and_filled.jpg": (encoded("JPEG")[:-4] + bytes(40), "a damaged image: the JPEG ends early"),
    "arithmetic.jpg": (arithmetic_jpeg(), "a JPEG in a rare coding"),
    "cut.png": (encoded("PNG")[:-100], "a damaged image"),
    "cut_end.png": (encoded("PNG")[:-1], "a damaged image: the PNG ends early"),
    "flipped.png": (flipped(encoded("PNG"), 60), "a damaged image"),
    "cut.gif": (encoded("GIF")[:-6], "a damaged image"),
    "cut_and_filled.gif": (encoded("GIF")[:-4] + b"\xc8" * 60, "a damaged image"),
    "cut.webp": (encoded("WEBP")[:-5], "a damaged image"),
    "moving.webp": (encoded("WEBP", save_all=True, append_images=[TURNED]), "an animated WebP"),
    "alpha.webp": (encoded("WEBP", see_through()), "a WebP with transparency"),
    "cut.bmp": (encoded("BMP")[:-5], "a BMP with bytes missing or left over"),
    "longer.bmp": (encoded("BMP") + b"\0\0", "a BMP with bytes missing or left over"),
    "palette.bmp": (encoded("BMP", PICTURE.convert("P")), "a BMP with a palette"),
    "bits.bmp": (encoded("BMP", PICTURE.convert("1")), "a BMP with a palette"),
    "sixteen.bmp": (bmp(16), "a BMP with 16 bits a pixel"),
    "masks.bmp": (bmp(32, 3, struct.pack("<III", 0xFF000000, 0xFF0000, 0xFF00)), "a compressed BMP"),
    "picture.tiff": (encoded("TIFF"), "TIFF is a format that training does not decode"),
    "picture.ico": (encoded("ICO"), "ICO is a format that training does not decode"),
    "picture.ppm": (encoded("PPM"), "PPM is a format that training does not decode"),
}


KIND = {"png": "PNG", "jpg": "JPEG", "gif": "GIF", "webp": "WEBP", "bmp": "BMP"}


def refusal(data: bytes) -> str:
    """The reason why it is not taken; there is always a remedy too."""
    with pytest.raises(formats.Unusable) as refused:
        formats.inspect(data)
    reason, remedy = refused.value.args
    assert remedy
    return str(reason)


@pytest.mark.parametrize("name", GOOD)
def test_an_image_that_training_decodes_is_taken(name: str) -> None:
    assert formats.inspect(GOOD[name]) == (KIND[name.split(".")[1]], WIDTH, HEIGHT)


@pytest.mark.parametrize("name", GOOD)
def test_tensorflow_decodes_what_was_taken(name: str) -> None:
    from thaw.framework import tf  # noqa: PLC0415 -- only these tests need it

    pixels = tf.io.decode_image(GOOD[name], channels=3, expand_animations=False)
    assert tuple(pixels.shape) == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("name", BAD)
def test_what_training_cannot_use_is_refused_with_its_reason(name: str) -> None:
    data, reason = BAD[name]
    assert refusal(data).startswith(reason)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_width_and_height_are_those_of_the_upright_picture(orientation: int) -> None:
    exif = Image.Exif()
    exif[formats.ORIENTATION] = orientation
    size = (WIDTH, HEIGHT) if orientation < 5 else (HEIGHT, WIDTH)
    assert formats.inspect(encoded("JPEG", exif=exif)) == ("JPEG", *size)


def test_only_in_a_jpeg_the_orientation_counts_as_training_looks_nowhere_else() -> None:
    exif = Image.Exif()
    exif[formats.ORIENTATION] = 6
    assert formats.inspect(encoded("PNG", exif=exif)) == ("PNG", WIDTH, HEIGHT)


def test_a_broken_exif_block_is_no_reason_to_leave_an_image_out() -> None:
    assert formats.inspect(encoded("JPEG", exif=b"Exif\0\0nonsense")) == ("JPEG", WIDTH, HEIGHT)


def test_an_orientation_in_xmp_alone_does_not_count_as_training_does_not_look_there() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    data = encoded("JPEG", xmp=xmp)
    with Image.open(io.BytesIO(data)) as image:
        assert image.getexif().get(formats.ORIENTATION) == 6
    assert formats.inspect(data) == ("JPEG", WIDTH, HEIGHT)


def test_a_thumbnail_inside_does_not_hide_that_the_picture_ends_early() -> None:
    inside = b"Exif\0\0" + encoded("JPEG")
    assert formats.inspect(encoded("JPEG", exif=inside)) == ("JPEG", WIDTH, HEIGHT)
    assert refusal(encoded("JPEG", exif=inside)[:-4] + bytes(40)) == "a damaged image: the JPEG ends early"


def test_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(encoded("PNG", Image.new("1", (20_000, 20_000)))) == "more than 89,478,485 pixels"
    monkeypatch.setattr(formats, "MAX_PIXELS", WIDTH * HEIGHT - 1)
    assert refusal(encoded("PNG")) == "more than 95 pixels"
