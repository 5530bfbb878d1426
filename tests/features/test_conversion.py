import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import formats
from thaw.catalog import backbones
from thaw.features import conversion, engines
from thaw.networks import pretrained
from thaw.runtime.framework import keras

# On a GPU too: there ONNX Runtime is not what is planned.
pytestmark = pytest.mark.usefixtures("processor")

PIXELS = np.random.default_rng(1).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)


def network(seed: int) -> keras.Model:
    """A block as ConvNeXt has it: a convolution by channel that Keras compiles with XLA, and the exact GELU."""
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((32, 32, 3))
    values = keras.layers.Conv2D(8, 4, strides=4)(keras.layers.Rescaling(1 / 255)(pixels))
    values = keras.layers.Conv2D(8, 7, padding="same", groups=8)(values)
    values = keras.layers.LayerNormalization(epsilon=1e-6)(values)
    return keras.Model(pixels, keras.layers.Activation("gelu")(keras.layers.Dense(16)(values)))


@pytest.fixture(scope="module")
def block() -> keras.Model:
    return network(0)


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The networks that are converted from now on."""
    names: list[str] = []
    convert: Callable[[keras.Model], bytes] = conversion.convert

    def noted(frozen: keras.Model) -> bytes:
        names.append(frozen.name)
        return convert(frozen)

    monkeypatch.setattr(conversion, "convert", noted)
    return names


def assert_right(run: engines.Engine, model: keras.Model) -> None:
    expected = np.asarray(model(PIXELS, training=False))
    np.testing.assert_allclose(run(PIXELS)[0], expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_grouped_convolutions_and_the_exact_gelu_reach_onnxruntime(block: keras.Model) -> None:
    run, used = engines.engine(block, "auto")
    assert used == "onnxruntime"
    assert_right(run, block)


@pytest.mark.slow
@pytest.mark.parametrize("name", formats.families())
def test_a_network_of_each_family_reaches_onnxruntime(name: str) -> None:
    size = backbones.ROWS[name].smallest
    model = pretrained.build(name, "random", size)
    run, used = engines.engine(model, "onnxruntime")
    assert used == "onnxruntime"
    pixels = np.random.default_rng(1).uniform(0, 255, (3, size, size, 3)).astype(np.float32)
    expected = np.asarray(model(pixels, training=False))
    np.testing.assert_allclose(run(pixels)[0], expected, rtol=0, atol=1e-3 * np.abs(expected).max())


def test_what_was_converted_is_not_converted_again(
    tmp_path: Path, block: keras.Model, conversions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "converted" / "a.onnx"
    engines.engine(block, "auto", path)
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    run, used = engines.engine(block, "auto", path)
    assert used == "onnxruntime"
    assert len(conversions) == 1
    assert_right(run, block)
    assert [file.name for file in path.parent.iterdir()] == ["a.onnx"]


def test_a_graph_that_is_damaged_or_of_another_network_is_made_anew(
    tmp_path: Path, block: keras.Model, conversions: list[str]
) -> None:
    path, other = tmp_path / "a.onnx", network(1)
    engines.engine(block, "auto", path)
    path.write_bytes(path.read_bytes()[:5000])
    for model in (block, other, other):
        run, used = engines.engine(model, "auto", path)
        assert used == "onnxruntime"
        assert_right(run, model)
    assert len(conversions) == 3


def test_the_graphs_that_were_used_last_are_kept(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.onnx" for number in range(conversion.KEPT + 2)]
    for number, path in enumerate(paths[:-1]):
        conversion.keep(path, str(number).encode())
    assert not paths[0].exists()
    assert conversion.kept(paths[1]) == b"1"
    conversion.keep(paths[-1], b"")
    assert paths[1].exists() and not paths[2].exists()
