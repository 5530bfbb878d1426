"""Going on: a training that was killed goes on from its last checkpoint, to the bits of an undisturbed one.

Keras's ``BackupAndRestore`` keeps weights and optimiser. What comes next also depends on the callbacks (early
stopping and the best weights so far, plateaus, the fall of the rate), on the generators that dropout draws from, on
the order of the images and the view that each comes in next, and within an epoch on the means of its figures so far.
All of it is kept here, so Keras's is not used.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thaw import console
from thaw.images.manifest import Batches
from thaw.runtime.framework import keras
from thaw.training import checkpoint

SHARE = 0.01  # of the time of training that checkpoints may take
# What the first is taken to cost before that is known: seconds, and bytes a second that a disk takes.
OPENING, RATE = 0.02, 2e8
MINUTE = 60.0  # seconds within an epoch after which its part is kept
# What changes in Keras's callbacks and in the project's own while training goes on, and is plain. A callback that a
# training does not have keeps nothing.
PLAIN = {
    "EarlyStopping": ("wait", "stopped_epoch", "best", "best_epoch"),
    "ReduceLROnPlateau": ("wait", "cooldown_counter", "best"),
    "Ending": ("end", "stopped", "losses", "accuracies"),
    "Watch": ("rate",),
}


class Checkpoints(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no stubs
    """Goes on from a state, and writes those that follow. It must be the last of the callbacks: it keeps theirs.

    Args:
        file: of ``checkpoint.place``; None: nothing is written.
        state: of ``checkpoint.read``, to go on from. Its epochs must have been drawn: ``replayed``.
        rows: of the history, to which each epoch adds one.
        callbacks: all others.
        variables: more of what changes in training.
        steps: of an epoch.
        clock: seconds.
    """

    def __init__(
        self,
        file: Path | None,
        state: checkpoint.State,
        rows: list[dict[str, float]],
        callbacks: Sequence[keras.callbacks.Callback],
        variables: Sequence[Any],
        steps: int,
        clock: Callable[[], float] = time.monotonic,
    ):
        super().__init__()
        self.file, self.state, self.rows, self.steps, self.clock = file, state, rows, steps, clock
        self.others = {type(each).__name__: each for each in callbacks if type(each).__name__ in PLAIN}
        self.more, self.cost, self.warned = list(variables), 0.0, False  # cost 0: not known yet

    def on_train_begin(self, logs: Any = None) -> None:
        """Keras's hook: put everything back."""
        state, self.epoch = self.state, self.state.epoch
        self.began = self.last = self.clock()
        if not state.arrays:
            return
        self.model.optimizer.build(self.model.trainable_variables)
        for name, variables in self._variables().items():
            for variable, value in zip(variables, state.arrays[name], strict=True):
                variable.assign(value)
        self._put_back()
        if (early := self.others.get("EarlyStopping")) and state.arrays["best"]:
            early.best_weights = state.arrays["best"]
        if ending := self.others.get("Ending"):
            ending.began -= state.elapsed
        self.began -= state.elapsed

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Keras's hook: within an epoch that was begun, its figures go on too."""
        self.epoch = epoch
        if epoch == self.state.epoch and self.state.step:
            self._put_back()
            for part, value in zip(self._figures(), self.state.arrays["figures"], strict=True):
                part.assign(value)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Keras's hook, after the steps that are executed at once."""
        begun = self.state.step if self.epoch == self.state.epoch else 0
        if self.file and begun < batch + 1 < self.steps and self._is_due(MINUTE):
            self._write(self.file, self.epoch, batch + 1, figures=[part.numpy() for part in self._figures()])

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keras's hook."""
        if self.file and self._is_due():
            self._write(self.file, epoch + 1, 0, ended=bool(self.model.stop_training))

    def _figures(self) -> list[Any]:
        """Return the sums of the epoch's figures so far, of each device its own."""
        parts = self.model.distribute_strategy.experimental_local_results
        return [part for variable in self.model.metrics_variables for part in parts(variable.value)]

    def _put_back(self) -> None:
        for name, values in self.state.callbacks.items():
            vars(self.others[name]).update(values)

    def _is_due(self, seconds: float = 0.0) -> bool:
        if not self.cost:
            every = [variable for some in self._variables().values() for variable in some]
            self.cost = OPENING + sum(4 * math.prod(variable.shape) for variable in every) / RATE
        return self.clock() - self.last >= max(seconds, self.cost / SHARE)

    def _variables(self) -> dict[str, list[Any]]:
        optimizer = self.model.optimizer.variables
        return {"model": self.model.variables, "optimizer": optimizer, "more": self.more}

    def _write(
        self, file: Path, epoch: int, step: int, *, ended: bool = False, figures: Sequence[np.ndarray] = ()
    ) -> None:
        began = self.clock()
        arrays = {name: [np.asarray(each) for each in some] for name, some in self._variables().items()}
        early = self.others.get("EarlyStopping")
        arrays["best"] = list(early.best_weights or []) if early else []
        callbacks = {name: _plain(each) for name, each in self.others.items()}
        state = checkpoint.State(
            epoch, step, ended, began - self.began, self.rows, callbacks, arrays | {"figures": list(figures)}
        )
        try:
            checkpoint.write(file, state)
        except OSError as error:  # the training is worth more than its checkpoint
            if not self.warned:
                console.warn(f"no checkpoint could be written ({error}); training goes on without")
            self.warned = True
        self.last = self.clock()
        self.cost = self.last - began


def _plain(callback: keras.callbacks.Callback) -> dict[str, Any]:
    values = {name: getattr(callback, name) for name in PLAIN[type(callback).__name__]}
    return {name: float(value) if isinstance(value, np.floating) else value for name, value in values.items()}


def replayed(batches: Batches, state: checkpoint.State) -> None:
    """Draw the batches of the epochs that are done, so that the next ones come in the order that they would have."""
    for _ in range(state.epoch):
        batches.on_epoch_end()


def passed_over(model: keras.Model, batches: Iterable[Any], steps: int) -> None:
    """Let a compiled model read the first steps of its first epoch without learning from them.

    Args:
        batches: of validation. Keras makes the variables of the figures when it sees one.
        steps: a multiple of those that are executed at once.
    """
    if not steps:
        return
    model.test_on_batch(*next(iter(batches)))
    model.make_train_function()
    train, left = model.train_function, iter(range(0, steps, model.steps_per_execution))

    def function(iterator: Any) -> Mapping[str, Any]:
        if next(left, None) is None:
            return train(iterator)  # type: ignore[no-any-return]
        for _ in range(model.steps_per_execution):
            next(iterator)
        return {}

    model.train_function = function
