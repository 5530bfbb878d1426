"""Hold what tests of short trainings share: settings to begin from, and a Ctrl-C in their midst."""

from typing import Any

from thaw.runtime.framework import keras
from thaw.training.fit_settings import FitSettings

SETTINGS = FitSettings(
    phase="phase2",
    epochs=5,
    batch_size=8,
    learning_rate=0.05,
    patience=5,
    class_weight="none",
    sampler="shuffle",
    seed=0,
    has_verdict=True,
)


class Break(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no stubs
    """Ctrl-C behind a step."""

    def __init__(self, epoch: int, step: int):
        super().__init__()
        self.at, self.epoch = (epoch, step), 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (self.epoch, batch + 1) >= self.at:
            raise KeyboardInterrupt
