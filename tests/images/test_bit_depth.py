import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thaw.images import bit_depth, decoding, integrity, preprocessing
from thaw.runtime.framework import tf

HEIGHT, WIDTH = 12, 18
RANDOM = np.random.default_rng(0)
COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}  # channels → a PNG's colour type


def values(used: int, channels: int) -> np.ndarray:
    """Numbers of so many bits; the alpha of two and four channels is opaque but for a pixel."""
    made = RANDOM.integers(0, 1 << used, (HEIGHT, WIDTH, channels), dtype=np.uint16)
    made[0, 0] = (1 << used) - 1
    if channels in (2, 4):
        made[..., -1] = 65535
        made[3, 3, -1] = 0
    return made


def png(numbers: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, channels = numbers.shape
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, COLOURS[channels], 0, 0, 0))
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in numbers)
    middle = b"".join(chunk(*each) for each in chunks)
    return b"\x89PNG\r\n\x1a\n" + head + middle + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def tiff(numbers: np.ndarray, order: str = "<", planes: bool = False, white: int = 65535) -> bytes:
    """An uncompressed TIFF of 16 bits a channel, of either order of bytes."""
    height, width, channels = numbers.shape
    sides = np.moveaxis(numbers, 2, 0) if planes else numbers
    data, strips = sides.astype(f"{order}u2").tobytes(), channels if planes else 1
    photometric = 2 if channels > 1 else int(white > 0)
    size, place, parts = len(data) // strips, 8 + 2 + 12 * 10 + 4, b""
    entries = []

    def entry(tag: int, kind: int, *cells: int) -> None:
        nonlocal parts
        packed = struct.pack(f"{order}{len(cells)}{'H' if kind == 3 else 'I'}", *cells)
        if len(packed) > 4:
            packed, parts = struct.pack(f"{order}I", place + len(parts)), parts + packed
        entries.append(struct.pack(f"{order}HHI", tag, kind, len(cells)) + packed.ljust(4, b"\0"))

    begin = place + 2 * channels * (channels > 2) + 8 * strips * (strips > 1)
    entry(256, 3, width)
    entry(257, 3, height)
    entry(258, 3, *[16] * channels)
    entry(259, 3, 1)
    entry(262, 3, photometric)
    entry(273, 4, *[begin + number * size for number in range(strips)])
    entry(277, 3, channels)
    entry(278, 3, height)
    entry(279, 4, *[size] * strips)
    entry(284, 3, 2 if planes else 1)
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return head + directory + parts + data


def expected(numbers: np.ndarray, used: int) -> np.ndarray:
    """The upper 8 of the bits in use, on white where the alpha is 0: (height, width, 3) uint8."""
    if numbers.shape[-1] in (2, 4):
        see_through = numbers[..., -1] == 0
        colours = expected(numbers[..., :-1], used)
        colours[see_through] = 255
        return colours
    return np.broadcast_to(numbers >> (used - 8), (HEIGHT, WIDTH, 3)).astype(np.uint8)


@pytest.mark.parametrize("used", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_upper_8_of_the_bits_in_use_are_taken_by_each_program(used: int, channels: int) -> None:
    numbers = values(used, channels)
    files = [png(numbers)]
    if channels in (1, 3):
        files += [tiff(numbers, "<"), tiff(numbers, ">")]
    for data in files:
        picture, pixels = decoding.inspect(data)
        np.testing.assert_array_equal(np.asarray(pixels), expected(numbers, used))
        assert ("unused_bits" in picture.oddities) == (used < 16)
        served = preprocessing.decode(tf.constant(decoding.servable(data)))  # what training and the exported model see
        np.testing.assert_array_equal(served.numpy(), expected(numbers, used))


@pytest.mark.parametrize("used", [10, 16])
def test_where_0_is_white_it_is_white(used: int) -> None:
    numbers = values(used, 1)
    data = tiff(numbers, white=0)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode in bit_depth.GREY and np.array_equal(
            np.asarray(image), numbers[..., 0]
        )  # Pillow's, as it is
    np.testing.assert_array_equal(np.asarray(decoding.inspect(data)[1]), 255 - expected(numbers, used))
    kept = np.asarray(decoding.inspect(data, stretch=False)[1])
    np.testing.assert_array_equal(kept, 255 - expected(numbers, 16))
    with pytest.raises(integrity.Unusable):  # of the other order of bytes Pillow knows nothing
        decoding.inspect(tiff(numbers, ">", white=0))


@pytest.mark.parametrize(
    ("largest", "used"),
    [(0, 16), (1, 8), (255, 8), (256, 10), (1023, 10), (1024, 12), (4095, 12), (4096, 14), (16383, 14), (16384, 16)],
)
def test_the_largest_number_tells_how_many_bits_are_in_use(largest: int, used: int) -> None:
    numbers = np.zeros((HEIGHT, WIDTH, 3), np.uint16)
    numbers[2, 3, 1] = largest
    for data in (png(numbers), png(numbers[..., 1:2])):
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert bit_depth.in_use(image, data) == used


def test_who_keeps_them_takes_the_upper_8_of_all_and_is_told() -> None:
    numbers = values(12, 3)
    picture, pixels = decoding.inspect(png(numbers), stretch=False)
    np.testing.assert_array_equal(np.asarray(pixels), numbers >> 8)
    assert picture.oddities.keys() == {"deep", "unused_bits"}
    served = decoding.servable(png(numbers), stretch=False)
    assert served == png(numbers)
    np.testing.assert_array_equal(preprocessing.decode(tf.constant(served)).numpy(), numbers >> 8)


def test_alpha_has_a_range_of_its_own() -> None:
    numbers = values(12, 4)
    numbers[..., 3] = 1023
    np.testing.assert_array_equal(np.asarray(decoding.inspect(png(numbers))[1]), numbers[..., :3] >> 4)


def test_16_bits_in_a_form_that_cannot_be_stretched_are_refused_and_not_guessed() -> None:
    for used in (12, 16):  # of these Pillow makes noise
        with pytest.raises(integrity.Unusable, match="in planes"):
            decoding.inspect(tiff(values(used, 3), planes=True))
    with pytest.raises(integrity.Unusable, match="a transparent colour"):
        decoding.inspect(png(values(12, 3), (b"tRNS", bytes(6))))


def test_files_as_other_programs_write_them(tmp_path: Path) -> None:
    numbers = values(12, 1)[..., 0]
    for number, options in enumerate(({}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"})):
        path = tmp_path / f"{number}.tif"
        Image.fromarray(numbers).save(path, **options)
        np.testing.assert_array_equal(np.asarray(decoding.inspect(path.read_bytes())[1])[..., 0], numbers >> 4)


@pytest.mark.parametrize(
    ("used", "deep", "policy", "said"),
    [
        ({"12": 5}, 5, "stretch", False),
        ({"12": 5}, 6, "stretch", True),
        ({"12": 5, "10": 1}, 6, "stretch", True),
        ({"12": 5}, 6, "keep", False),
        ({"12": 5}, 6, "fail", False),
    ],
)
def test_a_camera_with_dark_images_is_warned_of(used: dict[str, int], deep: int, policy: str, said: bool) -> None:
    assert ("brighter" in bit_depth.told(used, deep, policy)) == said
