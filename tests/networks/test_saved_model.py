from pathlib import Path

import numpy as np
import pytest

from thaw.networks.saved_model import Saved
from thaw.runtime.framework import tf

IMAGES = np.random.default_rng(0).uniform(0, 1, (3, 8, 8, 3)).astype("float32")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two norms that keep statistics, one that keeps none, and something that is no norm but has a beta."""

    class Network(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            words = ("gamma", "beta", "moving_mean", "moving_variance")
            self.first = [tf.Variable(tf.ones(3), name=f"bn/{word}", trainable="moving" not in word) for word in words]
            self.second = [tf.Variable(tf.ones(3), name=f"top/bn/{word}") for word in (words[1], *words[2:])]
            self.layer = [tf.Variable(tf.ones(3), name=f"ln/{word}") for word in words[:2]]
            self.kernel = tf.Variable(tf.ones((3, 4)), name="kernel")

        @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, images: tf.Tensor) -> tf.Tensor:
            return sum([*self.first, *self.second, *self.layer], start=images) @ self.kernel

    tf.saved_model.save(Network(), str(tmp_path / "saved"))
    return tmp_path / "saved"


def test_it_says_what_was_saved_and_its_variables_are_its_weights(folder: Path) -> None:
    layer = Saved(str(folder), name="network")
    np.testing.assert_allclose(layer(IMAGES), tf.saved_model.load(str(folder))(IMAGES))
    assert layer.compute_output_shape((None, 8, 8, 3)) == (None, 8, 8, 4)
    assert len(layer.weights) == 10
    kernel = next(variable for variable in layer.weights if variable.name.endswith("kernel"))
    kernel.assign(kernel * 2)
    np.testing.assert_allclose(layer(IMAGES), 2 * tf.saved_model.load(str(folder))(IMAGES))


def test_only_what_was_saved_as_trainable_is(folder: Path) -> None:
    layer = Saved(str(folder), name="network")
    fixed = {variable.name.partition("_")[2] for variable in layer.non_trainable_variables}
    assert fixed == {"bn_moving_mean", "bn_moving_variance"}


def test_what_belongs_to_norms_that_keep_statistics_is_found_by_name(folder: Path) -> None:
    found = {variable.name.partition("_")[2] for variable in Saved(str(folder), name="network").saved_norms}
    first = {f"bn_{word}" for word in ("gamma", "beta", "moving_mean", "moving_variance")}
    assert found == first | {f"top_bn_{word}" for word in ("beta", "moving_mean", "moving_variance")}


def test_a_folder_whose_signature_takes_something_else_is_refused(tmp_path: Path) -> None:
    module = tf.Module()
    pair = [tf.TensorSpec((), tf.float32, name=name) for name in ("a", "b")]
    add = tf.function(lambda a, b: {"sum": a + b}, input_signature=pair)
    tf.saved_model.save(module, str(tmp_path / "saved"), {"serving_default": add})
    with pytest.raises(ValueError, match="a signature serving_default of one input, received signatures"):
        Saved(str(tmp_path / "saved"), name="network")
