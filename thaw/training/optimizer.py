"""The optimiser: Adam, and what phase 2 may ask of it besides. Rates by depth, weight decay.

The lower a layer lies, the more general is what it has learned, and the less a new task should move it. So the rate
may fall from block to block (``phase2.layer_decay``; Clark et al., 2020, arXiv:2003.10555, and for images Bao et al.,
2021, arXiv:2106.08254). Weight decay is AdamW's (Loshchilov and Hutter, 2017, arXiv:1711.05101).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from thaw.runtime.framework import keras, tf
from thaw.training import averaging
from thaw.training.fit_settings import FitSettings


def optimiser(
    settings: FitSettings, rate: Any, by_path: Mapping[str, int], trained: Sequence[keras.Variable], steps: int
) -> keras.Optimizer:
    """Return Keras's own Adam, or AdamW, unless rates by depth are asked for.

    Args:
        rate: a number or a schedule.
        by_path: as ``thaw.networks.freeze_boundaries.depths`` gives it; a variable that is not there is the head's.
        trained: all variables that it will train.
        steps: of an epoch.
    """
    average = averaging.options(settings.average_epochs, steps)
    if settings.layer_decay < 1:
        return ByDepth(rate, by_path, settings.layer_decay, settings.weight_decay, **average)
    adam = keras.optimizers.Adam(rate, weight_decay=settings.weight_decay or None, **average)
    adam.exclude_from_weight_decay([variable for variable in trained if not _decays(variable)])
    return adam


def _decays(variable: Any) -> bool:
    """Return whether weight decay is for a variable: not for biases and norms, which have one axis."""
    return len(variable.shape) > 1


def describe(settings: FitSettings, by_path: Mapping[str, int], trained: Sequence[keras.Variable]) -> str:
    """Return one line for people on what the rates by depth are here; empty if all are alike."""
    if settings.layer_decay == 1:
        return ""
    deepest = max((by_path[variable.path] for variable in trained if variable.path in by_path), default=0)
    lowest = settings.learning_rate * settings.layer_decay**deepest
    return f"rate {settings.learning_rate:.1e} in the head, {lowest:.1e} in the lowest of {deepest} blocks"


class ByDepth(keras.optimizers.Adam):  # type: ignore[misc]  # Keras has no stubs
    """Adam with a factor on each variable's step, and decay of kernels in proportion to that step.

    The factor comes after Adam's division by the size of the gradient, which would take out any factor before it.
    The decay is not Keras's own (``weight_decay``), which is by the optimiser's one rate, in the lowest block too.

    Args:
        rate: a number or a schedule.
        by_path: blocks from the top, by the variable's path; 0, the head, where there is none.
        layer_decay: a block's rate as a share of that of the block above it.
        decay: share of itself that a kernel loses in a step, times the rate.
        average: what Keras's optimisers take besides, as ``thaw.training.averaging`` gives it.
    """

    def __init__(self, rate: Any, by_path: Mapping[str, int], layer_decay: float, decay: float, **average: Any):
        super().__init__(rate, **average)
        self.by_path, self.layer_decay, self.decay = dict(by_path), layer_decay, decay

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Keras's hook, called once with all that is trained."""
        self.variable_depths = [self.by_path.get(variable.path, 0) for variable in variables]
        super().build(variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Keras's hook, called for each variable in each step."""
        depth = self.variable_depths[self._get_variable_index(variable)]
        rate = tf.cast(learning_rate, variable.dtype) * self.layer_decay**depth
        if self.decay and _decays(variable):
            self.assign_sub(variable, variable * (self.decay * rate))
        super().update_step(gradient, variable, rate)
