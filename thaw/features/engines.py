"""The engine that runs the frozen layers: the fastest one at hand whose output is that of Keras.

On a CPU, ONNX Runtime runs a MobileNet-like network about twice as fast as a ``tf.function``; TensorFlow with the
weights folded to constants lies between the two. On a GPU, TensorFlow computes in float16, in bfloat16 where an
activation is too large for float16, and in float32 where neither does. An engine is compared with Keras on a batch
before it is trusted.
"""

import functools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from thaw import console
from thaw.features import conversion
from thaw.runtime import devices
from thaw.runtime.framework import keras, tf

# (batch, size, size, 3) float32 in [0, 255] → one array an output, (batch, ...) float32
Engine = Callable[[np.ndarray], list[np.ndarray]]

# Of the largest activation. Engines add in different orders; fp16, in which activations are kept, rounds to 5e-4.
TOLERANCE = 1e-3
# Parameters up to which a network is converted unasked. Converting takes up to 180 bytes of memory for each: a process
# had 4.5 GB with the 24 million of ResNet50, and 7.2 GB with the 54 million of InceptionResNetV2.
LARGEST_CONVERTED = 30_000_000
# The same where each layer rounds to float16, which keeps 11 bits, and to bfloat16, which keeps 8.
MIXED_TOLERANCE = 2e-2
BFLOAT_TOLERANCE = 1e-1


@functools.lru_cache
def settled(extractor: str, parameters: int) -> str:
    """Return ``compute.extractor`` for so many parameters: ``auto`` is TensorFlow where the backbone is too large."""
    if extractor != "auto" or on_gpu() or parameters <= LARGEST_CONVERTED:
        return extractor
    console.warn(
        f"ONNX Runtime would need about {180e-9 * parameters:.0f} GB of memory to take this backbone; "
        "TensorFlow runs it, at about half the speed; compute.extractor=onnxruntime insists"
    )
    return "tensorflow"


def planned(extractor: str) -> str:
    """Return the engine that is tried first: its name stands for its numbers."""
    return "tensorflow" if extractor == "tensorflow" or (extractor == "auto" and on_gpu()) else "onnxruntime"


def engine(frozen: keras.Model, extractor: str, kept: Path | None = None) -> tuple[Engine, str]:
    """Return the function that computes ``frozen`` and the engine's name.

    Args:
        frozen: a model from images to one or more outputs.
        extractor: auto, onnxruntime or tensorflow. ``auto`` is TensorFlow on a GPU; on a CPU it is ONNX Runtime, and
            TensorFlow if that can't run the network.
        kept: where the graph that ONNX Runtime takes is kept for later runs. None: nowhere.

    Raises:
        ValueError: onnxruntime was asked for by name and can't be used.
    """
    if planned(extractor) == "tensorflow":
        return _on_tensorflow(frozen)
    try:
        run = _onnxruntime(frozen, kept)
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
    """Return whether TensorFlow sees a GPU."""
    return devices.on_gpu()


def _on_tensorflow(frozen: keras.Model) -> tuple[Engine, str]:
    if not on_gpu():
        return _tensorflow(frozen), "tensorflow"
    layers = Widening(frozen)  # its name is that of the numbers that it begins with

    def run(images: np.ndarray) -> list[np.ndarray]:
        pixels = tf.constant(images)
        return layers.fetched(layers.launched(pixels), pixels)

    return run, layers.name


class Widening:
    """The frozen layers on a GPU, in the fastest numbers that do: float16, or bfloat16, or float32.

    An image whose activations float16 can't hold makes it bfloat16 from there on, which holds what float32 does. Where
    float16 holds all but is not near enough, bfloat16 is no nearer, and it is float32.

    Args:
        frozen: a model from images to one or more outputs.
        kept: the type of the outputs.
    """

    def __init__(self, frozen: keras.Model, kept: tf.DType = tf.float32):
        self.frozen, self.kept = frozen, kept
        self.policies = ["mixed_float16", "mixed_bfloat16", "float32"]
        self.name = self.numbers = self.why = ""
        self.run = self._next()
        if why := self.why:
            console.warn(f"float16 does not do for this backbone ({why}); it runs in {self.numbers}")

    def _next(self) -> Callable[[tf.Tensor], list[tf.Tensor]]:
        """Return the layers in the next numbers that do."""
        self.why = ""
        while True:
            policy = self.policies.pop(0)
            self.numbers = policy.removeprefix("mixed_")
            self.name = "tensorflow" if policy == "float32" else f"tensorflow, {self.numbers}"
            if policy == "float32":
                return self._folded(self.frozen)
            try:
                run = self._folded(mixed(self.frozen, policy))
                tolerance = MIXED_TOLERANCE if policy == "mixed_float16" else BFLOAT_TOLERANCE
                _compare(functools.partial(_without_flag, run), self.frozen, tolerance)
            except (ValueError, TypeError, tf.errors.OpError) as error:
                if devices.is_full(error):
                    raise
                self.why = self.why or _why(error)
                if not isinstance(error, _TooLargeError):
                    self.policies = ["float32"]
            else:
                return run

    def _folded(self, network: keras.Model) -> Callable[[tf.Tensor], list[tf.Tensor]]:
        """Return a network with its weights folded to constants: its outputs, and whether all of them are finite."""

        def run(images: tf.Tensor) -> list[tf.Tensor]:
            outputs = tf.nest.flatten(network(images, training=False))
            finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(output)) for output in outputs])
            return [*(tf.cast(output, self.kept) for output in outputs), finite]

        return _constant(run, tf.TensorSpec((None, *network.input_shape[1:]), tf.float32, name="images"))

    def launched(self, pixels: tf.Tensor) -> list[tf.Tensor]:
        """Start the layers on a batch: what ``fetched`` waits for. (batch, size, size, 3) float32."""
        return self.run(pixels)

    def fetched(self, launched: list[tf.Tensor], pixels: tf.Tensor) -> list[np.ndarray]:
        """Wait for the outputs of ``launched``, and compute them again where they were too large."""
        while not (launched[-1].numpy() or not self.policies):
            before = self.numbers
            self.run = self._next()
            console.warn(f"an activation is too large for {before}; the backbone goes on in {self.numbers}")
            launched = self.run(pixels)
        return [output.numpy() for output in launched[:-1]]


def _without_flag(run: Callable[[tf.Tensor], list[tf.Tensor]], images: np.ndarray) -> list[np.ndarray]:
    return [output.numpy() for output in run(tf.constant(images))[:-1]]


class _TooLargeError(ValueError):
    """The outputs are not finite, though they should be."""


def _why(error: Exception) -> str:
    name = "ValueError" if isinstance(error, ValueError) else type(error).__name__
    return f"{name}: {str(error).splitlines()[0] if str(error) else ''}"


def mixed(frozen: keras.Model, policy: str) -> keras.Model:
    """Return the same layers and weights, computing in another precision.

    Args:
        policy: one of Keras's mixed policies. Layers that only bring pixels into range stay float32.
    """

    def in_policy(operation: Any) -> Any:
        if isinstance(operation, keras.Model):
            return mixed(operation, policy)
        config = operation.get_config()
        # An operation that is no layer, as the sum of two tensors, has no weights, and computes in what it is given.
        if isinstance(operation, keras.layers.Layer) and not isinstance(operation, keras.layers.Rescaling):
            config["dtype"] = keras.DTypePolicy(policy)
        return operation.__class__.from_config(config)

    copy = keras.models.clone_model(frozen, clone_function=in_policy)
    copy.set_weights(frozen.get_weights())
    return copy


def _tensorflow(frozen: keras.Model) -> Engine:
    folded = _constant(*conversion.function(frozen))
    return lambda images: [output.numpy() for output in folded(tf.constant(images))]


def _constant(run: Callable[[tf.Tensor], list[tf.Tensor]], spec: tf.TensorSpec) -> Callable[[tf.Tensor], Any]:
    """Return a function of one tensor whose variables are constants from now on."""
    from tensorflow.python.framework.convert_to_constants import (  # noqa: PLC0415 -- has no public name
        convert_variables_to_constants_v2,
    )

    concrete = tf.function(run, input_signature=[spec]).get_concrete_function()
    folded: Callable[[tf.Tensor], Any] = convert_variables_to_constants_v2(concrete)
    return folded


def _onnxruntime(frozen: keras.Model, kept: Path | None) -> Engine:
    if graph := conversion.kept(kept):
        with suppress(Exception):  # damaged, or of another network after all: it is converted as if there were none
            run = conversion.session(graph)
            _compare(run, frozen, TOLERANCE)
            return run
    graph = conversion.convert(frozen)
    run = conversion.session(graph)
    _compare(run, frozen, TOLERANCE)
    if kept:
        with suppress(OSError):  # no room: a later run converts again
            conversion.keep(kept, graph)
    return run


def _compare(run: Engine, frozen: keras.Model, tolerance: float) -> None:
    images = np.random.default_rng(0).uniform(0, 255, (2, *frozen.input_shape[1:])).astype(np.float32)
    expected = [np.asarray(output) for output in tf.nest.flatten(frozen(images, training=False))]
    for ours, theirs in zip(run(images), expected, strict=True):
        off = float(np.max(np.abs(ours - theirs), initial=0)) / max(float(np.max(np.abs(theirs), initial=0)), 1e-6)
        if not off <= tolerance:
            finite = np.isfinite(ours).all() or not np.isfinite(theirs).all()
            raise (ValueError if finite else _TooLargeError)(
                f"its output is off by {off:.1e} of the largest activation, {tolerance:.0e} is allowed"
            )
