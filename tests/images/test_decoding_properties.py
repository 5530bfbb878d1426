"""Whatever bytes a file holds, it is decoded or refused with a kind that is known; hypothesis makes up the bytes."""

import io
import struct
import warnings
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from thaw.data import issues
from thaw.images import decoding, header, integrity, preprocessing
from thaw.runtime.framework import tf

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)  # no two sides alike
PICTURE = Image.fromarray(PIXELS)
MAX_PIXELS = 10_000
decode = tf.function(preprocessing.decode, input_signature=[tf.TensorSpec((), tf.string)])
orientation = tf.function(preprocessing.orientation, input_signature=[tf.TensorSpec((), tf.string)])


def encoded(kind: str, picture: Image.Image = PICTURE, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.copy().save(buffer, kind, **options)
    return buffer.getvalue()


WHOLE = [
    encoded("PNG"),
    encoded("PNG", PICTURE.quantize(7), transparency=3),
    encoded("PNG", Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 200)),
    encoded("PNG", PICTURE.convert("RGBA")),
    encoded("JPEG"),
    encoded("JPEG", PICTURE.convert("CMYK")),
    encoded("JPEG", progressive=True),
    encoded("GIF"),
    encoded("GIF", save_all=True, append_images=[PICTURE.rotate(180)]),
    encoded("BMP"),
    encoded("BMP", PICTURE.quantize(7)),
    encoded("WEBP"),
    encoded("WEBP", PICTURE.convert("RGBA"), lossless=True),
    encoded("TIFF"),
    encoded("TIFF", compression="tiff_lzw"),
    encoded("TIFF", Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 200)),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw an image file with a few bytes changed, cut out or put in; many are still whole in their beginnings."""
    data = bytearray(draw(st.sampled_from(WHOLE)))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, min(len(data), 120)) | st.integers(0, len(data)))
        length = draw(st.integers(0, 4) | st.integers(0, len(data)))
        data[place : place + length] = draw(st.binary(max_size=8) | st.binary(min_size=length, max_size=length))
    return bytes(data)


@given(damaged() | st.binary() | st.sampled_from(header.BEGINNINGS).flatmap(lambda s: st.binary().map(s.__add__)))
def test_any_bytes_are_decoded_or_refused_with_a_kind_that_is_known(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow says of some that they are corrupt, and goes on
        try:
            picture, pixels = decoding.inspect(data, MAX_PIXELS)
        except integrity.Unusable as refused:
            assert refused.kind in issues.REMEDIES
            assert refused.reason and len(refused.reason.splitlines()) == 1
            return
        assert pixels.mode == "RGB"
        assert pixels.size == (picture.width, picture.height)
        assert 0 < picture.width * picture.height <= MAX_PIXELS
        assert picture.format in header.KINDS.values()
        assert picture.oddities.keys() <= issues.REMEDIES.keys()
        served = decoding.servable(data, MAX_PIXELS)
    assert (served is data) == ("converted" not in picture.oddities)
    if served is not data:
        again, copied = decoding.inspect(served)
        assert again.oddities == {} and copied.tobytes() == pixels.tobytes()


def segment(marker: int, payload: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", min(len(payload) + 2, 0xFFFF)) + payload


@st.composite
def directories(draw: st.DrawFn) -> bytes:
    """Draw an EXIF block with a few tags, the orientation among them in many forms, and now and then damaged."""
    order = draw(st.sampled_from("<>"))
    small = st.integers(0, 9) | st.sampled_from([0xFFFF, 0x60006])
    tags = st.tuples(st.sampled_from([274, 274, 256, 34665]), st.sampled_from([1, 3, 3, 3, 4, 5]), small, small)
    entries = draw(st.lists(tags, max_size=4))
    count = draw(st.just(len(entries)) | st.integers(0, 600))
    packed = b""
    for tag, kind, number, value in entries:
        form = {1: "Bxxx", 3: "Hxx"}.get(kind, "I")
        packed += struct.pack(
            f"{order}HHI{form}",
            tag,
            kind,
            1 if draw(st.booleans()) else number,
            value & {1: 0xFF, 3: 0xFFFF}.get(kind, -1),
        )
    offset = draw(st.just(8) | st.integers(0, 40))
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", draw(st.sampled_from([42, 42, 43])), offset)
    block = bytearray(b"Exif\0\0" + head + bytes(max(offset - 8, 0)) + struct.pack(f"{order}H", count) + packed)
    block += draw(st.sampled_from([bytes(4), b"", bytes(40)]))
    for _ in range(draw(st.integers(0, 1))):
        block[draw(st.integers(0, len(block) - 1))] = draw(st.integers(0, 255))
    return segment(0xE1, bytes(block))


others = st.sampled_from([segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"), segment(0xFE, b"Exif"), b"\xff", b"\0"])
PLAIN = encoded("JPEG", quality=95)


@settings(max_examples=settings().max_examples * 2)
@given(st.lists(directories() | others, max_size=3))
def test_pillow_and_the_graph_agree_on_the_orientation_or_the_file_is_converted(segments: list[bytes]) -> None:
    data = PLAIN[:2] + b"".join(segments) + PLAIN[2:]
    found = int(orientation(data))
    assert integrity.orientation(data) == found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            picture, pixels = decoding.inspect(data)
        except integrity.Unusable:
            return
        served = decoding.servable(data)
    assert served is not data or ("rotated" in picture.oddities) == (found != 1)
    np.testing.assert_array_equal(decode(served).numpy(), np.asarray(pixels))
