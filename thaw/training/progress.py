"""The progress of a training: its figures by epoch, the bar, the report, and the end of what has diverged."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from thaw import console
from thaw.runtime.framework import keras
from thaw.training import schedule

# Called after every epoch with the phase, the epoch's number, from 1, and its figures.
Report = Callable[[str, int, Mapping[str, float]], None]

# Keras calls the objective "loss"; what is compared is a metric.
MONITORED = "val_cross_entropy"
FROM_KERAS = {"cross_entropy": "loss", MONITORED: "val_loss", "loss": "objective"}
FROM_KERAS |= {name: name for name in ("accuracy", "val_accuracy")}


class Watch(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no stubs
    """Keeps the history, shows the bar, tells ``report``, and stops what has diverged."""

    def __init__(self, ending: schedule.Ending, steps: int, report: Report, description: str):
        super().__init__()
        self.rows: list[dict[str, float]] = []
        self.report, self.steps, self.ending = report, steps, ending
        self.bar = console.bar("steps")
        self.task = self.bar.add_task(description, total=ending.end * steps, note="")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Keras's hook."""
        self.start, self.done = time.monotonic(), epoch * self.steps
        self.epochs = self.ending.end  # which may have come nearer since
        self.bar.update(self.task, total=self.epochs * self.steps)
        # Read here, since a plateau changes the rate after the epoch that it belongs to.
        self.rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Keras's hook."""
        self.bar.update(self.task, completed=self.done + batch + 1)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Keras's hook; epochs count from 0."""
        figures = {FROM_KERAS[key]: float(value) for key, value in (logs or {}).items() if key in FROM_KERAS}
        row = {"epoch": epoch + 1, **figures, "learning_rate": self.rate}
        if not all(abs(value) < float("inf") for value in row.values()):
            raise ValueError(
                f"training diverged in epoch {epoch + 1}: the loss is {row['objective']}; choose a lower learning rate"
            )
        self.rows.append(row)
        note = f"epoch {epoch + 1} of {self.epochs}: accuracy {row['accuracy']:.3f}, val {row['val_accuracy']:.3f}"
        self.bar.update(self.task, completed=(epoch + 1) * self.steps, note=note)
        self.report(self.ending.settings.phase, epoch + 1, {**row, "seconds": time.monotonic() - self.start})
