"""Measure schedule-free Adam in phase 2 against the default: ``python -m benchmarks.schedule_free --data DIR …``.

Its rate rises and stays, and what is validated and kept is the mean of all steps, so it needs no end to be known
before (Defazio et al., 2024, arXiv:2405.15682). It is Keras's own optimiser, put in the place of the product's; what
it keeps for an average is handed over as the moving average that phase 2 validates and saves.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks import trials
from thaw.runtime.framework import keras
from thaw.training import fit_settings, optimizer

FREE = "schedule-free Adam"


class ScheduleFree(keras.optimizers.ScheduleFreeAdamW):  # type: ignore[misc]  # Keras has no stubs
    """Keras's optimiser whose mean of all steps stands where other optimisers have their moving average."""

    def _update_model_variables_moving_average(self, trainable_variables: Sequence[Any]) -> None:
        """Keras's hook after a step. What is trained lies between the last step and the mean of all."""
        averages = self._model_variables_moving_average
        for variable, step, mean in zip(trainable_variables, self._momentums, averages, strict=True):
            mean.assign((variable - (1 - self.beta_1) * step) / self.beta_1)


@contextmanager
def instead() -> Iterator[None]:
    """Let phase 2 train with it inside."""
    own = optimizer.optimiser

    def free(
        settings: fit_settings.FitSettings,
        rate: Any,
        by_path: Mapping[str, int],
        trained: Sequence[keras.Variable],
        steps: int,
    ) -> keras.Optimizer:
        """Return it for phase 2, and the product's own for phase 1."""
        if settings.phase != "phase2":
            return own(settings, rate, by_path, trained, steps)
        return ScheduleFree(rate, weight_decay=None, use_ema=True, ema_momentum=0.0)

    optimizer.optimiser = free
    try:
        yield
    finally:
        optimizer.optimiser = own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trials.add_arguments(parser)
    parser.add_argument("--epochs", type=int, nargs="+", default=[30, 75], help="(default: %(default)s)")
    parser.add_argument("--rates", nargs="+", default=["3e-4", "1e-3"], help="(default: %(default)s)")
    options = parser.parse_args()
    constant = ["phase2.schedule=constant", "phase2.allow_high_rate=true"]
    ways = {
        f"{FREE}, {rate}, {epochs} epochs": [
            *constant,
            f"phase2.learning_rate={rate}",
            f"phase2.epochs={epochs}",
            f"phase2.patience={epochs}",
        ]
        for rate in options.rates
        for epochs in options.epochs
    }
    trials.beside_default("schedule_free", ways, instead, options)


if __name__ == "__main__":
    main()
