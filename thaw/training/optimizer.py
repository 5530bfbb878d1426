"""The optimiser: Adam, and what phase 2 may ask of it besides. Rates by depth, gradual thawing, weight decay.

The lower a layer lies, the more general is what it has learned, and the less a new task should move it. There are two
ways to say so: a rate that falls from block to block (``phase2.layer_decay``; Clark et al., 2020, arXiv:2003.10555,
and for images Bao et al., 2021, arXiv:2106.08254), and blocks that wait for their turn (``phase2.thaw_every``; Howard
and Ruder, 2018, arXiv:1801.06146). Weight decay is AdamW's (Loshchilov and Hutter, 2017, arXiv:1711.05101).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from thaw.config import schema
from thaw.runtime.framework import keras, tf


def optimiser(settings: schema.Phase1 | schema.Phase2, rate: Any, by_path: Mapping[str, int]) -> keras.Optimizer:
    """Keras's own Adam, unless phase 2 asks for more.

    Args:
        rate: a number or a schedule.
        by_path: as ``thaw.networks.freeze_boundaries.depths`` gives it; a variable that is not there is the head's.
    """
    if isinstance(settings, schema.Phase1) or not (
        settings.weight_decay or settings.thaw_every or settings.layer_decay < 1
    ):
        return keras.optimizers.Adam(rate)
    return ByDepth(rate, by_path, settings.layer_decay, settings.weight_decay, gradual=settings.thaw_every > 0)


def describe(
    settings: schema.Phase2, epochs: int, by_path: Mapping[str, int], trained: Sequence[keras.Variable]
) -> str:
    """One line for people on what the two options by depth mean here; empty if neither is used."""
    lie, said = [by_path[variable.path] for variable in trained if variable.path in by_path], []
    deepest = max(lie, default=0)
    if settings.layer_decay < 1:
        lowest = settings.learning_rate * settings.layer_decay**deepest
        said.append(f"rate {settings.learning_rate:.1e} in the head, {lowest:.1e} in the lowest of {deepest} blocks")
    if settings.thaw_every:
        reached = min(deepest, thawed_in(epochs - 1, settings.thaw_every))
        nothing = ", none of those that are to be trained" if reached < min(lie, default=0) else ""
        said.append(f"{reached} of {deepest} blocks thawed within {epochs} epochs{nothing}")
    return "; ".join(said)


def thawed_in(epoch: int, every: int) -> int:
    """How many blocks, from the top, are trained in an epoch, counted from 0."""
    return 1 + epoch // every


class Thawing(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no stubs
    """Lets ``ByDepth`` train one block more every so many epochs."""

    def __init__(self, every: int):
        super().__init__()
        self.every = every

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Keras's hook; epochs count from 0."""
        self.model.optimizer.thawed.assign(thawed_in(epoch, self.every))


class ByDepth(keras.optimizers.Adam):  # type: ignore[misc]  # Keras has no stubs
    """Adam with a factor on each variable's step, and decay of kernels in proportion to that step.

    The factor comes after Adam's division by the size of the gradient, which would take out any factor before it.
    A block that waits is not moved, neither by its step nor by its decay. Its moments follow its gradients in the
    meantime, so that its first step is one of a size that Adam has settled on.

    Args:
        rate: a number or a schedule.
        by_path: blocks from the top, by the variable's path; 0, the head, where there is none.
        layer_decay: a block's rate as a share of that of the block above it.
        decay: share of itself that a variable loses in a step, times the rate. Biases and norms, which have one axis,
            lose nothing.
        gradual: whether blocks wait: only those down to ``thawed`` are trained, at first the head alone.
    """

    def __init__(self, rate: Any, by_path: Mapping[str, int], layer_decay: float, decay: float, *, gradual: bool):
        super().__init__(rate)
        self.by_path, self.layer_decay, self.decay = dict(by_path), layer_decay, decay
        self.thawed = tf.Variable(0, trainable=False, dtype="int32") if gradual else None
        self.moves: Any = None  # whether the variable whose turn it is in the step is one that waits no longer

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Keras's hook, called once with all that is trained."""
        self.variable_depths = [self.by_path.get(variable.path, 0) for variable in variables]
        super().build(variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Keras's hook, called for each variable in each step."""
        depth = self.variable_depths[self._get_variable_index(variable)]
        rate = tf.cast(learning_rate, variable.dtype) * self.layer_decay**depth
        self.moves = None if self.thawed is None else depth <= self.thawed
        if self.decay and len(variable.shape) > 1:
            self.assign_sub(variable, variable * (self.decay * rate))
        super().update_step(gradient, variable, rate)

    def assign_sub(self, variable: Any, value: Any) -> None:
        """Keras's hook, by which a variable is moved."""
        if self.moves is None:
            super().assign_sub(variable, value)
        else:  # less 0 would not do: it makes 0 of a denormal and +0 of -0
            variable.assign(tf.where(self.moves, variable - tf.cast(value, variable.dtype), variable))
