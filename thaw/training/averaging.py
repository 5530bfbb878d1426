"""The moving average of the weights, which phase 2 validates, compares, keeps and saves instead of the last ones.

At a rate that gets anywhere the weights move about the place that they tend to, and a step's own are worse than their
average (Polyak and Juditsky, 1992, SIAM J. Control Optim. 30; Izmailov et al., 2018, arXiv:1803.05407). Keras's
optimisers keep the average (``use_ema``). Its callback ``SwapEMAWeights`` is not used: it swaps by sums and
differences in float32, which leaves neither the weights nor the average as they were, and where training is stopped
early it hands the last weights to ``fit`` for the average.

What no gradient trains has no average: a frozen weight is not touched. Neither are the moving statistics of BatchNorm
under ``phase2.batch_norm=train``: these are averages of the last batches themselves.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from thaw.config import phases
from thaw.runtime.framework import keras, tf


def options(epochs: float, steps: int) -> dict[str, Any]:
    """Return what an optimiser of Keras is made with for an average over so many epochs; nothing for none.

    Args:
        epochs: the window. The average of a step n epochs back has lost all but exp(-n / window) of its share.
        steps: of an epoch, which counts as ``phases.FEWEST_STEPS`` of them at least.
    """
    window = epochs * max(steps, phases.FEWEST_STEPS)
    return {"use_ema": True, "ema_momentum": 1 - 1 / max(window, 1.0)} if epochs else {}


class Averaging(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no stubs
    """Has the average in the model from the beginning of validation to the end of the epoch.

    It must be the last of the callbacks, so that those that look at the model as an epoch ends see what was validated.
    """

    def on_train_begin(self, logs: Any = None) -> None:
        """Keras's hook."""
        self.inside = False

    def on_test_begin(self, logs: Any = None) -> None:
        """Keras's hook."""
        swap(self.model.optimizer)
        self.inside = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keras's hook."""
        if self.inside:
            swap(self.model.optimizer)
            self.inside = False


class Last(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no stubs
    """Takes the weights that the last epoch was validated with, before early stopping, which comes later, ends."""

    weights: list[Any]

    def on_train_end(self, logs: Any = None) -> None:
        """Keras's hook."""
        with averaged(self.model.optimizer):
            self.weights = self.model.get_weights()


@contextmanager
def averaged(optimizer: keras.Optimizer) -> Iterator[None]:
    """Hold the average in the model inside, if the optimiser keeps one, and the weights themselves afterwards."""
    if optimizer.use_ema:
        swap(optimizer)
    try:
        yield
    finally:
        if optimizer.use_ema:
            swap(optimizer)


def swap(optimizer: keras.Optimizer) -> None:
    """Exchange the trained weights and their averages, bit by bit."""
    for variable, average in zip(
        optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True
    ):
        kept = tf.identity(variable.value)
        variable.assign(average)
        average.assign(kept)
