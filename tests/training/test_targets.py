"""What was learnt from tables of images × classes is learnt from labels, to the last bit."""

import numpy as np
import pytest

from thaw.runtime.framework import keras
from thaw.training import mixing, targets

CLASSES, COUNT = 40, 96
POINTS = np.random.default_rng(0).normal(size=(COUNT, 8)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, CLASSES, COUNT)
WEIGHTS = np.random.default_rng(2).uniform(0.2, 2, COUNT).astype(np.float32)


class Tables(mixing.Mixed):
    """The same batches with the table of images × classes as targets."""

    def __getitem__(self, number: int) -> tuple[np.ndarray, ...]:
        inputs, given, *weights = super().__getitem__(number)
        return inputs, targets.table(given, self.classes), *weights


def batches(kind: type[mixing.Mixed], alpha: float, seed: int | None, weights: np.ndarray | None) -> mixing.Mixed:
    return kind(lambda rows, _: POINTS[rows], LABELS, 16, seed=seed, classes=CLASSES, alpha=alpha, weights=weights)


def trained(kind: type[mixing.Mixed], alpha: float, weights: np.ndarray | None) -> list[np.ndarray]:
    """The figures of three epochs, and the weights after them."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    model = keras.Model(inputs, keras.layers.Dense(CLASSES)(keras.layers.Dense(32, "relu")(inputs)))
    if kind is Tables:
        losses = keras.losses.CategoricalCrossentropy(from_logits=True)
        metrics = [
            keras.metrics.CategoricalAccuracy("accuracy"),
            keras.metrics.CategoricalCrossentropy("cross_entropy", from_logits=True),
        ]
    else:
        losses = targets.cross_entropy
        metrics = [
            keras.metrics.MeanMetricWrapper(targets.accuracy, "accuracy"),
            keras.metrics.MeanMetricWrapper(targets.cross_entropy, "cross_entropy"),
        ]
    model.compile(keras.optimizers.Adam(0.01), losses, metrics=metrics, jit_compile=False)
    given = batches(kind, alpha, 0, weights), batches(kind, 0, None, None)
    history = model.fit(given[0], validation_data=given[1], epochs=3, verbose=0, shuffle=False).history
    return [np.array([history[name] for name in sorted(history)]), *model.get_weights()]


@pytest.mark.parametrize(
    ("alpha", "weighted"), [(0.0, False), pytest.param(0.0, True, marks=pytest.mark.slow), (0.4, True)]
)
def test_the_same_is_learnt_as_from_tables(alpha: float, *, weighted: bool) -> None:
    weights = WEIGHTS if weighted else None
    for one, two in zip(trained(mixing.Mixed, alpha, weights), trained(Tables, alpha, weights), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_mixed_image_has_the_label_of_the_larger_share_and_both_in_the_table() -> None:
    given = np.array([[3, 1, 0.75], [3, 1, 0.25], [2, 2, 0.125]], np.float32)
    assert targets.labels(given).tolist() == [3, 1, 2] and targets.labels(np.array([4, 0])).tolist() == [4, 0]
    expected = [[0, 0.25, 0, 0.75], [0, 0.75, 0, 0.25], [0, 0, 1, 0]]
    np.testing.assert_array_equal(targets.table(given, 4), np.array(expected, np.float32))
    np.testing.assert_array_equal(targets.table(np.array([2, 0]), 3), np.eye(3, dtype=np.float32)[[2, 0]])


def test_labels_of_ten_thousand_classes_are_exact_and_a_batch_is_small() -> None:
    labels = np.arange(10_000)
    given = mixing.Mixed(
        lambda rows, _: np.zeros((len(rows), 1), np.float32), labels, 64, seed=0, classes=10_000, alpha=0.2
    )
    _, mixed = given[3]
    assert mixed.nbytes == 64 * 3 * 4
    assert mixed[:, 0].astype(np.int64).tolist() == given.order[3 * 64 : 4 * 64].tolist()
