"""Measure a cosine that is extended while it pays: ``python -m benchmarks.extended_cosine --data DIR …``.

It stands beside the default. The rate falls to zero over some epochs. If the validation loss is then lower than where
it had fallen to zero before, it begins again at the full rate and falls over twice as many (warm restarts: Loshchilov
& Hutter, "SGDR", 2017, arXiv:1608.03983). All else is the default's: depth, MixUp, averaged weights unless turned off.
"""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from benchmarks import trials
from thaw.runtime.framework import keras
from thaw.training import schedule
from thaw.training.fit_settings import FitSettings

GROWTH = 2  # of each cosine's length from that before


class Extended(schedule.Ending):
    """Ends training where a cosine has ended no better than the one before it."""

    first = 10  # epochs of the first cosine

    def on_train_begin(self, logs: Any = None) -> None:
        """Keras's hook."""
        super().on_train_begin(logs)
        self.length, self.end, self.lowest = self.first, self.settings.epochs, float("inf")
        self.due = self.length

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Keras's hook; epochs count from 0."""
        if epoch + 1 == self.due:
            loss = (logs or {})[self.monitored]
            if not loss < self.lowest * (1 - self.settings.min_improvement):
                self.stopped, self.end = schedule.FLAT, epoch + 1
            self.lowest = min(self.lowest, loss)
            self.length *= GROWTH
            self.due += self.length
        super().on_epoch_end(epoch, logs)


@contextmanager
def instead(first: int) -> Iterator[None]:
    """Let phase 2's cosine be extended inside.

    Args:
        first: epochs of the first one.
    """
    rate, ending = schedule.rate, schedule.Ending

    def again(settings: FitSettings, steps: int) -> Any:
        """Return the cosines one after the other for phase 2, and the product's own rate for phase 1."""
        if settings.phase != "phase2":
            return rate(settings, steps)
        return keras.optimizers.schedules.CosineDecayRestarts(settings.learning_rate, first * steps, t_mul=GROWTH)

    def either(settings: FitSettings, *more: Any) -> schedule.Ending:
        return (Extended if settings.phase == "phase2" else ending)(settings, *more)

    schedule.rate, schedule.Ending, Extended.first = again, either, first  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        schedule.rate, schedule.Ending = rate, ending  # type: ignore[misc]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trials.add_arguments(parser)
    parser.add_argument("--first", type=int, default=10, help="epochs of the first cosine (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=256, help="at most (default: %(default)s)")
    options = parser.parse_args()
    cosine = ["phase2.schedule=cosine", f"phase2.epochs={options.epochs}", f"phase2.patience={options.epochs}"]
    ways = {
        "extended cosine, averaged weights": cosine,
        "extended cosine": [*cosine, "phase2.average_epochs=0"],
    }
    trials.beside_default("extended_cosine", ways, partial(instead, options.first), options)


if __name__ == "__main__":
    main()
