"""Random seeds: the same seed gives the same bits."""

import os

from thaw.runtime.framework import keras, tf


def fix(seed: int) -> None:
    """Seed Python, NumPy and Keras, and make TensorFlow's operations give the same bits in every run.

    The same seed, data and machine type then give byte-identical weights.
    """
    os.environ["PYTHONHASHSEED"] = str(seed)
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
