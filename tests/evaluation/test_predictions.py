"""Hold that what both phases' networks have in common is run once, and that the answers are those of each alone."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from thaw.classifier import model
from thaw.config import schema
from thaw.evaluation import predictions
from thaw.networks import freeze_boundaries
from thaw.runtime import devices
from thaw.runtime.framework import keras, tf

IMAGE = schema.Image(32, "squash", "bilinear", antialias=True)
HEAD = schema.Head(pooling="avg", units=[], dropout=[], l2=0)
BATCHES = [
    np.random.default_rng(n).uniform(0, 255, (size, 32, 32, 3)).astype(np.float32) for n, size in ((0, 6), (1, 5))
]


def built(name: str) -> model.Classifier:
    card = model.Card(schema.Backbone(name, "random", "", "", ""), "0" * 64, IMAGE, HEAD, ["ant", "bee", "cow"])
    return model.build(card, weights="random")


def changed(name: str, blocks: int) -> model.Classifier:
    """Another classifier, whose network differs from the first in its last blocks."""
    found = built(name)
    cut = freeze_boundaries.every(found.backbone)[-1 - blocks]
    for layer in found.backbone.layers[1 + cut.frozen_layers :]:
        for variable in layer.weights:
            variable.assign(variable * 1.01)
    return found


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each network was run, by its name."""
    times, make = Counter[str](), predictions._compiled

    def counted(network: keras.Model, *after: Callable[[tf.Tensor], Any]) -> Callable[..., Any]:
        run = make(network, *after)

        def told(values: Any) -> Any:
            times[network.name] += 1
            return run(values)

        return told

    monkeypatch.setattr(predictions, "_compiled", counted)
    return times


@pytest.mark.parametrize(
    ("name", "blocks"), [("efficientnet_lite0", 3), ("efficientnet_lite0", 0), ("mobilenet_v2", 5)]
)
def test_blocks_in_common_run_once_and_the_answers_are_those_of_each_network_alone(
    ran: Counter[str], name: str, blocks: int
) -> None:
    of = {"phase1": built(name), "phase2": changed(name, blocks)}
    alone = {phase: predictions.predictor(classifier) for phase, classifier in of.items()}
    wanted = [[run(batch) for run in alone.values()] for batch in BATCHES]
    assert ran == {name: 4}
    runs = predictions.predictors(of)
    for batch, rows in zip(BATCHES, wanted, strict=True):
        for run, each in zip(runs.values(), rows, strict=True):
            for received, own in zip(run(batch), each, strict=True):
                np.testing.assert_array_equal(received, own)
    assert ran == {name: 4, f"{name}_frozen": 2, f"{name}_thawed": 4}


@pytest.mark.parametrize("second", [changed("efficientnet_lite0", 18), built("mobilenet_v2")])
def test_networks_with_no_block_in_common_run_each_on_its_own(ran: Counter[str], second: model.Classifier) -> None:
    runs = predictions.predictors({"phase1": built("efficientnet_lite0"), "phase2": second})
    for run in runs.values():
        run(BATCHES[0])
    assert set(ran) == {"efficientnet_lite0", second.backbone.name} and ran.total() == 2


def test_on_a_gpu_batches_have_one_size_and_the_answers_are_those_of_their_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen, of_one_size = set[int](), predictions.of_one_size

    def noted(run: Callable[..., Any]) -> Callable[..., Any]:
        def told(values: Any) -> Any:
            seen.add(len(values))
            return run(values)

        return of_one_size(told)

    monkeypatch.setattr(predictions, "of_one_size", noted)
    classifiers = {"phase1": built("mobilenet_v2"), "phase2": changed("mobilenet_v2", 3)}
    found = []
    for on_gpu in (False, True):
        monkeypatch.setattr(devices, "on_gpu", lambda on_gpu=on_gpu: on_gpu)
        runs = predictions.predictors(classifiers)
        found.append([part for batch in BATCHES for run in runs.values() for part in run(batch)])
    assert seen == {len(BATCHES[0])}
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one.astype(np.float32), other.astype(np.float32), rtol=2e-3, atol=1e-5)
