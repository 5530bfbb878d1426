"""Whether phase 2 helped, by the validation images: its best epoch against its start, and whether it ended too early.

Both are losses of the same images, so their difference is looked at image by image. Two means tell nothing of it: with
few images either may be the lower one by chance. So the start is kept only where training has made it worse by more
than chance does, and where it was not given the time to do better, that is said.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from thaw.config import phases
from thaw.training import schedule
from thaw.training.fit_settings import FitSettings

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Change:
    """The change of the mean validation loss by training, with its interval; below zero it helped."""

    change: float
    low: float | None  # None: one unit alone tells nothing of the others
    high: float | None
    units: int  # independent images, or groups of those that are alike
    error: float = 0.0  # standard error of the change, where ``low`` is a number

    @property
    def is_worse(self) -> bool:
        """Return whether training did harm: the loss rose by more than a standard error.

        Of two models that the images cannot tell apart the trained one is kept: the one-standard-error rule (Breiman
        et al., 1984, Classification and Regression Trees). To ask for 95 % would keep what is worse of few images.
        One unit has no standard error, and any rise of it may be chance.
        """
        return self.low is not None and self.change > self.error

    @property
    def is_shown_worse(self) -> bool:
        """Return whether the loss rose for sure, by the interval."""
        return self.low is not None and self.low > 0

    def record(self) -> dict[str, Any]:
        """Return the figures under the names that the metrics have."""
        found = {"change": self.change, "low": self.low, "high": self.high}
        return {f"val_loss_{name}": value for name, value in found.items()} | {"units": self.units}


def compare(before: NDArray[np.floating[Any]], after: NDArray[np.floating[Any]], units: Sequence[str | int]) -> Change:
    """Return how the losses of the same images have changed.

    Images of one unit are one observation: the variance is that of the units' sums (the ratio estimator of cluster
    sampling; Cochran, 1977, Sampling Techniques), and the interval Student's, by the number of units.

    Args:
        before: (images,) cross-entropies.
        after: (images,), of the same images.
        units: (images,), the same for images that are alike.
    """
    differences = after.astype(np.float64) - before.astype(np.float64)
    numbers = np.unique(np.asarray(units), return_inverse=True)[1]
    sums, sizes = np.bincount(numbers, differences), np.bincount(numbers)
    mean, count = float(differences.mean()), len(sizes)
    if count < 2:
        return Change(mean, None, None, count)
    error = math.sqrt(count / (count - 1) * float(np.square(sums - sizes * mean).sum())) / len(differences)
    reach = float(special.stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * error
    return Change(mean, mean - reach, mean + reach, count, error)


def too_early(settings: FitSettings, losses: Sequence[float], start: float, best: int, stopped: str) -> str:
    """Return what to set so that training goes on for longer; empty if it did not end too early.

    Args:
        losses: of validation, of each epoch.
        start: the same before the first.
        best: the epoch of the lowest of them, from 1; 0: the start is kept.
        stopped: why training ended, as ``thaw.training.schedule`` says it.
    """
    last, earlier = losses[-1], min(losses[:-1], default=start)
    is_falling = schedule.falls(settings, last, earlier)
    ran_out, is_last = stopped in (schedule.EPOCHS, schedule.MINUTES), best == len(losses)
    # What was cut short had not become flat before. Where it had, the fall of the loss is that of the rate.
    was_cut = ran_out and is_last and settings.schedule == phases.WSD
    if not (was_cut or (is_falling and (best == 0 or (ran_out and is_last)))):
        return ""
    group = settings.phase
    if stopped == schedule.MINUTES:
        return f"set {group}.minutes above {settings.minutes:g}, or to 0"
    if stopped == schedule.EPOCHS:
        end = "" if settings.schedule == phases.WSD else f", or {group}.schedule={phases.WSD}, which ends by itself"
        return f"set {group}.epochs above {settings.epochs}{end}"
    if stopped == schedule.TARGET:
        higher = f"above {settings.target_accuracy:g}, or " if settings.target_accuracy < 1 else ""
        return f"set {group}.target_accuracy {higher}to 0"
    if stopped == schedule.FLAT:
        return f"set {group}.flat_epochs above {settings.flat_epochs}"
    return f"set {group}.patience above {settings.patience}"
