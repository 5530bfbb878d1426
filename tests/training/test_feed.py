import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training import short
from thaw.features import cache
from thaw.runtime import devices, seeds
from thaw.runtime.framework import keras
from thaw.training import feed, fit, mixing

SHAPE, TRAIN, VAL, VIEWS = (4, 4, 3), 50, 20, 2
SETTINGS = replace(short.SETTINGS, epochs=3, learning_rate=0.01, patience=1000)


@pytest.fixture
def batches(tmp_path: Path) -> tuple[cache.Reader, cache.Reader]:
    """Cached activations of training images in two views, and of others."""
    random, hashes = np.random.default_rng(0), [hashlib.sha256(bytes([n])).hexdigest() for n in range(TRAIN + VAL)]
    entries = [cache.Entry(tmp_path / str(view), SHAPE) for view in range(VIEWS)]
    for entry in entries:
        entry.append(hashes, random.normal(size=(len(hashes), *SHAPE)).astype(np.float16))
    rows = np.arange(len(hashes))
    return cache.Reader(entries, [rows[:TRAIN]] * VIEWS), cache.Reader(entries[:1], [rows[TRAIN:]])


def network() -> keras.Model:
    inputs = keras.Input(SHAPE)
    values = keras.layers.Conv2D(8, 2, activation="relu")(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(values)))


def trained(
    readers: tuple[cache.Reader, cache.Reader], alpha: float, weights: np.ndarray | None
) -> tuple[list[np.ndarray], fit.History]:
    seeds.fix(0)
    model, labels = network(), np.arange(TRAIN) % 3
    train = mixing.Mixed(readers[0], labels, 8, VIEWS, 0, classes=3, alpha=alpha, weights=weights)
    val = mixing.Mixed(readers[1], labels[:VAL], 8, classes=3, alpha=0)
    history = fit.fit(model, train, val, replace(SETTINGS, mixup=alpha), lambda *_: None, "test")
    return model.get_weights(), history


@pytest.mark.parametrize(
    ("free", "alpha", "weights"),
    [(10**9, 0.4, None), (0, 0.4, np.linspace(0.5, 2, TRAIN).astype(np.float32)), (0, 0.0, None)],
)
def test_what_a_card_draws_for_itself_trains_as_what_the_host_sends(
    batches: tuple[cache.Reader, cache.Reader],
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    alpha: float,
    weights: np.ndarray | None,
) -> None:
    monkeypatch.setattr(devices, "on_gpu", lambda: False)
    expected, history = trained(batches, alpha, weights)
    monkeypatch.setattr(devices, "on_gpu", lambda: True)
    monkeypatch.setattr(feed, "free_memory", lambda: free)
    # Parts of three rows, so that a table takes several.
    monkeypatch.setattr(feed, "CHUNK", 3 * batches[0].row_bytes)
    found, other = trained(batches, alpha, weights)
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-6)
    assert len(other.rows) == len(history.rows)
    for ours, theirs in zip(other.rows, history.rows, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_what_does_not_come_from_the_cache_is_fed_as_on_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "on_gpu", lambda: True)
    model = network()
    values = np.zeros((9, *SHAPE), np.float32)
    given = mixing.Mixed(lambda indices, _views: values[indices], np.arange(9) % 3, 4, classes=3, alpha=0)
    found = feed.fed(model, given, given)
    assert found.train.batches is given
    assert not found.callbacks


def test_the_card_gets_only_numbers_where_its_memory_holds_the_activations(
    batches: tuple[cache.Reader, cache.Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "on_gpu", lambda: True)
    labels = np.arange(TRAIN) % 3
    train = mixing.Mixed(batches[0], labels, 8, VIEWS, 0, classes=3, alpha=0)
    val = mixing.Mixed(batches[1], labels[:VAL], 8, classes=3, alpha=0)
    wanted = (TRAIN * VIEWS + VAL) * batches[0].row_bytes
    for free, kind in ((2 * wanted, "int32"), (2 * wanted - 2, "float16")):
        monkeypatch.setattr(feed, "free_memory", lambda free=free: free)
        (given, _, _), *_ = feed.fed(network(), train, val).train.element_spec
        assert given.dtype.name == kind
