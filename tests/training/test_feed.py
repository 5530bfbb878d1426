import hashlib
import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training import short
from thaw.features import cache
from thaw.runtime import devices, seeds
from thaw.runtime.framework import keras, tf
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
    monkeypatch.setattr(devices, "place", lambda: "/device:CPU:0")  # to which batches are sent as to a card
    # Parts of three rows, so that a table takes several.
    monkeypatch.setattr(feed, "CHUNK", 3 * batches[0].row_bytes)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Keras warns where it does not know how many batches will come
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


def given_to_the_card(batches: tuple[cache.Reader, cache.Reader]) -> str:
    """Return the type of what reaches the card of an image: int32 numbers of rows, or float16 activations."""
    labels = np.arange(TRAIN) % 3
    train = mixing.Mixed(batches[0], labels, 8, VIEWS, 0, classes=3, alpha=0)
    val = mixing.Mixed(batches[1], labels[:VAL], 8, classes=3, alpha=0)
    (given, _, _), *_ = feed.fed(network(), train, val).train.element_spec
    return str(given.dtype.name)


def test_where_the_card_has_less_memory_than_was_said_activations_are_sent(
    batches: tuple[cache.Reader, cache.Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may have taken it, or it is a part of a card, of which only the whole is told."""
    error: tf.errors.OpError = tf.errors.ResourceExhaustedError(None, None, "failed to allocate memory")

    def on_card(_: object) -> None:
        raise error

    monkeypatch.setattr(devices, "on_gpu", lambda: True)
    monkeypatch.setattr(feed, "free_memory", lambda: 10**9)
    monkeypatch.setattr(feed, "_on_card", on_card)
    assert given_to_the_card(batches) == "float16"
    error = tf.errors.InternalError(None, None, "a kernel failed")
    with pytest.raises(tf.errors.InternalError):
        given_to_the_card(batches)


def test_of_several_cards_the_memory_of_those_that_may_be_used_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text(
        '#!/bin/sh\ncase "$*" in\n*--id=1) echo 3000;;\n*--id=*) echo "No devices were found"; exit 6;;\n'
        "*) echo 20; echo 3000;;\nesac\n"
    )
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for cards, expected in ((None, 20 << 20), ("", 20 << 20), ("1", 3000 << 20), ("MIG-1-2", feed.UNKNOWN)):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if cards is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", cards)
        assert feed.free_memory() == expected
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert feed.free_memory() == feed.UNKNOWN


def test_the_card_gets_only_numbers_where_its_memory_holds_the_activations(
    batches: tuple[cache.Reader, cache.Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "on_gpu", lambda: True)
    wanted = (TRAIN * VIEWS + VAL) * batches[0].row_bytes
    for free, kind in ((2 * wanted, "int32"), (2 * wanted - 2, "float16")):
        monkeypatch.setattr(feed, "free_memory", lambda free=free: free)
        assert given_to_the_card(batches) == kind
