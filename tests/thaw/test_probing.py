import numpy as np
import pytest

from thaw import boundaries, model, probing, schema
from thaw.framework import keras

IMAGE = schema.Image(32, "squash", "bilinear", antialias=True)


def classifier(name: str) -> model.Classifier:
    described = schema.Backbone(name, "random", "", "", "")
    card = model.Card(described, "", IMAGE, schema.Head("max", [], [], 0), ["a", "b"])
    return model.build(card, weights="random")


@pytest.fixture(scope="module")
def lite() -> model.Classifier:
    return classifier("efficientnet_lite0")


def test_places_are_spread_over_the_whole_network_the_output_first(lite: model.Classifier) -> None:
    found = probing.places(lite)
    shares = [cut.share for cut in found]
    assert len(boundaries.every(lite.backbone)) > probing.PLACES >= len(found) > probing.PLACES // 2
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] > 0.9
    assert max(np.diff(shares)) < 2 / probing.PLACES


def test_a_probe_gets_what_comes_out_of_the_layers_before_it_pooled_as_the_head_does(lite: model.Classifier) -> None:
    outputs = probing.outputs(lite)
    assert next(iter(outputs)) == "pool:max"  # as phase 1 calls what it trains on
    assert len(outputs) == len(probing.places(lite))
    noise = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    pooled = keras.Model(lite.backbone.input, list(outputs.values()))(noise, training=False)
    for cut, values in zip(probing.places(lite), pooled, strict=True):
        frozen, _ = boundaries.split(lite.backbone, cut)
        np.testing.assert_allclose(values, np.max(frozen(noise, training=False), axis=(1, 2)), rtol=1e-5, atol=1e-5)


def test_probes_are_right_where_features_tell_the_classes_and_guess_where_they_do_not(lite: model.Classifier) -> None:
    random, labels = np.random.default_rng(0), np.arange(300) % 3
    telling, noise = np.eye(3)[labels] + random.normal(0, 0.1, (300, 3)), random.normal(0, 1, (300, 3))
    cuts = probing.places(lite)[:2]
    first, second = probing.probes(cuts, [lambda rows: telling[rows], lambda rows: noise[rows]], labels, 3)
    assert (first.block, first.share) == (cuts[0].block, cuts[0].share)
    assert first.accuracy == 1 and first.loss < 0.1
    assert second.accuracy < 0.5 and second.loss > 1
