"""When each epoch of a training ended, and with which validation accuracy: what «time to an accuracy» is read from."""

import time
from collections.abc import Mapping, Sequence

import psutil

from thaw.runtime.framework import keras

Reached = tuple[float, float]  # seconds, validation accuracy


class EpochClock(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no stubs
    """Notes the seconds since this process began, imports included, and the validation accuracy, after each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[Reached] = []

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Keras's hook."""
        seconds = time.time() - psutil.Process().create_time()
        self.epochs.append((seconds, float((logs or {})["val_accuracy"])))


def first(epochs: Sequence[Reached], accuracy: float) -> float | None:
    """Return the seconds to the first epoch of at least that validation accuracy; None: none has it."""
    return next((seconds for seconds, reached in epochs if reached >= accuracy), None)
