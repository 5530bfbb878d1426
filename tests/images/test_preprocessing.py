import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from thaw.config import schema
from thaw.config.images import FITS, INTERPOLATIONS
from thaw.images import decoding, integrity, preprocessing
from thaw.images.integrity import Unusable
from thaw.runtime.framework import tf

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (16, 24, 3), dtype=np.uint8)  # no two sides alike
decode = tf.function(preprocessing.decode, input_signature=[tf.TensorSpec((), tf.string)])
orientation = tf.function(preprocessing.orientation, input_signature=[tf.TensorSpec((), tf.string)])


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def segment(marker: int, payload: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(payload) + 2) + payload


def exif(order: str, turned: int, before: int = 0, offset: int = 8, kind: str = "H", count: int = 1) -> bytes:
    """An APP1 segment by the book (TIFF 6.0): header, ``before`` other tags, then the orientation.

    Args:
        kind: how the orientation is written: B for BYTE, H for SHORT, I for LONG.
    """
    end = {"II": "<", "MM": ">"}[order]
    entries = [struct.pack(end + "HHI4s", 256 + number, 3, 1, b"\6\0\6\0") for number in range(before)]
    value = struct.pack(end + kind, turned).ljust(4, b"\0")
    entries.append(struct.pack(end + "HHI4s", 274, {"B": 1, "H": 3, "I": 4}[kind], count, value))
    directory = struct.pack(end + "H", len(entries)) + b"".join(entries) + bytes(4)
    header = order.encode() + struct.pack(end + "HI", 42, offset) + bytes(offset - 8)
    return segment(0xE1, b"Exif\0\0" + header + directory)


TWICE = struct.pack("<HHIHHHHIHH", 274, 3, 1, 3, 0, 274, 3, 1, 6, 0)  # the tag, as 3 and as 6


def jpeg(*segments: bytes) -> bytes:
    """A JPEG whose first segments are these."""
    plain = encoded(Image.fromarray(PIXELS), "JPEG", quality=95)
    return plain[:2] + b"".join(segments) + plain[2:]


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("turned", range(1, 9))
def test_a_jpeg_is_turned_as_its_exif_says(order: str, turned: int) -> None:
    data = jpeg(exif(order, turned))
    assert orientation(data) == turned
    pixels = decode(data).numpy()
    assert pixels.dtype == np.uint8
    assert pixels.shape == ((16, 24, 3) if turned < 5 else (24, 16, 3))
    np.testing.assert_array_equal(pixels, by_pillow(data))


@pytest.mark.parametrize(
    "segments",
    [
        (segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"), exif("II", 6)),
        (segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"), exif("MM", 6)),
        (segment(0xE2, bytes(65533)), exif("MM", 6)),
        (exif("MM", 6, before=7),),
        (exif("II", 6, before=3, offset=300),),
        (exif("II", 6), exif("II", 3)),
        (exif("II", 6, kind="I"),),
        (exif("MM", 6, kind="I"),),
        (b"\xff", segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"), b"\xff\xff\xff", exif("MM", 6)),
    ],
    ids=[
        "after JFIF",
        "after XMP",
        "after a long profile",
        "eighth tag",
        "directory elsewhere",
        "two, the first counts",
        "LONG, little",
        "LONG, big",
        "fill bytes",
    ],
)
def test_the_orientation_is_found_wherever_it_may_stand(segments: tuple[bytes, ...]) -> None:
    data = jpeg(*segments)
    assert orientation(data) == 6
    np.testing.assert_array_equal(decode(data).numpy(), by_pillow(data))


@pytest.mark.parametrize("turned", [0, 9, 65535])
def test_an_orientation_that_makes_no_sense_counts_as_none(turned: int) -> None:
    np.testing.assert_array_equal(decode(jpeg(exif("II", turned))).numpy(), by_pillow(jpeg()))


RARE = {
    "BYTE": (exif("II", 6, kind="B"),),
    "a value too large for a SHORT": (exif("MM", 6 << 16 | 6, kind="I"),),
    "two values": (exif("II", 6, count=2),),
    "behind 180 KB of a profile": (*[segment(0xE2, b"ICC_PROFILE\0\1\3" + bytes(60000))] * 3, exif("MM", 6)),
    "after bytes of no segment": (segment(0xFE, b"x"), bytes(7), exif("II", 6)),
    "in two parts": (exif("II", 1, before=1)[:-30], exif("II", 6)),
    "twice in a directory": (segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + TWICE + bytes(4)),),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("name", RARE)
def test_an_orientation_in_a_rare_form_is_the_same_to_both_or_the_file_is_converted(name: str) -> None:
    data = jpeg(*RARE[name])
    _, pixels = decoding.inspect(data)
    np.testing.assert_array_equal(decode(decoding.servable(data)).numpy(), np.asarray(pixels))


@pytest.mark.filterwarnings("ignore")  # Pillow says of some that their EXIF is corrupt
def test_whatever_bytes_stand_before_the_picture_files_with_another_orientation_are_converted() -> None:
    random = np.random.default_rng(3)
    good = [exif(order, 6, before=2, kind=kind) for order in ("II", "MM") for kind in "BHI"]
    good += [
        b"\xff\xff" + good[0] + good[1],
        segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0") + good[5],
        *RARE["in two parts"],
    ]
    seen, decoded = set(), 0
    for number in range(600):
        changed = bytearray(good[number % len(good)])
        for place in random.integers(2, len(changed), random.integers(0, 4)):
            changed[place] = random.choice([0, 1, 2, 3, 4, 6, 8, 18, 255, int(random.integers(256))])
        data = jpeg(bytes(changed))
        found = int(orientation(data))
        assert integrity.orientation(data) == found, data[:120]
        try:
            picture, pixels = decoding.inspect(data)
        except Unusable:
            continue
        seen.add((found, "converted" in picture.oddities))
        if number % 10 == 0:
            decoded += 1
            np.testing.assert_array_equal(decode(decoding.servable(data)).numpy(), np.asarray(pixels))
    assert {(1, False), (6, False), (1, True), (6, True)} <= seen
    assert decoded > 30


def test_no_exif_means_as_it_is() -> None:
    assert orientation(jpeg()) == 1
    np.testing.assert_array_equal(decode(jpeg()).numpy(), by_pillow(jpeg()))


def test_the_orientation_of_the_thumbnail_is_not_taken() -> None:
    # The thumbnail's own directory follows the picture's.
    thumbnail = exif("II", 6)[18:]
    payload = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HI", 0, 14) + thumbnail
    assert orientation(jpeg(segment(0xE1, payload))) == 1


def test_broken_exif_never_stops_the_decoding_of_a_picture() -> None:
    random = np.random.default_rng(1)
    whole, expected = exif("MM", 6)[4:], by_pillow(jpeg())
    for length in range(len(whole) + 1):
        pixels = decode(jpeg(segment(0xE1, whole[:length]))).numpy()
        assert pixels.shape in ((16, 24, 3), (24, 16, 3))
    for _ in range(200):
        payload = bytearray(whole + random.bytes(20))
        for place in random.integers(6, len(payload), random.integers(1, 8)):
            payload[place] = random.integers(256)
        pixels = decode(jpeg(segment(0xE1, bytes(payload)))).numpy()
        np.testing.assert_array_equal(np.sort(pixels, axis=None), np.sort(expected, axis=None))


def test_the_orientation_of_any_bytes_is_one_of_eight() -> None:
    random = np.random.default_rng(2)
    good = jpeg(exif("II", 6))
    wrong = [good[:length] for length in range(3, 60)]
    wrong += [b"\xff\xd8\xff" + random.bytes(size) for size in random.integers(0, 300, 200)]
    # markers everywhere, so that the walk through the segments goes on
    wrong += [b"\xff\xd8" + random.choice([b"\xff", b"\xe1", b"\0", b"Exif\0\0"], 80).tobytes() for _ in range(50)]
    wrong += [b"\xff\xd8" + b"\xff\xe1\0\0" * 5000]
    for data in wrong:
        assert 1 <= orientation(data) <= 8


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("RGB", "PNG", {}),
        ("L", "PNG", {}),
        ("1", "PNG", {}),
        ("P", "PNG", {}),
        ("P", "GIF", {}),
        ("L", "GIF", {}),
        ("RGB", "BMP", {}),
        ("RGB", "WEBP", {"lossless": True}),
        ("RGB", "WEBP", {"quality": 80}),
        ("RGB", "JPEG", {"quality": 75}),
        ("RGB", "JPEG", {"quality": 90, "subsampling": 0}),
        ("RGB", "JPEG", {"progressive": True}),
        ("L", "JPEG", {}),
        ("CMYK", "JPEG", {}),
    ],
)
def test_a_file_is_decoded_as_pillow_decodes_it(mode: str, kind: str, options: dict[str, Any]) -> None:
    data = encoded(Image.fromarray(PIXELS).convert(mode), kind, **options)
    pixels = decode(data).numpy()
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, by_pillow(data))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_transparent_png_is_put_on_white(mode: str) -> None:
    image = Image.fromarray(RANDOM.integers(0, 256, (16, 24, 4), dtype=np.uint8)).convert(mode)
    values = np.asarray(image).astype(float)  # (16, 24, channels), the last of them alpha
    share = values[..., -1:] / 255
    mixed = np.rint(values[..., :-1] * share + 255 * (1 - share))
    np.testing.assert_array_equal(decode(encoded(image, "PNG")).numpy(), np.broadcast_to(mixed, (16, 24, 3)))


def test_sixteen_bits_become_eight() -> None:
    deep = RANDOM.integers(0, 65536, (16, 24), dtype=np.uint16)
    pixels = decode(encoded(Image.fromarray(deep), "PNG")).numpy()
    np.testing.assert_array_equal(pixels, np.repeat((deep >> 8)[..., None], 3, axis=2))


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [Image.fromarray(frame).convert("P") for frame in (PIXELS, 255 - PIXELS)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode(data).numpy(), np.asarray(frames[0].convert("RGB")))


def _resized(pixels: np.ndarray, size: int, interpolation: str) -> np.ndarray:
    """By Pillow, which always filters before it makes smaller, in float."""
    kind = Image.Resampling[interpolation.upper()]
    channels = [np.asarray(Image.fromarray(one).resize((size, size), kind)) for one in np.moveaxis(pixels, -1, 0)]
    return np.stack(channels, axis=-1).clip(0, 255)


def _square(pixels: np.ndarray, fit: str) -> np.ndarray:
    height, width = pixels.shape[:2]
    small, large = min(height, width), max(height, width)
    if fit == "crop":
        top, left = (height - small) // 2, (width - small) // 2
        return pixels[top : top + small, left : left + small]
    if fit == "pad":
        canvas = np.zeros((large, large, 3), pixels.dtype)
        top, left = (large - height) // 2, (large - width) // 2
        canvas[top : top + height, left : left + width] = pixels
        return canvas
    return pixels


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("shape", [(90, 60), (20, 34), (62, 62)], ids=["smaller", "larger", "square"])
def test_an_image_is_fitted_as_pillow_fits_it(fit: str, interpolation: str, shape: tuple[int, int]) -> None:
    # Smooth, so that no value leaves the range on the way; that is another test's subject.
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    waves = [128 + 90 * np.sin(rows / a + columns / b) for a, b in ((5, 9), (11, 4), (7, 7))]
    pixels = np.stack(waves, axis=-1).astype(np.float32)
    resize = preprocessing.resizer(schema.Image(48, fit, interpolation, antialias=True))
    expected = _resized(_square(pixels, fit), 48, interpolation)
    np.testing.assert_allclose(np.clip(resize(pixels), 0, 255), expected, atol=2e-2)


def test_without_antialias_each_pixel_is_a_mean_of_its_four_neighbours() -> None:
    pixels = RANDOM.uniform(0, 255, (90, 60, 3)).astype(np.float32)
    rows, columns = (np.arange(48) + 0.5) * 90 / 48 - 0.5, (np.arange(48) + 0.5) * 60 / 48 - 0.5
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down, right = (rows - top)[:, None, None], (columns - left)[None, :, None]
    bottom, far = np.minimum(top + 1, 89), np.minimum(left + 1, 59)
    upper = pixels[top][:, left] * (1 - right) + pixels[top][:, far] * right
    lower = pixels[bottom][:, left] * (1 - right) + pixels[bottom][:, far] * right
    resize = preprocessing.resizer(schema.Image(48, "squash", "bilinear", antialias=False))
    np.testing.assert_allclose(resize(pixels), upper * (1 - down) + lower * down, atol=1e-2)


def test_a_batch_of_uint8_is_fitted_like_single_float_images() -> None:
    batch = RANDOM.integers(0, 256, (3, 20, 34, 3), dtype=np.uint8)
    for fit in FITS:
        resize = preprocessing.resizer(schema.Image(48, fit, "bilinear", antialias=True))
        together = np.asarray(resize(batch))
        assert together.dtype == np.float32
        for one, alone in zip(together, batch, strict=True):
            np.testing.assert_array_equal(one, resize(alone.astype(np.float32)))


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("antialias", [True, False])
def test_a_file_of_any_size_becomes_a_square_of_pixels_from_0_to_255(
    fit: str, interpolation: str, antialias: bool
) -> None:
    load = preprocessing.load(schema.Image(48, fit, interpolation, antialias))
    graph = tf.function(load, input_signature=[tf.TensorSpec((), tf.string)])
    assert graph.get_concrete_function().output_shapes == (48, 48, 3)
    for shape in ((100, 60), (20, 33), (1, 150), (150, 1), (1, 1), (47, 49), (48, 48)):
        # Black and white, where a filter that overshoots shows it.
        extreme = np.random.default_rng(3).choice([0, 255], (*shape, 3)).astype(np.uint8)
        data = encoded(Image.fromarray(extreme), "PNG")
        pixels = graph(data).numpy()
        assert pixels.shape == (48, 48, 3)
        assert pixels.dtype == np.float32
        assert pixels.min() >= 0
        assert pixels.max() <= 255
        np.testing.assert_array_equal(pixels, load(tf.constant(data)))
    np.testing.assert_array_equal(pixels, extreme)  # the last one needed no fitting


def test_a_turned_photo_is_fitted_upright() -> None:
    load = preprocessing.load(schema.Image(48, "pad", "bilinear", antialias=True))
    upright = encoded(Image.fromarray(by_pillow(jpeg(exif("II", 6)))), "PNG")
    np.testing.assert_array_equal(load(tf.constant(jpeg(exif("II", 6)))), load(tf.constant(upright)))


def photograph(width: int, height: int, **options: Any) -> bytes:
    """A JPEG with coarse shapes, fine stripes and grain."""
    random = np.random.default_rng([width, height])
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    coarse = Image.fromarray(random.integers(0, 256, (7, 9, 3), dtype=np.uint8)).resize((width, height), 3)
    stripes = 20 * np.sin(columns / 2.7 + rows / 6.1)[..., None]
    pixels = np.asarray(coarse) + stripes + random.normal(0, 6, (height, width, 3))
    return encoded(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), "JPEG", quality=90, **options)


@pytest.mark.parametrize(
    ("width", "height", "reduced"),
    [
        (190, 400, (190, 400)),
        (192, 400, (96, 200)),
        (400, 380, (200, 190)),
        (400, 384, (100, 96)),
        (1000, 1200, (125, 150)),
        (1001, 1200, (501, 600)),  # in eighths the picture would be drawn out by a third of a pixel of 48
        (401, 403, (401, 403)),
    ],
)
def test_a_large_jpeg_is_decoded_at_the_smallest_scale_that_leaves_twice_the_input(
    width: int, height: int, reduced: tuple[int, int]
) -> None:
    image = schema.Image(48, "squash", "bilinear", antialias=True)
    data = tf.constant(photograph(width, height))
    assert preprocessing.decode(data, image).shape == (*reversed(reduced), 3)
    assert preprocessing.decode(data).shape == (height, width, 3)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(400, 600), (1601, 1203), (1600, 1200)])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"exif": exif("II", 6)[4:]}], ids=["", "progressive", "turned"]
)
def test_decoding_at_reduced_scale_changes_hardly_a_pixel(
    fit: str, interpolation: str, size: tuple[int, int], options: dict[str, Any]
) -> None:
    image = schema.Image(96, fit, interpolation, antialias=True)
    data = tf.constant(photograph(*size, **options))
    assert preprocessing.decode(data, image).shape[0] < 0.6 * preprocessing.decode(data).shape[0]
    reduced = np.asarray(preprocessing.load(image)(data))
    off = np.abs(reduced - preprocessing.resizer(image)(preprocessing.decode(data)))
    # Grey levels of 255: half of one in the mean. Beside the borders that pad adds, where half a pixel's shift of the
    # border shows, no pixel is off by more than six.
    assert off.mean() < 0.5
    assert np.percentile(off, 95 if fit == "pad" else 100) < 6


@pytest.mark.parametrize(
    "image",
    [schema.Image(48, "squash", "nearest", antialias=True), schema.Image(48, "squash", "bilinear", antialias=False)],
    ids=["nearest", "no antialias"],
)
def test_what_takes_single_pixels_has_all_of_them(image: schema.Image) -> None:
    assert preprocessing.decode(tf.constant(photograph(400, 600)), image).shape == (600, 400, 3)


def test_other_formats_are_never_reduced() -> None:
    image = schema.Image(32, "squash", "bilinear", antialias=True)
    data = encoded(Image.fromarray(RANDOM.integers(0, 256, (300, 300, 3), dtype=np.uint8)), "PNG")
    assert preprocessing.decode(tf.constant(data), image).shape == (300, 300, 3)
