"""The resize of the deployed graph, as two matrix products: of plain operations, which every format has.

Keras's antialiased ``Resizing`` becomes an operation that neither ONNX nor LiteRT knows. A separable resize is a
matrix for the rows and one for the columns, whose weights follow from the input's shape. They are computed here as
TensorFlow's kernels compute them, so that all settings of ``image`` give the pixels of
``thaw.images.preprocessing.resizer`` within a thousandth of a grey level.
"""

from thaw.config import schema
from thaw.runtime.framework import tf

# TensorFlow reads the cubic filter without antialiasing from a table with so many places between two pixels.
TABLE = 1024.0


def fitted(images: tf.Tensor, image: schema.Image) -> tf.Tensor:
    """Fit images to the input square.

    Args:
        images: (batch, height, width, 3) uint8, of any size.

    Returns:
        (batch, size, size, 3) float32 in [0, 255].
    """
    shape = tf.shape(images)
    batch = images.shape[0] or shape[0]
    height, width = shape[1], shape[2]
    short, spare = tf.minimum(height, width), tf.abs(height - width) // 2
    above = beside = tf.constant(0)  # border that is added on either side
    if image.fit == "crop":
        images = tf.slice(images, (0, (height - short) // 2, (width - short) // 2, 0), (-1, short, short, -1))
        height = width = short
    if image.fit == "pad":
        above, beside = tf.where(height < width, spare, 0), tf.where(width < height, spare, 0)
    rows, columns = _weights(height, above, image), _weights(width, beside, image)
    # One product for the rows of all channels and pictures, and one for the columns.
    lines = tf.reshape(tf.cast(images, tf.float32), (batch, height, width * 3))
    lines = tf.reshape(tf.matmul(rows[None], lines), (batch * image.size, width, 3))
    pixels = tf.reshape(tf.matmul(columns[None], lines), (batch, image.size, image.size, 3))
    return tf.clip_by_value(pixels, 0.0, 255.0)  # a bicubic filter overshoots at edges


def _weights(side: tf.Tensor, border: tf.Tensor, image: schema.Image) -> tf.Tensor:
    """Return what each new pixel takes of each old one along an axis: (size, side) float32.

    Args:
        side: () int32, old pixels.
        border: () int32, black pixels before and behind them, which take their share.
    """
    whole = side + 2 * border
    # No constant: optimisers would multiply by one part in so many, which is rounded. There is no side below 0.
    size = tf.cast(image.size + tf.minimum(whole, 0), tf.float32)
    scale = tf.cast(whole, tf.float32) / size
    if image.antialias and image.interpolation != "nearest":
        scale = 1.0 / (size / tf.cast(whole, tf.float32))  # rounded twice, as TensorFlow's kernel does it
    centres = ((tf.range(image.size, dtype=tf.float32) + 0.5) * scale)[:, None]  # in old pixels
    places = tf.cast(tf.range(whole), tf.float32)[None, :]
    if image.interpolation == "nearest":
        taken = tf.minimum(tf.floor(centres), tf.cast(whole - 1, tf.float32))
        weights = tf.cast(tf.equal(places, taken), tf.float32)
    else:
        if image.interpolation == "bicubic" and not image.antialias:
            centres = _on_table(centres - 0.5) + 0.5
        distances = tf.abs(places + 0.5 - centres)
        if image.antialias:
            distances /= tf.maximum(scale, 1.0)  # how far the filter reaches, to pass no detail that is lost
        weights = tf.maximum(1.0 - distances, 0.0) if image.interpolation == "bilinear" else _cubic(distances)
        weights /= tf.reduce_sum(weights, axis=1, keepdims=True)
    return tf.slice(weights, (0, border), (-1, side)) if image.fit == "pad" else weights


def _on_table(places: tf.Tensor) -> tf.Tensor:
    before = tf.floor(places)
    return before + tf.round((places - before) * TABLE) / TABLE


def _cubic(distances: tf.Tensor) -> tf.Tensor:
    """Return the cubic kernel of Keys (1981), doi:10.1109/TASSP.1981.1163711, with a = -1/2."""
    near = (1.5 * distances - 2.5) * distances * distances + 1.0
    far = ((-0.5 * distances + 2.5) * distances - 4.0) * distances + 2.0
    return tf.where(distances < 1.0, near, tf.where(distances < 2.0, far, 0.0))
