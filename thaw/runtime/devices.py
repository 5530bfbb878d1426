"""The device that computes: what it is, whether it may round float32, and what to do when its memory is full."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from thaw.runtime.framework import is_op_determinism_enabled, tf

_DRIVER = Path("/proc/driver/nvidia/version")
# How TensorFlow, XLA and cuDNN say that memory does not suffice where they do not raise ResourceExhaustedError.
_FULL = re.compile(
    r"out of memory|OUT_OF_MEMORY|RESOURCE_EXHAUSTED|STATUS_ALLOC_FAILED|failed to allocate", re.IGNORECASE
)


def on_gpu() -> bool:
    """Return whether a GPU computes: TensorFlow sees one, and it was not left aside."""
    return bool(_gpus())


def place() -> str:
    """Return TensorFlow's name of the device that computes: the first GPU, or the processor."""
    return "/GPU:0" if _gpus() else "/CPU:0"


def _gpus() -> list[Any]:
    return list(tf.config.get_visible_devices("GPU"))


def choose(wanted: str) -> None:
    """Compute on a device of this kind from now on, here and in processes that are started from here.

    It must come before TensorFlow's first operation. Nothing is changed where that is what computes anyway.

    Args:
        wanted: ``compute.device``.

    Raises:
        ValueError: a GPU is wanted, and TensorFlow sees none.
    """
    if wanted == "gpu" and not on_gpu():
        raise ValueError(
            "compute.device: expected a GPU that TensorFlow sees, received none; see `nvidia-smi` and "
            "CUDA_VISIBLE_DEVICES, or set compute.device=auto"
        )
    if wanted == "cpu" and on_gpu():
        tf.config.set_visible_devices([], "GPU")
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


def several(asked: int | str) -> list[str]:
    """Return TensorFlow's names of so many devices: GPUs, or parts of the processor where there is no GPU.

    Args:
        asked: how many, or ``all``.

    Raises:
        ValueError: there are fewer.
    """
    kind = "GPU" if on_gpu() else "CPU"
    found = [device.name for device in tf.config.list_logical_devices(kind)]
    count = len(found) if asked == "all" else int(asked)
    if len(found) < count:
        seen = f"{len(found)} GPU{'s' * (len(found) > 1)}" if kind == "GPU" else "no GPU"
        raise ValueError(
            f"compute.devices: expected as many as TensorFlow sees here, {seen}, received {count}; set "
            f"compute.devices={len(found)}, or see `nvidia-smi` and CUDA_VISIBLE_DEVICES"
        )
    return found[:count]


@contextmanager
def tensor_float_32(allowed: bool) -> Iterator[None]:
    """Let a GPU multiply float32 rounded to TensorFloat-32 inside, if ``allowed``, and as before afterwards."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(allowed)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def is_full(error: BaseException) -> bool:
    """Return whether an error of TensorFlow says that the device's memory does not suffice."""
    known = isinstance(error, (tf.errors.ResourceExhaustedError, tf.errors.InternalError, tf.errors.UnknownError))
    return isinstance(error, tf.errors.ResourceExhaustedError) or (known and bool(_FULL.search(str(error))))


@contextmanager
def enough_memory(parameter: str, batch_size: int) -> Iterator[None]:
    """Turn a full memory into one line that names what to set.

    Args:
        parameter: the key of the batch size, as ``phase2.batch_size``.
        batch_size: its value.

    Raises:
        ValueError: the device's memory does not suffice.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if not is_full(error):
            raise
        remedy = f"set {parameter}={batch_size // 2}" if batch_size > 1 else "choose a smaller network or image.size"
        raise ValueError(
            f"{parameter}: expected images that fit the memory of {name()}, received {batch_size} at once; {remedy}, "
            "or end what else computes there"
        ) from error


def name() -> str:
    """Return what the maker calls the GPU; cpu where there is none."""
    gpus = _gpus()
    return str(_details(gpus[0]).get("device_name", "GPU")) if gpus else "cpu"


def _details(gpu: Any) -> dict[str, Any]:
    return dict(tf.config.experimental.get_device_details(gpu))


def driver(version: Path = _DRIVER) -> str:
    """Return the version of NVIDIA's driver; empty where there is none."""
    text = version.read_text(encoding="utf-8", errors="replace") if version.is_file() else ""
    found = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)", text)
    return found[1] if found else ""


def record(count: int = 1) -> dict[str, Any]:
    """Return what a result's last bits hang on, for its record: device, driver, and whether results are repeatable.

    Args:
        count: of devices that shared the work.
    """
    several = {"count": count} if count > 1 else {}
    gpu = {"driver": driver()} if on_gpu() else {}
    return {"name": name(), **several, **gpu, "deterministic": bool(is_op_determinism_enabled())}
