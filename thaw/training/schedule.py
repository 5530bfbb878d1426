"""The learning rate over the steps of a phase, and when the phase ends.

Phase 2's default is warm-up, stable, decay (WSD; Hu et al., 2024, arXiv:2404.06395). Its length is not known before:
the rate rises, stays while the validation loss falls, and falls to zero once that is flat. A cosine must be told its
length, and what is enough for one task is too little for the next.

Of few images an epoch has few steps, in which a loss tells nothing. So what is counted in epochs, the warm-up, the
wait for a flat loss and the shortest decay, is counted in epochs of ``phases.FEWEST_STEPS`` steps at least.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from thaw import console
from thaw.config import phases
from thaw.runtime.framework import keras, tf
from thaw.training.fit_settings import FitSettings

ACCURACY = "val_accuracy"  # Keras's name of it among the figures of an epoch
ROUNDING = 1e-6  # by which a share in float32 may be below what it stands for: 95 of 100 are less than 0.95 there
FEWEST_DECAY = 2  # epochs in which the rate falls to zero
# Why training ended.
FLAT, TARGET, EPOCHS, MINUTES, PATIENCE = "flat", "target_accuracy", "epochs", "minutes", "patience"


class StableDecay(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]  # Keras has no stubs
    """A rate that rises for some steps, stays, and falls to zero along a line from the step that ``fall`` names.

    Args:
        peak: the rate between.
        warmup: steps over which it rises from zero.
    """

    def __init__(self, peak: float, warmup: int):
        super().__init__()
        self.peak, self.warmup = peak, warmup
        self.begin = tf.Variable(float("inf"), trainable=False, dtype="float32")
        self.length = tf.Variable(1.0, trainable=False, dtype="float32")

    def fall(self, begin: int, end: int) -> None:
        """Let the rate fall from one step to another, though not before it has risen."""
        first = max(begin, self.warmup)
        self.begin.assign(first)
        self.length.assign(max(end - first, 1))

    def __call__(self, step: Any) -> Any:
        """Keras's hook: the rate of a step, which counts from 0."""
        step = tf.cast(step, "float32")
        rise = tf.minimum(step / max(self.warmup, 1), 1.0) if self.warmup else 1.0
        return self.peak * tf.minimum(rise, tf.clip_by_value(1 - (step - self.begin) / self.length, 0.0, 1.0))


def rate(settings: FitSettings, steps: int) -> Any:
    """Return the rate, a number or a schedule of Keras.

    Args:
        steps: of an epoch.
    """
    warmup = warmup_steps(settings, steps)
    if settings.schedule == phases.WSD:
        return StableDecay(settings.learning_rate, warmup)
    if settings.schedule == "constant" and not warmup:
        return settings.learning_rate
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else settings.learning_rate,
        decay_steps=settings.epochs * steps - warmup,
        # A "decay" to the full rate is a constant rate after the warm-up.
        alpha=0.0 if settings.schedule == "cosine" else 1.0,
        warmup_target=settings.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def warmup_steps(settings: FitSettings, steps: int) -> int:
    """Return the steps over which the rate rises: half of all at most, so that few epochs are no warm-up alone."""
    return round(min(phases.counted(settings.warmup, steps), settings.epochs / 2) * steps)


def decay_epochs(settings: FitSettings, done: int, steps: int) -> int:
    """Return how many epochs of so many steps the rate takes to fall to zero after so many epochs."""
    return max(math.ceil(phases.counted(FEWEST_DECAY, steps)), round(settings.decay_share * done))


def falls(settings: FitSettings, later: float, earlier: float) -> bool:
    """Return whether a loss is lower than an earlier one by so much that it counts.

    A share of it alone never ends a training whose images are nearly all right: their loss can halve again and again,
    and changes no answer.
    """
    return later < earlier - max(settings.min_improvement * earlier, settings.min_delta)


class Ending(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no stubs
    """Begins the fall of the rate, and ends training with it or where the epochs or minutes are over.

    Args:
        steps: of an epoch.
        rate: what ``rate`` gave for the same settings.
        monitored: the validation loss's name among the figures of an epoch.
        clock: seconds.
    """

    def __init__(
        self,
        settings: FitSettings,
        steps: int,
        rate: Any,
        monitored: str,
        clock: Callable[[], float] = time.monotonic,
    ):
        super().__init__()
        self.settings, self.steps, self.rate, self.monitored, self.clock = settings, steps, rate, monitored, clock
        self.end = settings.epochs  # after this epoch; less once the rate falls
        self.stopped = ""  # one of the reasons above; empty: nothing has ended training yet
        self.losses: list[float] = []  # of validation, of each epoch
        self.accuracies: list[float] = []  # likewise

    def on_train_begin(self, logs: Any = None) -> None:
        """Keras's hook."""
        self.began = self.clock()
        if self._is_stable() and not self._fits(0, self.settings.epochs):
            self._decay(0, EPOCHS, self.settings.epochs)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Keras's hook; epochs count from 0."""
        done, settings = epoch + 1, self.settings
        room, in_time = settings.epochs - done, self._in_time(done)
        limit, room = (MINUTES, in_time) if in_time < room else (EPOCHS, room)
        if self._is_stable():
            figures, wanted = logs or {}, decay_epochs(settings, done, self.steps)
            self.losses.append(figures[self.monitored])
            self.accuracies.append(figures[ACCURACY])
            if (why := self._is_done()) and wanted <= room:
                self._decay(done, why, wanted)
            elif not self._fits(done, room):
                self._decay(done, limit, room)
        elif not self.stopped and room < 1:
            self.stopped, self.end = limit, done
        if done >= self.end:
            self.model.stop_training = True

    @property
    def has_fallen(self) -> bool:
        """Return whether training ended with the rate at zero, at the end of its schedule.

        Where minutes were over sooner than they seemed to be, none were left for the fall.
        """
        if self.settings.schedule == phases.WSD:
            return bool(self.stopped) and float(tf.convert_to_tensor(self.rate.begin)) < self.end * self.steps
        return bool(self.stopped) and self.settings.schedule == "cosine"

    def _is_stable(self) -> bool:
        """Return whether the rate has yet to fall."""
        return self.settings.schedule == phases.WSD and not self.stopped

    def _is_done(self) -> str:
        """Return why the rate need not stay: of the last epochs the loss is flat, or the accuracy enough; else empty.

        No sooner than the rate has risen. An accuracy is enough that was there in each of them.
        """
        window = self.window
        if len(self.losses) < window or len(self.losses) * self.steps < warmup_steps(self.settings, self.steps):
            return ""
        if 0 < self.settings.target_accuracy <= min(self.accuracies[-window:]) + ROUNDING:
            return TARGET
        return FLAT if self._is_flat(window) else ""

    def _is_flat(self, window: int) -> bool:
        """Return whether the mean loss of the last epochs is about that of as many before them.

        Means, since a loss goes up and down by more than it falls in an epoch: by the lowest loss so far, three
        unlucky epochs would end a training that is still learning.
        """
        latest, before = self.losses[-window:], self.losses[-2 * window : -window]
        if len(before) < window:
            return False
        return not falls(self.settings, sum(latest) / window, sum(before) / window)

    @property
    def window(self) -> int:
        """Return of how many epochs means are taken.

        They are so few that two of them and the fall fit into all epochs, and into what a task takes that learns
        nothing: as many epochs as larger sets may have at most, or two of the shortest falls.
        """
        wanted = math.ceil(phases.counted(self.settings.flat_epochs, self.steps))
        shortest = math.ceil(phases.counted(2 * FEWEST_DECAY, self.steps))
        longest = min(self.settings.epochs, max(phases.EPOCHS, shortest))
        for fewer in range(wanted, 1, -1):
            if 2 * fewer + decay_epochs(self.settings, 2 * fewer, self.steps) <= longest:
                return fewer
        return 1

    def _in_time(self, done: int) -> int:
        """Return for how many epochs more the minutes are enough, if they take as long as those before."""
        if not self.settings.minutes:
            return self.settings.epochs
        elapsed = self.clock() - self.began
        return max(int((60 * self.settings.minutes - elapsed) * done / max(elapsed, 1e-9)), 0)

    def _fits(self, done: int, room: int) -> bool:
        """Return whether one more epoch leaves room for the fall that would follow it."""
        return 1 + decay_epochs(self.settings, done + 1, self.steps) <= room

    def _decay(self, done: int, why: str, epochs: int) -> None:
        self.stopped, self.end = why, done + epochs
        self.rate.fall(done * self.steps, self.end * self.steps)
        reason = {
            FLAT: "the validation loss is flat",
            TARGET: f"validation accuracy has stayed at {self.settings.phase}.{why}",
        }.get(why, f"{self.settings.phase}.{why} leave no time for more")
        console.say(f"after epoch {done} {reason}: the rate falls to zero in {epochs} more")
