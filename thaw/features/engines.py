"""The engine that runs the frozen layers: the fastest one at hand whose output is that of Keras.

On a CPU, ONNX Runtime runs a MobileNet-like network about twice as fast as a ``tf.function``; TensorFlow with the
weights folded to constants lies between the two. On a GPU, TensorFlow computes in float16 and keeps its weights in
float32. An engine is compared with Keras on a batch before it is trusted.
"""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from thaw import console
from thaw.runtime import threads
from thaw.runtime.framework import keras, tf

# (batch, size, size, 3) float32 in [0, 255] → one array an output, (batch, ...) float32
Engine = Callable[[np.ndarray], list[np.ndarray]]

# Of the largest activation. Engines add in different orders; fp16, in which activations are kept, rounds to 5e-4.
TOLERANCE = 1e-3
# Parameters up to which a network is converted unasked. Converting takes about 180 bytes of memory for each: 4 GB were
# measured for the 24 million of ResNet50, and more than 13 GB for the 54 million of InceptionResNetV2.
LARGEST_CONVERTED = 30_000_000
# The same where each layer rounds to float16.
MIXED_TOLERANCE = 2e-2


@functools.lru_cache
def settled(extractor: str, parameters: int) -> str:
    """``compute.extractor`` for a backbone of so many parameters: ``auto`` is TensorFlow where it is too large."""
    if extractor != "auto" or on_gpu() or parameters <= LARGEST_CONVERTED:
        return extractor
    console.warn(
        f"ONNX Runtime would need about {180e-9 * parameters:.0f} GB of memory to take this backbone; "
        "TensorFlow runs it, at about half the speed; compute.extractor=onnxruntime insists"
    )
    return "tensorflow"


def planned(extractor: str) -> str:
    """The engine that is tried first: its name stands for its numbers."""
    return "tensorflow" if extractor == "tensorflow" or (extractor == "auto" and on_gpu()) else "onnxruntime"


def engine(frozen: keras.Model, extractor: str) -> tuple[Engine, str]:
    """The function that computes ``frozen`` and the engine's name.

    Args:
        frozen: a model from images to one or more outputs.
        extractor: auto, onnxruntime or tensorflow. ``auto`` is TensorFlow on a GPU; on a CPU it is ONNX Runtime, and
            TensorFlow if that can't run the network.

    Raises:
        ValueError: onnxruntime was asked for by name and can't be used.
    """
    if planned(extractor) == "tensorflow":
        return _on_tensorflow(frozen)
    try:
        run = _onnxruntime(frozen)
        _compare(run, frozen, TOLERANCE)
    except Exception as error:  # whatever a converter may raise; it is reported, and raised if the user asked for it
        if extractor == "onnxruntime":
            raise ValueError(
                f"compute.extractor: onnxruntime can't run this backbone ({_why(error)}); use auto"
            ) from error
        console.warn(
            f"ONNX Runtime can't run this backbone ({_why(error)}); TensorFlow does it, at about half the speed"
        )
        return _on_tensorflow(frozen)
    return run, "onnxruntime"


def on_gpu() -> bool:
    """Whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def _on_tensorflow(frozen: keras.Model) -> tuple[Engine, str]:
    if on_gpu():
        try:
            run = _tensorflow(mixed(frozen, "mixed_float16"))
            _compare(run, frozen, MIXED_TOLERANCE)
        except (ValueError, TypeError, tf.errors.OpError) as error:
            console.warn(f"float16 does not do for this backbone ({_why(error)}); it runs in float32, at less speed")
        else:
            return _unless_too_large(run, frozen), "tensorflow, float16"
    return _tensorflow(frozen), "tensorflow"


def _unless_too_large(fast: Engine, frozen: keras.Model) -> Engine:
    """The engine in float16 until an image brings a number that this cannot hold; from then on float32."""
    exact: list[Engine] = []

    def run(images: np.ndarray) -> list[np.ndarray]:
        outputs = fast(images) if not exact else exact[0](images)
        if exact or all(np.isfinite(output).all() for output in outputs):
            return outputs
        console.warn("an activation is too large for float16; the backbone goes on in float32, at less speed")
        exact.append(_tensorflow(frozen))
        return exact[0](images)

    return run


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def mixed(frozen: keras.Model, policy: str) -> keras.Model:
    """The same layers and weights, computing in another precision.

    Args:
        policy: one of Keras's mixed policies. Layers that only bring pixels into range stay float32.
    """

    def in_policy(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if layer.weights or not isinstance(layer, keras.layers.Rescaling):
            config["dtype"] = keras.DTypePolicy(policy)
        return layer.__class__.from_config(config)

    copy = keras.models.clone_model(frozen, clone_function=in_policy)
    copy.set_weights(frozen.get_weights())
    return copy


def _function(frozen: keras.Model) -> tuple[Callable[..., list[tf.Tensor]], tf.TensorSpec]:
    spec = tf.TensorSpec((None, *frozen.input_shape[1:]), tf.float32, name="images")

    def run(images: tf.Tensor) -> list[tf.Tensor]:
        return [tf.cast(output, tf.float32) for output in tf.nest.flatten(frozen(images, training=False))]

    return run, spec


def _tensorflow(frozen: keras.Model) -> Engine:
    from tensorflow.python.framework.convert_to_constants import (  # noqa: PLC0415 -- has no public name
        convert_variables_to_constants_v2,
    )

    run, spec = _function(frozen)
    concrete = tf.function(run, input_signature=[spec]).get_concrete_function()
    folded = convert_variables_to_constants_v2(concrete)
    return lambda images: [output.numpy() for output in folded(tf.constant(images))]


def _onnxruntime(frozen: keras.Model) -> Engine:
    import onnxruntime  # noqa: PLC0415 -- loaded only where it runs
    import tf2onnx  # noqa: PLC0415

    function, spec = _function(frozen)
    graph, _ = tf2onnx.convert.from_function(tf.function(function, input_signature=[spec]), [spec], opset=17)
    options = onnxruntime.SessionOptions()
    # Each core takes a part of the batch. Cores that share each layer wait for one another, most of all when another
    # process takes a little of one of them.
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (name,) = (value.name for value in session.get_inputs())
    workers = threads.used()
    pool = ThreadPoolExecutor(workers, "onnxruntime")

    def run(images: np.ndarray) -> list[np.ndarray]:
        parts = np.array_split(images, min(workers, len(images)))
        answers = pool.map(lambda part: session.run(None, {name: part}), parts)
        return [np.concatenate(outputs) for outputs in zip(*answers, strict=True)]

    return run


def _compare(run: Engine, frozen: keras.Model, tolerance: float) -> None:
    images = np.random.default_rng(0).uniform(0, 255, (2, *frozen.input_shape[1:])).astype(np.float32)
    expected = [np.asarray(output) for output in tf.nest.flatten(frozen(images, training=False))]
    for ours, theirs in zip(run(images), expected, strict=True):
        off = float(np.max(np.abs(ours - theirs), initial=0)) / max(float(np.max(np.abs(theirs), initial=0)), 1e-6)
        if not off <= tolerance:
            raise ValueError(f"its output is off by {off:.1e} of the largest activation, {tolerance:.0e} is allowed")
