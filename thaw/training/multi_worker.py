"""Data-parallel training in several processes: each takes its share of every batch, and all take the same step.

Each process has the whole model, and draws the same batches in the same order. Of each it reads only its own rows, and
those that MixUp mixes them with. Gradients, losses and right answers are added up over all workers before the
optimiser takes its step, so what one process would compute is kept to rounding errors, also where a batch does not
divide evenly: the loss is a sum over all workers divided by the batch's images, and what fills a share up counts
nowhere. Validation is shared in the same way, so that all have the same figures, to the last bit, and all decide alike
when training ends.

Two things are each worker's own, as they are each device's in ``thaw.training.replicas``: dropout draws the same mask
for each share, and under ``phase2.batch_norm=train`` a worker normalises by the statistics of its share, while the
moving ones are means over the workers.
"""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from thaw.runtime import threads, workers
from thaw.runtime.framework import keras, tf
from thaw.runtime.team import Team
from thaw.training import feed, mixing, replicas, targets


def shared(model: keras.Model, train: mixing.Mixed, val: mixing.Mixed, team: Team) -> feed.Fed:
    """Return the model as this worker trains it, and what brings it its rows of each batch.

    Args:
        model: activations → logits. It shares its weights with the model that comes back.
        train, val: as ``thaw.features.inputs.batches`` gives them, the same in each worker.
        team: of ``workers.here``.
    """
    shape = tuple(model.input_shape[1:])
    own = [Rows(each, team) for each in (train, val)]
    read, check = (replicas.dataset(each.epoch, each.batches, each.size, shape) for each in own)
    return feed.Fed(Shared(model, team.count), read, check, [feed.Turn(own[0].batches)], compiled=lambda _: {})


class Rows:
    """A worker's rows of each batch, filled up to as many as the others have; no other is read.

    Args:
        batches: whole ones.
        team: whose workers divide them, in the order of the rows.
    """

    def __init__(self, batches: mixing.Mixed, team: Team):
        self.batches, self.read = copy.copy(batches), batches.source
        # What a batch is, its own code says: here it gives numbers in place of inputs.
        self.batches.source = lambda indices, views: np.stack([indices, views], axis=1)
        self.batches.blend = _apart  # type: ignore[method-assign]
        self.size = math.ceil(batches.batch_size / team.count)
        self.rows = np.arange(self.size) + team.number * self.size

    def epoch(self) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]:
        """Yield the rows of an epoch's batches as ``replicas.filled`` gives them, read one batch ahead."""
        return threads.ahead(self[number] for number in range(len(self.batches)))

    def __getitem__(self, number: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        drawn, labels, *weights = self.batches[number]
        images = len(labels)
        rows, real = self.rows % images, (self.rows < images).astype(np.float32)
        if isinstance(drawn, tuple):
            drawn, share, others = drawn
            values, mixed_in = self._read(drawn, rows, others[rows])
            values = mixing.blended(values, share[rows], mixed_in)
        else:
            (values,) = self._read(drawn, rows)
        given = {
            "inputs": values,
            "weights": real * weights[0][rows] if weights else real.copy(),
            "images": np.full(self.size, images, np.float32),
        }
        return given, labels[rows], real

    def _read(self, drawn: np.ndarray, *places: np.ndarray) -> list[np.ndarray]:
        """Return the inputs at some places of a batch, of which each is read once: (b, 2) int64, (n,) → (n, ...)."""
        wanted = np.unique(np.concatenate(places))
        values = np.asarray(self.read(drawn[wanted, 0], drawn[wanted, 1]), np.float32)
        return [values[np.searchsorted(wanted, each)] for each in places]


def _apart(values: np.ndarray, share: np.ndarray, others: np.ndarray) -> Any:
    """Return what is mixed once it is read, in place of ``Mixed.blend``."""
    return values, share, others


class Shared(keras.Model):  # type: ignore[misc]  # Keras has no stubs
    """A model whose steps are taken with the sums over all workers. Its inputs are those of ``replicas.Spread``.

    Args:
        model: activations → logits, whose variables it shares.
        count: of workers.
    """

    def __init__(self, model: keras.Model, count: int):
        super().__init__(model.inputs, model.outputs, name=model.name)
        self.count = count
        self.stateless = model.stateless_call
        self.states: Callable[[], list[Any]] = lambda: (
            model.non_trainable_variables
        )  # not a list, whose variables Keras would count twice
        self.figures = [keras.metrics.Mean(name) for name in ("loss", "cross_entropy", "accuracy")]

    def train_step(self, data: Any) -> dict[str, Any]:
        """Keras's hook: a step, with this worker's rows of a batch."""
        given, labels, real = data
        trained = [variable.value for variable in self.trainable_variables]
        before = [tf.convert_to_tensor(variable.value) for variable in self.states()]
        with tf.GradientTape() as tape:
            logits, after, losses = self.stateless(trained, before, given["inputs"], training=True, return_losses=True)
            each = targets.cross_entropy(labels, logits)
            part = tf.reduce_sum(each * given["weights"]) / given["images"][0] + sum(losses) / self.count
        gradients = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(part, trained)]
        # Only what has changed: a mean of what is frozen could differ from it in the last bit.
        changed = [(own, new) for own, old, new in zip(self.states(), before, after, strict=True) if new is not old]
        means = [(own, new) for own, new in changed if new.dtype == tf.float32]  # statistics of batches
        sums = workers.add_up(
            [*gradients, *(new / self.count for _, new in means), *_sums(part, each, labels, logits, real)]
        )
        self.optimizer.apply_gradients(zip(sums[: len(gradients)], self.trainable_variables, strict=True))
        for own, new in changed:  # what draws at random has a state, which every worker moves on alike
            own.assign(new)
        for (own, _), mean in zip(means, sums[len(gradients) :], strict=False):
            own.assign(mean)
        return self._noted(sums[-4:], given["images"][0])

    def test_step(self, data: Any) -> dict[str, Any]:
        """Keras's hook: figures of a batch of validation images."""
        given, labels, real = data
        logits = self(given["inputs"], training=False)
        each = targets.cross_entropy(labels, logits)
        part = tf.reduce_sum(each * real) / given["images"][0]
        return self._noted(workers.add_up(_sums(part, each, labels, logits, real)), given["images"][0])

    def _noted(self, sums: list[Any], images: Any) -> dict[str, Any]:
        objective, loss, right, count = sums
        for figure, total, weight in zip(
            self.figures, (objective * images, loss, right), (images, count, count), strict=True
        ):
            figure.total.assign_add(total)
            figure.count.assign_add(weight)
        return self.get_metrics_result()

    @property
    def metrics(self) -> list[Any]:
        """Keras's hook: what is reset with each epoch."""
        return self.figures

    def get_metrics_result(self) -> dict[str, Any]:
        """Keras's hook."""
        return {figure.name: figure.result() for figure in self.figures}


def _sums(part: Any, each: Any, labels: Any, logits: Any, real: Any) -> list[Any]:
    """Return this worker's part of the objective, and of its images the losses, the right answers and the number."""
    return [
        part,
        *(tf.reduce_sum(one * real) for one in (each, targets.accuracy(labels, logits))),
        tf.reduce_sum(real),
    ]
