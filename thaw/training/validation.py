"""What a model says of the validation images, and which epoch's weights they choose.

Each loss of a few images is a matter of luck, and the lowest of many of them more than any: its weights are no better
than others, their images suit them. Where the learning rate has fallen to zero, the last weights are those that the
training was for, and twice as often the more accurate ones on other images as the less (docs/performance.md). So it
takes more than a lower loss to go back behind them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw.images.manifest import Batches
from thaw.runtime.framework import keras, tf
from thaw.training import improvement


@dataclass
class Answers:
    """A model's answers to the validation images."""

    loss: NDArray[np.float64]  # (n,) cross-entropy of each
    right: NDArray[np.bool_]  # (n,)


def forward(model: keras.Model) -> Callable[[Any], Any]:
    """Return the model in inference mode, as one graph that is built once."""
    given = model.inputs[0]
    signature = [tf.TensorSpec((None, *given.shape[1:]), given.dtype)]  # one graph, also for a smaller last batch
    return tf.function(lambda inputs: model(inputs, training=False), input_signature=signature)  # type: ignore[no-any-return]


def answers(run: Callable[[Any], Any], val: Batches) -> Answers:
    """Return the cross-entropy of each validation image, and whether it comes out right.

    Args:
        run: of ``forward``.
        val: its targets are labels.
    """
    losses, right = [], []
    for number in range(len(val)):
        inputs, labels = val[number][:2]
        logits = run(tf.constant(inputs)).numpy().astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        losses.append(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels])
        right.append(logits.argmax(axis=1) == labels)
    return Answers(np.concatenate(losses), np.concatenate(right))


def lowest(rows: Sequence[Mapping[str, float]]) -> int:
    """Return the epoch of the lowest validation loss, from 1.

    Args:
        rows: of the history.
    """
    return int(min(rows, key=lambda row: row["val_loss"])["epoch"])


def last_holds(
    model: keras.Model,
    give_back: Callable[[], None],
    last: list[np.ndarray],
    run: Callable[[Any], Any],
    val: Batches,
    start: Answers,
    units: Sequence[str | int],
) -> bool:
    """Put the last epoch's weights in place of the best one's, unless these are better; return whether they stay.

    Better are those of the lowest loss where the interval of the difference says so, and where the last epoch is worse
    than the start.

    Args:
        model: with the weights of the epoch of the lowest loss.
        give_back: of ``feed.Fed``, which brings its weights to the model that is run.
        last: the weights of the last.
        run: of ``forward``.
        val: its targets are labels.
        start: the answers before the first epoch.
        units: of each image, the same for those that are alike.
    """
    best, before = model.get_weights(), answers(run, val)
    model.set_weights(last)
    give_back()
    after = answers(run, val)
    is_worse = improvement.compare(before.loss, after.loss, units).is_shown_worse
    is_worse |= improvement.compare(start.loss, after.loss, units).is_worse
    if is_worse:
        model.set_weights(best)
        give_back()
    return not is_worse
