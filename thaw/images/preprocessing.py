"""Preprocessing in TensorFlow, from a file's bytes to the backbone's input: decode, turn upright, fit to the square.

Training, evaluation and serving all call these functions. What comes out is float32 RGB in [0, 255]; the range that a
backbone wants is its own first layer (``thaw.networks.pretrained``), so nobody can forget it or apply it twice.
"""

from collections.abc import Callable
from typing import Any

from thaw.config import schema
from thaw.images import jpeg_scale
from thaw.runtime.framework import keras, tf

# A JPEG's APP1 segment holds 64 KB at most, and it stands among the first segments, as tRNS among a PNG's chunks.
_SEARCHED_BYTES = 1 << 17
_EXIF, _TRANSPARENCY = b"Exif\0\0", b"tRNS"


def decode(encoded: tf.Tensor, image: schema.Image | None = None, turned: tf.Tensor | None = None) -> tf.Tensor:
    """Decode an image to upright pixels.

    Args:
        encoded: () string; JPEG, PNG, GIF (first frame), BMP or WebP.
        image: what the pixels are for. A JPEG much larger than that is decoded at 1/2, 1/4 or 1/8 of its size, which
            takes a fraction of the time and memory. None: all pixels.
        turned: () int32, the EXIF orientation where it is known, since to look for it takes as long as to decode a
            small JPEG. None: it is looked for.

    Returns:
        (height, width, 3) uint8 RGB. Of 16 bits the upper 8 count, a transparent PNG is put on white, grey is
        repeated, a JPEG's EXIF orientation is applied. So ``thaw.images.decoding`` makes them too, with Pillow; what
        it calls converted (TIFF, transparent GIF and WebP, and a few more) must come here as the PNG it makes.
    """

    def jpeg_at(ratio: int) -> Callable[[], tf.Tensor]:
        # The accurate inverse DCT is the one that Pillow and browsers use.
        return lambda: tf.io.decode_jpeg(encoded, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")

    def jpeg() -> tf.Tensor:
        if image is None or jpeg_scale.takes_all(image):
            return jpeg_at(1)()  # these take single pixels of the full picture
        sides = tf.cast(tf.io.extract_jpeg_shape(encoded)[:2], tf.float32)
        enough = jpeg_scale.REDUCING_GAP * image.size
        possible = [
            tf.reduce_all((sides >= ratio * enough) & (-sides % ratio * image.size <= jpeg_scale.DRIFT * sides))
            for ratio in jpeg_scale.RATIOS
        ]
        best = tf.reduce_max(tf.where(possible, tf.range(len(jpeg_scale.RATIOS)), 0))
        return tf.switch_case(best, [jpeg_at(ratio) for ratio in jpeg_scale.RATIOS])

    is_jpeg = tf.strings.substr(encoded, 0, 3) == b"\xff\xd8\xff"
    pixels = tf.cond(is_jpeg, jpeg, lambda: _other(encoded))
    pixels.set_shape((None, None, 3))
    if turned is None:
        turned = tf.cond(is_jpeg, lambda: orientation(encoded), lambda: 1)
    return tf.cond(turned == 1, lambda: pixels, lambda: _upright(pixels, turned))


def _decode_other(encoded: tf.Tensor) -> tf.Tensor:
    """Decode what is no JPEG: () string → (height, width, 3) uint8."""

    def png() -> tf.Tensor:
        pixels = tf.io.decode_png(encoded, channels=4)
        # Where a palette has no alpha, TensorFlow gives the largest number of as many bits as the palette's places
        # have: 15, of 255, for 16 colours.
        bits = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, 24, 1), tf.uint8)[0], tf.int32)
        opaque = tf.bitwise.left_shift(1, tf.minimum(bits, 8)) - 1
        made_up = tf.reduce_all(tf.cast(pixels[..., 3], tf.int32) == opaque) & ~has_transparency()
        return tf.cond(made_up, lambda: pixels[..., :3], lambda: on_white(pixels))

    def has_transparency() -> tf.Tensor:
        start = tf.io.decode_raw(tf.strings.substr(encoded, 0, _SEARCHED_BYTES), tf.uint8)
        return tf.reduce_any(_places(start, _TRANSPARENCY))

    def any_other() -> tf.Tensor:
        return tf.io.decode_image(encoded, channels=3, expand_animations=False)

    # Bits and colour type. Grey of fewer than 8 bits comes out right with three channels only.
    is_fine_png = tf.reduce_all(tf.strings.substr(encoded, 24, 2) != [b"\1\0", b"\2\0", b"\4\0"])
    return tf.cond((tf.strings.substr(encoded, 0, 4) == b"\x89PNG") & is_fine_png, png, any_other)


def on_white(pixels: tf.Tensor) -> tf.Tensor:
    """Lay transparent pixels on white.

    Args:
        pixels: (height, width, 4) uint8, RGB and alpha.

    Returns:
        (height, width, 3) uint8, rounded to the nearest.
    """
    colour, alpha = pixels[..., :3], pixels[..., 3:]

    def blend() -> tf.Tensor:
        wide, share = tf.cast(colour, tf.int32), tf.cast(alpha, tf.int32)
        return tf.cast((wide * share + 255 * (255 - share) + 127) // 255, tf.uint8)

    return tf.cond(tf.reduce_all(alpha == 255), lambda: colour, blend)


def orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Return the EXIF orientation of a JPEG (TIFF 6.0 tag 274, SHORT or LONG, in the first APP1 segment that is Exif).

    ``thaw.images.integrity.orientation`` takes the same steps, so that a file in which Pillow finds another is
    converted.

    Args:
        encoded: () string; bytes of a JPEG file.

    Returns:
        () int32, 1 to 8; 1 ("as it is") when there is none or it makes no sense.
    """
    start = tf.io.decode_raw(tf.strings.substr(encoded, 0, _SEARCHED_BYTES), tf.uint8)
    # Most files have no such segment. A look at all places at once says so sooner than a walk through the segments.
    found = tf.reduce_any(_places(start, _EXIF[:4]))
    return tf.cond(found, lambda: _orientation(tf.cast(start, tf.int32)), lambda: 1)


def _places(data: tf.Tensor, word: bytes) -> tf.Tensor:
    """Return where four bytes begin in others: (n,) uint8 → (n - 6,) bool, or shorter."""
    inside = tf.maximum(tf.size(data) - 6, 0)
    here = [data[place : place + inside] == byte for place, byte in enumerate(word)]
    return here[0] & here[1] & here[2] & here[3]


def _walk(data: tf.Tensor) -> tf.Tensor:
    """Walk from segment to segment; data: (bytes,) int32."""
    size = tf.size(data)

    def at(position: tf.Tensor) -> tf.Tensor:
        return tf.gather(data, tf.clip_by_value(position, 0, size - 1))

    def is_exif(position: tf.Tensor) -> tf.Tensor:
        name = at(position + 4 + tf.range(6))
        return (at(position + 1) == 0xE1) & tf.reduce_all(name == tf.constant(list(_EXIF), tf.int32))

    def more(position: tf.Tensor) -> tf.Tensor:
        marker = at(position + 1)
        in_header = (position + 10 < size) & (at(position) == 0xFF) & (marker != 0xDA) & (marker != 0xD9)
        return in_header & ~is_exif(position)

    def step(position: tf.Tensor) -> tf.Tensor:
        is_filling = at(position + 1) == 0xFF
        return (position + tf.where(is_filling, 1, 2 + at(position + 2) * 256 + at(position + 3)),)

    (segment,) = tf.while_loop(more, step, (tf.constant(2),))
    tiff = segment + 10
    little = at(tiff) == ord("I")

    def short(position: tf.Tensor) -> tf.Tensor:
        first, second = at(position), at(position + 1)
        return tf.where(little, first + second * 256, first * 256 + second)

    def directory() -> tf.Tensor:
        low, high = tf.where(little, 0, 2), tf.where(little, 2, 0)  # where the halves of four bytes are
        # The offset's upper half is 0 in any file that is right: the segment is smaller than 64 KB.
        offset = short(tiff + 4 + low)
        first = tiff + offset + 2
        entries = first + 12 * tf.range(tf.minimum(short(tiff + offset), 512))
        kind = short(entries + 2)
        is_one = (short(entries + 4 + low) == 1) & (short(entries + 4 + high) == 0)
        long = tf.where((kind == 4) & (short(entries + 8 + high) == 0), short(entries + 8 + low), 0)
        found = tf.where(is_one, tf.where(kind == 3, short(entries + 8), long), 0)
        values = tf.boolean_mask(found, (short(entries) == 274) & (entries + 12 <= size))
        value = tf.reduce_max(tf.concat([values[:1], [0]], axis=0))
        return tf.where((value >= 1) & (value <= 8), value, 1)

    return tf.cond(is_exif(segment) & (segment + 18 < size), directory, lambda: 1)


def upright(pixels: tf.Tensor, turned: tf.Tensor) -> tf.Tensor:
    """Undo an EXIF orientation.

    Args:
        pixels: (height, width, channels).
        turned: () int32, 1 to 8.
    """
    pixels = tf.cond(turned >= 5, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels)
    mirrored = tf.reduce_any(turned == [2, 3, 6, 7])
    flipped = tf.reduce_any(turned == [3, 4, 7, 8])
    pixels = tf.cond(mirrored, lambda: pixels[:, ::-1], lambda: pixels)
    return tf.cond(flipped, lambda: pixels[::-1], lambda: pixels)


def _apart(function: Any, *signature: tf.TensorSpec) -> Any:
    """Return the function as a graph of its own.

    The executor of a graph passes by each operation of a branch that is not taken, and most images are upright JPEGs:
    for these, all branches within one graph would take longer than to decode them.
    """
    attributes = {"_noinline": True}
    return tf.function(function, input_signature=signature, autograph=False, experimental_attributes=attributes)


_orientation = _apart(_walk, tf.TensorSpec((None,), tf.int32))
_other = _apart(_decode_other, tf.TensorSpec((), tf.string))
_upright = _apart(upright, tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((), tf.int32))


def resizer(image: schema.Image) -> Callable[[Any], Any]:
    """Return the layer that fits images to the input square, part of the exported model too.

    Returns:
        ([batch,] height, width, 3) of any size, uint8 or float → ([batch,] size, size, 3) float32 in [0, 255].
    """
    fit: dict[str, Any] = {
        "squash": {},
        "crop": {"crop_to_aspect_ratio": True},
        "pad": {"pad_to_aspect_ratio": True},
    }[image.fit]
    # Outside of a graph Keras's Resizing would round back to uint8 what came as uint8.
    as_float = keras.layers.Rescaling(1.0, dtype="float32", name="as_float")
    resize = keras.layers.Resizing(
        image.size, image.size, image.interpolation, antialias=image.antialias, dtype="float32", name="resize", **fit
    )
    # A bicubic filter overshoots at edges.
    in_range = keras.layers.ReLU(max_value=255.0, dtype="float32", name="in_range")
    return lambda pixels: in_range(resize(as_float(pixels)))


def framed(pixels: tf.Tensor, image: schema.Image) -> tf.Tensor:
    """Cut or pad a picture to the square that ``resizer`` fits: what is left is to stretch it.

    Args:
        pixels: (height, width, 3).
    """
    if image.fit == "squash":
        return pixels
    height, width = tf.unstack(tf.shape(pixels)[:2])
    short, spare = tf.minimum(height, width), tf.abs(height - width) // 2
    if image.fit == "crop":
        top, left = (height - short) // 2, (width - short) // 2
        return pixels[top : top + short, left : left + short]
    above, beside = tf.where(height < width, spare, 0), tf.where(width < height, spare, 0)
    return tf.pad(pixels, [[above, above], [beside, beside], [0, 0]])


def load(image: schema.Image) -> Any:
    """Return the whole preprocessing as one function of ``decode``'s encoded and turned, the latter if it is known.

    Returns:
        () string[, () int32] → (size, size, 3) float32 in [0, 255].
    """
    resize = resizer(image)

    def pixels(encoded: tf.Tensor, turned: tf.Tensor | None = None) -> tf.Tensor:
        return resize(decode(encoded, image, turned))

    return pixels
