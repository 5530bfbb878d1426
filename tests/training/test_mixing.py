import tracemalloc
from typing import Any

import numpy as np
import pytest

from thaw.runtime.framework import keras
from thaw.training import imbalance, mixing, targets
from thaw.training.targets import table

LABELS = np.arange(40) % 4
INPUTS = np.random.default_rng(0).normal(size=(40, 2, 2, 3)).astype(np.float32)


def source(indices: np.ndarray, _views: np.ndarray) -> np.ndarray:
    found: np.ndarray = INPUTS[indices]
    return found


def mixed(alpha: float, seed: int | None = 0, **more: Any) -> mixing.Mixed:
    return mixing.Mixed(source, LABELS, 16, seed=seed, classes=4, alpha=alpha, **more)


def test_inputs_and_labels_are_mixed_by_the_same_share_with_an_image_of_the_batch() -> None:
    train, plain = mixed(0.5), mixed(0)
    for number in range(len(train)):
        inputs, targets = train[number]
        clean, labels = plain[number][0], table(plain[number][1], 4)
        assert targets.dtype == inputs.dtype == np.float32 and targets.shape == (len(inputs), 3)
        targets = table(targets, 4)
        np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
        for row, target in zip(inputs, targets, strict=True):
            # Which two of the batch, and by which share: the only ones that give inputs and label at once.
            own = len(clean) - 1
            found = [
                (a, b, share)
                for a in range(own + 1)
                for b in range(own + 1)
                for share in [_share(row, clean[a], clean[b])]
                if np.allclose(row, share * clean[a] + (1 - share) * clean[b], atol=1e-4)
            ]
            assert any(np.allclose(target, s * labels[a] + (1 - s) * labels[b], atol=1e-3) for a, b, s in found)


def _share(row: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
    apart = (one - other).ravel()
    length = float(apart @ apart)
    return float((row - other).ravel() @ apart) / length if length else 1.0


def test_a_batch_depends_on_seed_epoch_and_step_alone() -> None:
    one, two, other = mixed(0.2), mixed(0.2), mixed(0.2, seed=1)
    np.testing.assert_array_equal(one[2][0], two[2][0])  # whatever was drawn before
    two[0], two[1]
    np.testing.assert_array_equal(one[1][1], two[1][1])
    assert not np.array_equal(one[0][0], other[0][0])
    one.on_epoch_end()
    assert not np.array_equal(one[0][0], two[0][0])


def test_the_first_epochs_of_training_are_not_mixed() -> None:
    kept: dict[int, list[tuple[np.ndarray, ...]]] = {}

    class Watched(mixing.Mixed):
        def __getitem__(self, number: int) -> tuple[np.ndarray, ...]:
            kept.setdefault(self.epoch, []).append(super().__getitem__(number))
            return kept[self.epoch][-1]

    trained = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])
    trained.compile("sgd", targets.cross_entropy)
    batches = Watched(source, LABELS, 16, seed=0, classes=4, alpha=0.5, begin=2)
    trained.fit(batches, epochs=3, shuffle=False, verbose=0)
    in_order = [kept[epoch] for epoch in sorted(kept)][-4:]  # those of Keras's look before the first, and three epochs
    shares = [np.concatenate([batch[1][:, 2] for batch in epoch]) for epoch in in_order]
    assert len(shares[1]) == len(LABELS) and [bool((share == 1).all()) for share in shares[1:]] == [True, True, False]
    clean = {image.tobytes() for image in INPUTS}
    assert all(image.tobytes() in clean for batch in in_order[1] for image in batch[0])


@pytest.mark.parametrize("seed", [None, 0])
def test_without_alpha_and_in_validation_nothing_is_mixed(seed: int | None) -> None:
    for alpha in (0.0, 0.2) if seed is None else (0.0,):
        train = mixed(alpha, seed)
        for number in range(len(train)):
            inputs, targets = train[number]
            indices = train.order[number * 16 : number * 16 + 16]
            np.testing.assert_array_equal(inputs, INPUTS[indices])
            np.testing.assert_array_equal(targets, LABELS[indices])


def test_the_mean_label_stays_what_it_is() -> None:
    train = mixed(1.0)
    for number in range(len(train)):
        labels = LABELS[train.order[number * 16 : number * 16 + 16]]
        # What one image gives away another takes: shares differ, so only nearly.
        np.testing.assert_allclose(
            table(train[number][1], 4).mean(axis=0), np.bincount(labels, minlength=4) / len(labels), atol=0.2
        )


def shown(weights: np.ndarray, labels: np.ndarray, epochs: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each mixed image the share of every image in it, its weight, and its label; alpha is 0.2."""

    def each_its_own(indices: np.ndarray, _views: np.ndarray) -> np.ndarray:
        alone: np.ndarray = (indices[:, None] == np.arange(len(labels))).astype(np.float32)
        return alone

    train = mixing.Mixed(each_its_own, labels, 16, seed=0, weights=weights, classes=4, alpha=0.2)
    found = []
    for _ in range(epochs):
        found += [train[number] for number in range(len(train))]
        train.on_epoch_end()
    shares, targets, mixed_weights = (np.concatenate(each) for each in zip(*found, strict=True))
    return shares, mixed_weights, table(targets, 4)


def test_weights_are_mixed_as_the_images_and_labels_by_the_weights_they_came_with() -> None:
    weights = np.linspace(0, 3, 40, dtype=np.float32)
    shares, mixed_weights, targets = shown(weights, LABELS)
    assert mixed_weights.dtype == targets.dtype == np.float32
    np.testing.assert_allclose(mixed_weights, shares @ weights, atol=1e-6)
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    labels = np.eye(4)[LABELS]
    np.testing.assert_allclose(mixed_weights[:, None] * targets, (shares * weights) @ labels, atol=1e-5)


def test_class_weights_keep_their_effect() -> None:
    labels = np.repeat([0, 1], [380, 20])
    weights = imbalance.weights(labels, "balanced")
    assert weights is not None
    _, mixed_weights, targets = shown(weights, labels, 20)
    says = mixed_weights @ targets  # of each class, in the loss
    np.testing.assert_allclose(says / says.sum(), [0.5, 0.5, 0, 0], atol=0.03)


def test_images_without_weight_teach_nothing() -> None:
    weights = (LABELS > 0).astype(np.float32)
    shares, mixed_weights, targets = shown(weights, LABELS, 20)
    assert mixed_weights @ targets[:, 0] == 0
    nothing = shares @ weights == 0
    assert nothing.any()  # two of them were mixed with each other
    assert np.isfinite(targets).all()
    assert (mixed_weights[nothing] == 0).all()


def test_a_batch_takes_no_more_memory_than_its_labels() -> None:
    classes = 20_000  # a table of all by all would take 1.6 GB
    train = mixing.Mixed(source, LABELS, 8, seed=0, classes=classes, alpha=0.2)
    tracemalloc.start()
    try:
        train[0]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * 8 * classes * 4
