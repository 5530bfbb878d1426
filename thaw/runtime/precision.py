"""Mixed precision: in which numbers the unfrozen convolutions are computed while they are trained.

Processors with units for bfloat16 multiply matrices of it about twice as fast, and add up in float32. Kalamkar et al.
(2019), arXiv:1905.12322, train networks with it as well as with float32. Weights, normalisation, the loss and the
optimiser stay float32, and so does everything that is tested or deployed.

GPUs that can do this can also multiply float32 rounded to 11 bits (TensorFloat-32), in all layers. It is used in
training alone, and only if it is asked for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thaw.runtime import devices
from thaw.runtime.framework import keras, tf

CPU_FLAGS = {"avx512_bf16", "amx_bf16"}  # what Linux calls the units, of x86
GPU_CAPABILITY = (8, 0)  # NVIDIA's from Ampere on
TF32 = "tf32"


def choose(wanted: str) -> str:
    """Return the name of Keras's policy, or tf32.

    Args:
        wanted: float32, tf32 (float32 where no GPU can do it), mixed, or auto: mixed where the processor has units for
            it.
    """
    if wanted == TF32:
        return TF32 if devices.on_gpu() and _has_units() else "float32"
    mixed = wanted == "mixed" or (wanted == "auto" and _has_units())
    return "mixed_bfloat16" if mixed else "float32"


def _has_units() -> bool:
    gpus = tf.config.get_visible_devices("GPU")
    if gpus:
        found = [tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus]
        return all(capability >= GPU_CAPABILITY for capability in found)
    return bool(CPU_FLAGS & _flags(Path("/proc/cpuinfo")))


def _flags(cpuinfo: Path) -> set[str]:
    """Return what Linux says of the first processor; nothing on other systems."""
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    return next((set(line.split(":", 1)[1].split()) for line in lines if line.startswith("flags")), set())


@contextmanager
def computing(model: keras.Model, policy: str) -> Iterator[None]:
    """Compute the model's convolutions by a policy inside, and as before afterwards.

    Depthwise convolutions stay as they are: they have little to multiply, and their gradients are slow in bfloat16.

    Args:
        policy: as ``choose`` gives it.
    """
    if policy == TF32:
        with devices.tensor_float_32(True):
            yield
        return
    convolutions = [layer for layer in layers(model) if type(layer) is keras.layers.Conv2D]
    before = [layer.dtype_policy for layer in convolutions]
    try:
        for layer in convolutions:
            layer.dtype_policy = keras.DTypePolicy(policy)
        yield
    finally:
        for layer, kept in zip(convolutions, before, strict=True):
            layer.dtype_policy = kept


def layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Return the layers of a model, and of the models in it."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from layers(layer)
        else:
            yield layer
