import numpy as np
import pytest

from thaw.config import phases
from thaw.runtime.framework import keras
from thaw.training import averaging

POINTS = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
TARGETS = POINTS.sum(axis=1, keepdims=True)


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    frozen = keras.layers.Dense(4, name="frozen", trainable=False)(inputs)
    return keras.Model(inputs, keras.layers.Dense(1, name="trained")(frozen))


class Seen(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no stubs
    """Keeps the weights after each step, and those that the other callbacks see as an epoch ends."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[np.ndarray] = []
        self.ends: list[np.ndarray] = []

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self.steps.append(self.model.get_layer("trained").kernel.numpy())

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.ends.append(self.model.get_layer("trained").kernel.numpy())


def trained(epochs: float) -> tuple[keras.Model, Seen, list[float]]:
    model, seen = network(), Seen()
    model.compile(keras.optimizers.Adam(0.05, **averaging.options(epochs, steps=4)), "mse", jit_compile=False)
    callbacks = [seen, *([averaging.Averaging()] if epochs else [])]
    kept = {"x": POINTS, "y": TARGETS, "batch_size": 10, "epochs": 3, "shuffle": False, "verbose": 0}
    history = model.fit(**kept, validation_data=(POINTS, TARGETS), callbacks=callbacks)
    return model, seen, history.history["val_loss"]


def test_what_is_validated_is_the_average_and_what_is_trained_is_not_touched() -> None:
    plain, averaged = trained(0)[1], trained(2)
    np.testing.assert_array_equal(averaged[1].steps, plain.steps)  # to the bit, over three swaps there and back
    momentum, average = 1 - 1 / (2 * phases.FEWEST_STEPS), plain.steps[0]
    expected = []
    for number, weights in enumerate(plain.steps):
        average = momentum * average + (1 - momentum) * weights
        if number % 4 == 3:
            expected.append(average)
    np.testing.assert_allclose(averaged[1].ends, expected, rtol=1e-5)
    assert averaged[2] != trained(0)[2]


def test_a_frozen_weight_is_not_moved_by_a_bit() -> None:
    before = [weight.numpy().tobytes() for weight in network().get_layer("frozen").weights]
    model, _, _ = trained(0.5)
    assert [weight.numpy().tobytes() for weight in model.get_layer("frozen").weights] == before


def test_swapping_twice_changes_no_bit() -> None:
    variable = keras.Variable(np.array([1e-40, -0.0, 3.0e7], np.float32))
    optimizer = keras.optimizers.Adam(1e-3, **averaging.options(1, steps=3))
    optimizer.build([variable])
    (average,) = optimizer._model_variables_moving_average
    average.assign(np.array([0.1, 1.0, -7.77], np.float32))
    before = variable.numpy().tobytes(), average.numpy().tobytes()
    with averaging.averaged(optimizer):
        assert (average.numpy().tobytes(), variable.numpy().tobytes()) == before
    assert (variable.numpy().tobytes(), average.numpy().tobytes()) == before


@pytest.mark.parametrize(("epochs", "steps", "momentum"), [(1, 100, 0.99), (0.5, 100, 0.98), (0.5, 1, 1 - 1 / 32)])
def test_the_window_is_in_epochs(epochs: float, steps: int, momentum: float) -> None:
    assert averaging.options(epochs, steps) == {"use_ema": True, "ema_momentum": pytest.approx(momentum)}
    assert averaging.options(0, steps) == {}
