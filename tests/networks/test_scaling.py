import numpy as np
import pytest

from thaw.catalog import pixel_contracts, pixel_ranges
from thaw.networks import scaling
from thaw.runtime.framework import keras

PIXELS = np.random.default_rng(0).uniform(0, 255, (2, 4, 4, 3)).astype("float32")


def scaled(contract: str) -> keras.Model:
    given = keras.Input((4, 4, 3))
    return keras.Model(given, scaling.scaled(given, contract))


@pytest.mark.parametrize(("contract", "mode"), [("-1..1", "tf"), ("imagenet", "torch"), ("caffe", "caffe")])
def test_a_contract_is_what_keras_calls_a_mode(contract: str, mode: str) -> None:
    expected = keras.applications.imagenet_utils.preprocess_input(PIXELS.copy(), mode=mode)
    np.testing.assert_allclose(scaled(contract)(PIXELS), expected, atol=2e-5)


def test_the_other_contracts() -> None:
    np.testing.assert_array_equal(scaled("0..255")(PIXELS), PIXELS)
    np.testing.assert_allclose(scaled("0..1")(PIXELS), PIXELS / 255, atol=1e-6)
    np.testing.assert_allclose(scaled("-1..0.99")(PIXELS), PIXELS / 128 - 1, atol=1e-6)
    np.testing.assert_allclose(scaled("lite")(PIXELS), (PIXELS - 127) / 128, atol=1e-6)


@pytest.mark.parametrize("contract", pixel_contracts.CONTRACTS)
def test_a_contract_has_no_weights_and_comes_back_from_its_configuration(contract: str) -> None:
    model = scaled(contract)
    assert model.weights == []
    again = keras.Model.from_config(model.get_config())
    np.testing.assert_array_equal(again(PIXELS), model(PIXELS))


def test_an_unknown_contract_is_refused() -> None:
    with pytest.raises(ValueError, match=r"backbone.pixels: expected one of 0\.\.255, .* received '0-1'"):
        scaled("0-1")


def test_the_layers_and_the_arrays_compute_the_same() -> None:
    for contract, expected in pixel_ranges.RANGES.items():
        np.testing.assert_allclose(scaled(contract)(PIXELS), expected(PIXELS), atol=2e-5, rtol=1e-6)
