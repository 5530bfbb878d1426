import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from thaw.data import issues
from thaw.images import decoding, header, integrity, preprocessing
from thaw.runtime.framework import tf

WIDTH, HEIGHT = 37, 22
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS).filter(ImageFilter.SMOOTH)
OTHER = Image.fromarray(PIXELS[:, ::-1].copy())
decode = tf.function(preprocessing.decode, input_signature=[tf.TensorSpec((), tf.string)])


def encoded(kind: str, picture: Image.Image = PICTURE, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.copy().save(buffer, kind, **options)  # a copy, since saving leaves its traces in the image
    return buffer.getvalue()


def see_through(mode: str = "RGBA") -> Image.Image:
    picture = PICTURE.convert("RGBA")
    picture.putalpha(Image.fromarray(RANDOM.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)))
    return picture.convert(mode)


def sixteen_bits() -> Image.Image:
    return Image.fromarray(RANDOM.integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16))


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[header.ORIENTATION] = orientation
    return exif


def png(bits: int, colour: int, channels: int, *chunks: tuple[bytes, bytes], lines: bytes = b"") -> bytes:
    """A PNG of any depth and colour type, which Pillow does not write, of random bits unless its lines are given."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    row = (WIDTH * bits * channels + 7) // 8
    lines = lines or b"".join(b"\0" + RANDOM.bytes(row) for _ in range(HEIGHT))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, colour, 0, 0, 0))
    middle = b"".join(chunk(*each) for each in chunks)
    return b"\x89PNG\r\n\x1a\n" + head + middle + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def bmp(bits: int, compression: int = 0, masks: bytes = b"") -> bytes:
    row = (WIDTH * bits + 31) // 32 * 4
    start = 54 + len(masks)
    head = struct.pack("<IHHI", start + row * HEIGHT, 0, 0, start)
    info = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, bits, compression, row * HEIGHT, 0, 0, 0, 0)
    return b"BM" + head + info + masks + RANDOM.bytes(row * HEIGHT)


def os2_bmp() -> bytes:
    row = (WIDTH * 24 + 31) // 32 * 4
    head = struct.pack("<IHHI", 26 + row * HEIGHT, 0, 0, 26) + struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, 24)
    return b"BM" + head + RANDOM.bytes(row * HEIGHT)


def without_adobe(data: bytes) -> bytes:
    place = data.index(b"\xff\xee")
    return data[:place] + data[place + 2 + int.from_bytes(data[place + 2 : place + 4], "big") :]


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def small_frame() -> bytes:
    """A GIF whose first frame does not cover its canvas."""
    data = bytearray(encoded("GIF"))
    data[6:10] = struct.pack("<HH", WIDTH + 5, HEIGHT + 3)
    return bytes(data)


def two() -> dict[str, Any]:
    return {"save_all": True, "append_images": [OTHER.copy()]}


PALETTE = PICTURE.quantize(200)
# Name → bytes, and the kinds of oddities that are found in it.
TAKEN: dict[str, tuple[bytes, str]] = {
    "colour.png": (encoded("PNG"), ""),
    "grey.png": (encoded("PNG", PICTURE.convert("L")), ""),
    "bits.png": (encoded("PNG", PICTURE.convert("1")), ""),
    "two_bits.png": (png(2, 0, 1), ""),
    "four_bits.png": (png(4, 0, 1), ""),
    "one_colour_less.png": (png(4, 0, 1, (b"tRNS", b"\0\5")), "alpha converted"),
    "palette.png": (encoded("PNG", PALETTE), "palette"),
    "palette_hole.png": (encoded("PNG", PALETTE, transparency=3), "alpha palette"),
    "palette_glass.png": (encoded("PNG", PALETTE, transparency=bytes(range(200))), "alpha palette"),
    "glass.png": (encoded("PNG", see_through()), "alpha"),
    "grey_glass.png": (encoded("PNG", see_through("LA")), "alpha"),
    "hole.png": (encoded("PNG", transparency=PICTURE.getpixel((3, 3))), "alpha"),
    "grey_hole.png": (
        encoded("PNG", PICTURE.convert("L"), transparency=PICTURE.convert("L").getpixel((3, 3))),
        "alpha",
    ),
    "deep.png": (encoded("PNG", sixteen_bits()), "deep"),
    "deep_colour.png": (png(16, 2, 3), "deep"),
    "deep_glass.png": (png(16, 6, 4), "alpha deep"),
    "deep_grey_glass.png": (png(16, 4, 2), "alpha deep"),
    "deep_hole.png": (png(16, 0, 1, (b"tRNS", b"\0\5")), "alpha converted deep"),
    "animated.png": (encoded("PNG", **two()), "animated"),
    "followed.png": (encoded("PNG") + b"left over", ""),
    "turned.png": (encoded("PNG", exif=turned(6)), "converted rotated"),
    "colour.jpg": (encoded("JPEG"), ""),
    "grey.jpg": (encoded("JPEG", PICTURE.convert("L")), ""),
    "print.jpg": (encoded("JPEG", PICTURE.convert("CMYK")), "cmyk"),
    "print_without_mark.jpg": (without_adobe(encoded("JPEG", PICTURE.convert("CMYK"))), "cmyk"),
    "progressive.jpg": (encoded("JPEG", progressive=True), ""),
    "turned.jpg": (encoded("JPEG", exif=turned(5)), "rotated"),
    "two.jpg": (encoded("MPO", **two()), ""),
    "still.gif": (encoded("GIF"), ""),
    "moving.gif": (encoded("GIF", **two()), "animated"),
    "hole.gif": (encoded("GIF", PALETTE, transparency=PALETTE.getpixel((3, 3))), "alpha converted"),
    "small_frame.gif": (small_frame(), "converted"),
    "lossy.webp": (encoded("WEBP"), ""),
    "lossless.webp": (encoded("WEBP", lossless=True), ""),
    "moving.webp": (encoded("WEBP", **two()), "animated converted"),
    "glass.webp": (encoded("WEBP", see_through()), "alpha converted"),
    "turned.webp": (encoded("WEBP", exif=turned(3)), "converted rotated"),
    "colour.bmp": (encoded("BMP"), ""),
    "grey.bmp": (encoded("BMP", PICTURE.convert("L")), ""),
    "alpha.bmp": (encoded("BMP", PICTURE.convert("RGBA")), ""),
    "masks.bmp": (bmp(32, 3, struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)), ""),
    "other_masks.bmp": (bmp(32, 3, struct.pack("<III", 0xFF000000, 0xFF0000, 0xFF00)), "converted"),
    "longer.bmp": (encoded("BMP") + b"\0\0", "converted"),
    "palette.bmp": (encoded("BMP", PALETTE), "converted palette"),
    "bits.bmp": (encoded("BMP", PICTURE.convert("1")), "converted"),
    "sixteen.bmp": (bmp(16), "converted"),
    "os2.bmp": (os2_bmp(), "converted"),
    "colour.tif": (encoded("TIFF"), "converted"),
    "packed.tif": (encoded("TIFF", compression="tiff_lzw"), "converted"),
    "fax.tif": (encoded("TIFF", PICTURE.convert("1"), compression="group4"), "converted"),
    "print.tif": (encoded("TIFF", PICTURE.convert("CMYK")), "cmyk converted"),
    "deep.tif": (encoded("TIFF", sixteen_bits()), "converted deep"),
    "glass.tif": (encoded("TIFF", see_through()), "alpha converted"),
    "pages.tif": (encoded("TIFF", **two()), "animated converted"),
    "turned.tif": (encoded("TIFF", exif=turned(8)), "converted rotated"),
}
# Name → bytes, kind and reason.
REFUSED: dict[str, tuple[bytes, str, str]] = {
    "text.jpg": (b"not a picture at all", "not_an_image", "no image format"),
    "head.png": (b"\x89PNG\r\n\x1a\n", "truncated", "it ends early"),
    "nonsense.gif": (b"GIF89a" + b"\xff" * 30, "damaged", "begins like an image"),
    "nonsense.png": (b"\x89PNG\r\n\x1a\n" + bytes(60) + b"IEND", "damaged", "begins like an image"),
    "cut.jpg": (encoded("JPEG")[:-30], "truncated", "the JPEG ends early"),
    "cut_end.jpg": (encoded("JPEG")[:-2], "truncated", "the JPEG ends early"),
    "cut_and_filled.jpg": (encoded("JPEG")[:-4] + bytes(40), "truncated", "the JPEG ends early"),
    "arithmetic.jpg": (encoded("JPEG").replace(b"\xff\xc0", b"\xff\xc9", 1), "unsupported", "a JPEG in a rare coding"),
    "cut.png": (encoded("PNG")[:-100], "truncated", "the PNG ends early"),
    "cut_end.png": (encoded("PNG")[:-1], "truncated", "the PNG ends early"),
    "flipped.png": (flipped(encoded("PNG"), 60), "damaged", "a part of the PNG fails its checksum"),
    "cut.gif": (encoded("GIF")[:-6], "truncated", "ends early"),
    "cut_and_filled.gif": (encoded("GIF")[:-4] + b"\xc8" * 60, "truncated", "ends early"),
    "cut.webp": (encoded("WEBP")[:-5], "truncated", "it ends early"),
    "cut.bmp": (encoded("BMP")[:-5], "truncated", "the BMP ends early"),
    "cut.tif": (encoded("TIFF")[:-900], "truncated", "it ends early"),
    "floats.tif": (encoded("TIFF", PICTURE.convert("F")), "unsupported", "a TIFF with pixels of 32 bits (F)"),
    "picture.ico": (encoded("ICO"), "unsupported", "ICO is a format that is not decoded"),
    "picture.ppm": (encoded("PPM"), "unsupported", "PPM is a format that is not decoded"),
}


def refusal(data: bytes, **limits: Any) -> tuple[str, str]:
    with pytest.raises(integrity.Unusable) as refused:
        decoding.inspect(data, **limits)
    assert refused.value.kind in issues.REMEDIES
    return refused.value.kind, refused.value.reason


@pytest.mark.parametrize("name", TAKEN)
def test_an_image_is_described_with_all_that_is_odd_about_it(name: str) -> None:
    data, kinds = TAKEN[name]
    picture, pixels = decoding.inspect(data)
    assert picture.format == {"jpg": "JPEG", "tif": "TIFF"}.get(name.split(".")[1], name.split(".")[1].upper())
    assert " ".join(sorted(picture.oddities)) == kinds
    assert all(picture.oddities.values())
    assert (pixels.mode, pixels.size) == ("RGB", (picture.width, picture.height))
    if name != "small_frame.gif":
        on_its_side = name in ("turned.png", "turned.jpg", "turned.tif")
        assert pixels.size == ((HEIGHT, WIDTH) if on_its_side else (WIDTH, HEIGHT))


@pytest.mark.parametrize("name", TAKEN)
def test_the_serving_graph_makes_the_same_pixels_of_it(name: str) -> None:
    """The contract of training, evaluation and serving: not one value differs from Pillow's."""
    data, kinds = TAKEN[name]
    served = decoding.servable(data)
    np.testing.assert_array_equal(decode(served).numpy(), np.asarray(decoding.inspect(data)[1]))
    assert (served is data) == ("converted" not in kinds)


@pytest.mark.parametrize("name", REFUSED)
def test_what_nothing_can_be_learnt_from_is_refused_with_kind_and_reason(name: str) -> None:
    data, kind, reason = REFUSED[name]
    found_kind, found_reason = refusal(data)
    assert (found_kind, found_reason.startswith(reason) or reason in found_reason) == (kind, True), found_reason
    with pytest.raises(integrity.Unusable):
        decoding.servable(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_format_that_carries_an_orientation_is_turned_by_it(kind: str, orientation: int) -> None:
    straight = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    plain = decoding.inspect(encoded(kind, **straight))[1]
    picture, pixels = decoding.inspect(encoded(kind, exif=turned(orientation), **straight))
    expected = plain.transpose(header.TURNS[orientation]) if orientation > 1 else plain
    np.testing.assert_array_equal(np.asarray(pixels), np.asarray(expected))
    assert ("rotated" in picture.oddities) == (orientation > 1)


def test_a_broken_exif_block_is_no_reason_to_leave_an_image_out() -> None:
    assert decoding.inspect(encoded("JPEG", exif=b"Exif\0\0nonsense"))[0].oddities == {}


def test_an_orientation_in_xmp_alone_does_not_count_as_the_graph_does_not_look_there() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    data = encoded("JPEG", xmp=xmp)
    with Image.open(io.BytesIO(data)) as image:
        assert image.getexif().get(header.ORIENTATION) == 6
    assert decoding.inspect(data)[1].size == (WIDTH, HEIGHT)


def test_transparency_is_put_on_white_and_sixteen_bits_keep_their_upper_half() -> None:
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    assert np.asarray(decoding.inspect(encoded("PNG", clear))[1]).min() == 255
    half = np.asarray(decoding.inspect(encoded("PNG", Image.new("RGBA", (4, 4), (0, 100, 255, 128))))[1])
    assert half[0, 0].tolist() == [127, 177, 255]
    deep = Image.fromarray(np.full((4, 4), 0xABCD, np.uint16))
    assert np.unique(np.asarray(decoding.inspect(encoded("PNG", deep))[1])).tolist() == [0xAB]


@pytest.mark.parametrize(("bits", "kind"), [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2)])
def test_the_one_transparent_colour_of_a_png_is_white_at_each_depth_and_no_other_is(bits: int, kind: int) -> None:
    channels = 3 if kind else 1
    numbers = np.random.default_rng(bits).integers(0, 1 << bits, (HEIGHT, WIDTH, channels), dtype=np.uint16)
    if bits == 16:
        numbers[1] = numbers[0] ^ 1  # another colour, which has the same upper 8 bits
    hole = (numbers == numbers[0, 0]).all(axis=-1)
    rows = [np.unpackbits(row.astype(">u2").view(np.uint8)).reshape(-1, 16)[:, 16 - bits :] for row in numbers]
    lines = b"".join(b"\0" + np.packbits(row.ravel()).tobytes() for row in rows)
    data = png(bits, kind, channels, (b"tRNS", numbers[0, 0].astype(">u2").tobytes()), lines=lines)
    pixels = np.asarray(decoding.inspect(data)[1])
    shown = numbers >> 8 if bits == 16 else numbers * (255 // ((1 << bits) - 1))
    np.testing.assert_array_equal(pixels, np.where(hole[..., None], 255, np.broadcast_to(shown, (HEIGHT, WIDTH, 3))))


def test_what_is_written_in_place_of_a_file_has_its_pixels_and_nothing_else() -> None:
    data = encoded("TIFF", exif=turned(6), icc_profile=b"a profile", description="a secret")
    made = decoding.png(decoding.inspect(data)[1])
    with Image.open(io.BytesIO(made)) as image:
        assert set(image.info) == set()
        np.testing.assert_array_equal(np.asarray(image), np.asarray(decoding.inspect(data)[1]))


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    kind, reason = refusal(encoded("PNG", Image.new("1", (20_000, 20_000))))
    assert (kind, reason) == ("too_large", "20000 × 20000, more than 89,478,485 pixels")
    assert decoding.inspect(encoded("PNG"), WIDTH * HEIGHT)
    assert refusal(encoded("PNG"), max_pixels=WIDTH * HEIGHT - 1)[0] == "too_large"
