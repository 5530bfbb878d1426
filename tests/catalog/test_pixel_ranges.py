import itertools

import numpy as np
import pytest

from thaw.catalog.pixel_ranges import RANGES
from thaw.networks import pretrained
from thaw.runtime.framework import keras

PIXELS = np.random.default_rng(0).uniform(0, 255, (2, 5, 7, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("-1..1", "mobilenet_v2"),
        ("-1..1", "inception_v3"),
        ("-1..1", "resnet_v2"),
        ("caffe", "resnet"),
        ("imagenet", "densenet"),
        ("0..255", "efficientnet"),
    ],
)
def test_a_range_is_what_keras_preprocesses_to(name: str, module: str) -> None:
    expected = getattr(keras.applications, module).preprocess_input(PIXELS.copy())
    np.testing.assert_allclose(RANGES[name](PIXELS), expected, atol=1e-4)


@pytest.mark.parametrize(("network", "name"), [("efficientnet_lite0", "lite"), ("mobilenet_v2", "-1..1")])
def test_the_backbones_scale_pixels_to_their_range(network: str, name: str) -> None:
    model = pretrained.build(network, "random", 32)
    np.testing.assert_allclose(model.get_layer("stem_range")(PIXELS), RANGES[name](PIXELS), atol=1e-5)


@pytest.mark.parametrize("name", RANGES)
def test_the_way_back_leads_to_the_pixels(name: str) -> None:
    for found in (RANGES[name], RANGES[name].swapped()):
        np.testing.assert_allclose(found.back(found(PIXELS)), PIXELS, atol=1e-9)


def test_swapped_means_red_for_blue_before_anything_else() -> None:
    for found in RANGES.values():
        np.testing.assert_allclose(found.swapped()(PIXELS), found(PIXELS[..., ::-1]), atol=1e-9)


def test_only_what_differs_by_less_than_a_network_would_notice_is_near() -> None:
    names = list(RANGES)
    near = {(one, two) for one in names for two in names if RANGES[one].is_near(RANGES[two])}
    assert near == {(name, name) for name in names} | set(itertools.permutations(("-1..1", "-1..0.99", "lite"), 2))
