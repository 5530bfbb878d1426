import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from thaw.images import integrity

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 18, 3), dtype=np.uint8))


def encoded(kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    PICTURE.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
def test_no_beginning_of_a_file_is_taken_for_the_whole(kind: str) -> None:
    data = encoded(kind)
    integrity.check(kind, data)
    end = len(data) - (1 if kind == "GIF" else 0)  # the GIF's own end mark comes after the frame that counts
    for length in range(30, end):
        with pytest.raises((integrity.Unusable, IndexError, struct.error)):
            integrity.check(kind, data[:length])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
def test_what_follows_the_picture_does_no_harm(kind: str) -> None:
    integrity.check(kind, encoded(kind) + b"left over")


def test_a_thumbnail_inside_does_not_hide_that_the_picture_ends_early() -> None:
    data = encoded("JPEG", exif=b"Exif\0\0" + encoded("JPEG"))
    integrity.check("JPEG", data)
    with pytest.raises(integrity.Unusable, match="the JPEG ends early"):
        integrity.check("JPEG", data[:-4] + bytes(40))


def test_every_turned_bit_of_a_png_is_found() -> None:
    data = encoded("PNG")
    for place in range(12, len(data)):
        with pytest.raises(integrity.Unusable):
            integrity.check("PNG", data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "JPEG", "PNG"])
def test_a_file_that_cannot_be_read_is_known_to_be_cut_by_what_it_lacks(kind: str) -> None:
    data = encoded(kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))
    assert not integrity.ends_early(data)
    assert integrity.ends_early(data[: len(data) // 2])


def test_a_plain_bmp_is_not_odd_and_a_longer_one_is() -> None:
    assert integrity.odd_bmp("RGB", encoded("BMP")) == ""
    assert integrity.odd_bmp("RGB", encoded("BMP") + b"x") == "BMP with bytes left over"
    assert integrity.odd_bmp("P", encoded("BMP")[:28] + b"\x08\0" + encoded("BMP")[30:]) == "BMP with a palette"
