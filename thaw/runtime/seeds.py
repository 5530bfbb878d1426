"""Random seeds, and what else a repetition has in common with a run: the same seed gives the same bits."""

import os

from thaw.runtime import devices
from thaw.runtime.framework import disable_op_determinism, keras, tf


def fix(seed: int, *, deterministic: bool = True, device: str = "auto") -> None:
    """Seed Python, NumPy and Keras, and say on what TensorFlow computes, and whether to the same bits in every run.

    The same seed, data and machine type then give byte-identical weights.

    Args:
        seed: of all chance.
        deterministic: ``compute.deterministic``. If false, operations may add up in the order in which their parts are
            ready; seeds, the order of the images and their views stay the same.
        device: ``compute.device``, the kind of it.

    Raises:
        ValueError: there is no such device.
    """
    devices.choose(device)
    os.environ["PYTHONHASHSEED"] = str(seed)
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    else:
        disable_op_determinism()
