"""Random seeds: the same seed gives the same bits."""

import os

from thaw.runtime.framework import disable_op_determinism, keras, tf


def fix(seed: int, *, deterministic: bool = True) -> None:
    """Seed Python, NumPy and Keras, and say whether TensorFlow's operations give the same bits in every run.

    The same seed, data and machine type then give byte-identical weights.

    Args:
        seed: of all chance.
        deterministic: ``compute.deterministic``. If false, operations may add up in the order in which their parts are
            ready; seeds, the order of the images and their views stay the same.
    """
    os.environ["PYTHONHASHSEED"] = str(seed)
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    else:
        disable_op_determinism()
