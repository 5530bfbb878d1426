import os
import random

import numpy as np

from thaw.runtime import devices, seeds
from thaw.runtime.framework import keras, tf


def _drawn() -> list[float]:
    drawn = [random.random(), np.random.random(), float(tf.random.uniform(()))]  # noqa: NPY002, S311
    layer = keras.layers.Dense(3)
    layer.build((None, 2))
    dropped = keras.layers.Dropout(0.5)(tf.ones((1, 50)), training=True)
    return [*drawn, float(layer.kernel[0, 0]), float(tf.reduce_sum(dropped * tf.range(50.0)))]


def test_all_chance_follows_the_seed() -> None:
    seeds.fix(7)
    first = _drawn()
    following = _drawn()
    seeds.fix(7)
    assert _drawn() == first
    seeds.fix(8)
    other = _drawn()
    assert all(one != two for one, two in zip(first, following, strict=True))
    assert all(one != two for one, two in zip(first, other, strict=True))
    assert os.environ["PYTHONHASHSEED"] == "8"


def test_operations_give_the_same_bits_each_time() -> None:
    seeds.fix(0)
    # A sum by scattered indices, whose order of addition would be left to chance.
    values = np.random.default_rng(0).normal(size=200_000).astype(np.float32)
    places = np.random.default_rng(1).integers(0, 3, values.size)
    first = tf.math.unsorted_segment_sum(values, places, 3).numpy()
    for _ in range(5):
        np.testing.assert_array_equal(tf.math.unsorted_segment_sum(values, places, 3), first)


def test_whether_operations_are_repeatable_goes_by_the_setting_and_the_seed_holds_either_way() -> None:
    drawn = []
    for deterministic in (False, True, False):
        seeds.fix(7, deterministic=deterministic)
        assert devices.record()["deterministic"] is deterministic
        drawn.append(_drawn())
    assert drawn[0] == drawn[1] == drawn[2]
    seeds.fix(7)
    assert devices.record()["deterministic"] is True
