"""TensorFlow and Keras, imported in one place: with the backend this program is written for, and quietly.

Every other module takes ``keras`` and ``tf`` from here. A user's ``~/.keras/keras.json`` may name another backend, and
TensorFlow greets every process with lines on stderr, about drivers that a laptop does not have, that hide
what a person should read. They are held back only while it is imported, and shown after all if that fails.
"""

import ctypes
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from thaw.runtime import imports, threads

os.environ["KERAS_BACKEND"] = "tensorflow"
# What goes wrong in TensorFlow raises; what it calls an error on stderr is a kernel that some processor lacks.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow takes oneDNN's kernels by itself only where there are units for neural networks. Without such units, as on
# most laptops, a training step is half as fast again with them.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# TensorFlow would take all memory of a GPU at once, and leave nothing to another process, as `export` starts one. The
# variable, and not a call, so that processes that are started from here have it too.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
threads.keep_to_quota()

M_TOP_PAD = -2  # of glibc's malloc.h
KEPT = 64 << 20  # bytes: as much as a heap of one of glibc's threads can have


def _keep_heaps() -> None:
    """Let glibc keep the memory of a step for the next one.

    Otherwise it gives a thread's heap back as soon as that is empty, in each step of a training many times, and the
    system fills the same pages with zeros again: a quarter of the processor's time. Other systems need nothing of it.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(M_TOP_PAD, KEPT)


_keep_heaps()


@contextmanager
def _stderr_held_back() -> Iterator[None]:
    try:
        kept = os.dup(2)
    except OSError:  # closed: there is nothing to hold back
        yield
        return
    if sys.stderr:
        sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


with _stderr_held_back(), imports.without():
    import keras
    import tensorflow as tf
    from keras.src.backend.common import global_state  # has no public name
    from tensorflow.python.framework.config import disable_op_determinism, is_op_determinism_enabled  # nor have these

    tf.config.list_physical_devices()  # looks for drivers, and says what it did not find
    # NVIDIA's GPUs from Ampere on would round float32 to 11 bits before they multiply: an image alone and among others
    # would differ by 1e-3. What is compared or deployed is float32; ``thaw.runtime.devices`` lets training do
    # otherwise.
    tf.config.experimental.enable_tensor_float_32_execution(False)

__all__ = ["disable_op_determinism", "is_op_determinism_enabled", "keras", "numbered_from_the_start", "tf"]


@contextmanager
def numbered_from_the_start() -> Iterator[None]:
    """Layers without a name of their own, made inside, are called the same in every process.

    Keras numbers them (``conv2d_12``) by how many the process has made before. Inside, it counts from the start.
    """
    kept = global_state.get_global_attribute("object_name_uids")
    global_state.set_global_attribute("object_name_uids", defaultdict(int))
    try:
        yield
    finally:
        global_state.set_global_attribute("object_name_uids", kept)
