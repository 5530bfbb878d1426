"""The gradient of depthwise convolutions by their weights, on processors.

TensorFlow has a fast kernel for it where the filters are 3 × 3, and a slow one for all others: at 64 pixels it takes a
third of a training step of EfficientNet, half of whose blocks are 5 × 5. But such a gradient is itself a depthwise
convolution: of the inputs, each image's channels taken for channels of their own, with the gradient by the outputs as
the filters. The kernel of the forward pass is fast at that as long as these filters, as large as the map, are small.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from thaw.runtime import devices, precision
from thaw.runtime.framework import keras, tf

FAST = 3  # the size of filters that TensorFlow has a fast kernel for
LARGEST_MAP = 14  # pixels a side; on larger ones TensorFlow's slow kernel is as fast
ONCE = [1, 1, 1, 1]  # strides


@contextmanager
def gradients(model: keras.Model) -> Iterator[None]:
    """Compute the gradients of the model's depthwise convolutions so inside; what they answer stays the same.

    Nothing changes on a GPU, nor where there are strides, dilation or several filters a channel.
    """
    slow = [] if devices.on_gpu() else [layer for layer in precision.layers(model) if _is_slow(layer)]
    try:
        for layer in slow:
            layer.call = _call(layer)
        yield
    finally:
        for layer in slow:
            del layer.call


def _is_slow(layer: keras.layers.Layer) -> bool:
    return (
        type(layer) is keras.layers.DepthwiseConv2D
        and layer.data_format == "channels_last"
        and {*layer.strides, *layer.dilation_rate, layer.depth_multiplier} == {1}
        and max(layer.kernel_size) > FAST
        and layer.kernel.trainable
    )


def _call(layer: keras.layers.Layer) -> Callable[[Any], Any]:
    def call(inputs: Any) -> Any:
        outputs = convolved(inputs, tf.convert_to_tensor(layer.kernel), layer.padding.upper())
        outputs = outputs + tf.convert_to_tensor(layer.bias) if layer.use_bias else outputs
        return outputs if layer.activation is None else layer.activation(outputs)

    return call


def convolved(inputs: Any, kernel: Any, padding: str) -> Any:
    """Return a depthwise convolution, whose gradient by the weights is ``by_weights`` on small maps.

    Args:
        inputs: (images, height, width, channels) float32.
        kernel: (rows, columns, channels, 1) float32.
        padding: ``SAME`` or ``VALID``.
    """

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def convolution(inputs: Any, kernel: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
        def gradient(above: Any) -> tuple[Any, Any]:
            below = tf.nn.depthwise_conv2d_backprop_input(tf.shape(inputs), kernel, above, ONCE, padding)
            if all(side is not None and side <= LARGEST_MAP for side in inputs.shape[1:3]):
                return below, by_weights(inputs, above, kernel.shape, padding)
            return below, tf.nn.depthwise_conv2d_backprop_filter(inputs, kernel.shape, above, ONCE, padding)

        return tf.nn.depthwise_conv2d(inputs, kernel, ONCE, padding), gradient

    return convolution(inputs, kernel)


def by_weights(inputs: Any, above: Any, shape: Any, padding: str) -> Any:
    """Return the gradient of a depthwise convolution by its weights, of their shape.

    Args:
        inputs: (images, height, width, channels) float32.
        above: the gradient by the outputs, (images, height or less, width or less, channels).
        shape: of the weights, (rows, columns, channels, 1).
        padding: ``SAME`` or ``VALID``.
    """
    rows, columns, channels, _ = shape
    images, (height, width) = tf.shape(inputs)[0], above.shape[1:3]
    around = [[(size - 1) // 2, size // 2] if padding == "SAME" else [0, 0] for size in (rows, columns)]
    inputs = tf.pad(tf.transpose(inputs, [1, 2, 0, 3]), [*around, [0, 0], [0, 0]])
    wide = tf.reshape(inputs, [1, *inputs.shape[:2], images * channels])
    filters = tf.reshape(tf.transpose(above, [1, 2, 0, 3]), [height, width, images * channels, 1])
    each = tf.reshape(tf.nn.depthwise_conv2d(wide, filters, ONCE, "VALID"), [rows, columns, images, channels])
    return tf.reduce_sum(each, axis=2)[..., tf.newaxis]
