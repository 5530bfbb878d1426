"""Data-parallel training on several devices: each takes its share of every batch, and all take the same step.

``tf.distribute.MirroredStrategy`` keeps a copy of the trained layers on each device and adds up their gradients. The
batch is still ``batch_size`` images, so the learning rate and the number of steps stay as they are. What one device
would compute is kept to rounding errors, also where a batch does not divide evenly: the loss is a sum over all devices
divided by the batch's images, and what fills a share up counts nowhere.

Two things are each device's own. Dropout draws the same mask on each, for its share of the batch. Under
``phase2.batch_norm=train`` a device normalises by the statistics of its share, and the moving ones are means over the
devices.

Keras makes a model's variables where the model is made, and wants them made within the strategy. The classifier is
made long before, so its layers are run on variables that are made here, and these are copied back afterwards.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from thaw.runtime import devices
from thaw.runtime.framework import keras, tf
from thaw.training import feed, mixing, targets
from thaw.training.read_ahead import ReadAhead

AHEAD = 4  # batches that are made while the devices compute


def spread(model: keras.Model, train: mixing.Mixed, val: mixing.Mixed, count: int) -> feed.Fed:
    """Return the model on several devices, and what brings it its batches.

    Args:
        model: activations → logits. It gets its weights back by ``Fed.give_back``.
        train, val: as ``thaw.features.inputs.batches`` gives them.
        count: of devices.

    Raises:
        ValueError: there are fewer, or the model is of a kind that can't be spread.
    """
    strategy = mirrored(tuple(devices.several(count)))
    if any(hasattr(layer, "saved_norms") for layer in model._flatten_layers()):
        raise ValueError(
            f"compute.devices: expected 1 for a SavedModel, whose graph holds its variables itself, received {count}"
        )
    with strategy.scope():
        spread_out = Spread(model)
    size = math.ceil(train.batch_size / count) * count  # one shape for all batches: each new one is traced
    shape = tuple(model.input_shape[1:])
    read, check = (dataset(_epochs(each, size), each, size, shape) for each in (train, val))

    def give_back() -> None:
        for variable, own in zip(model.trainable_variables, spread_out.trained, strict=True):
            variable.assign(own)
        for variable, own in zip(model.non_trainable_variables, spread_out.others, strict=True):
            variable.assign(own)

    def named(depths: Mapping[str, int]) -> dict[str, int]:
        both = zip(model.trainable_variables, spread_out.trained, strict=True)
        return {own.path: depths[variable.path] for variable, own in both if variable.path in depths}

    turn = feed.Turn(train)
    return feed.Fed(
        spread_out,
        read,
        check,
        [turn],
        give_back=give_back,
        scope=strategy.scope,
        named=named,
        compiled=lambda figures: {"weighted_metrics": figures},  # by which rows are images
    )


@lru_cache
def mirrored(names: tuple[str, ...]) -> Any:
    """Return the strategy of some devices: one for all trainings of a process, as its collectives are numbered.

    Parts of a processor would wait for each other in collectives longer than they compute, so they add up on one.
    """
    plain = tf.distribute.ReductionToOneDevice() if "CPU" in names[0] else None
    return tf.distribute.MirroredStrategy(list(names), cross_device_ops=plain)


def filled(batch: tuple[np.ndarray, ...], size: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return a batch as ``Spread`` takes it, filled up to so many rows.

    Images are repeated to fill it up, so that statistics of batches are still those of images.

    Args:
        batch: (b, ...) float32 inputs, (b, ...) targets, perhaps (b,) float32 weights.
        size: b or more.

    Returns:
        The inputs, the targets, and (size,) float32 which rows are images.
    """
    inputs, labels, *weights = batch
    images, inputs = len(inputs), np.asarray(inputs)  # what a card has streamed is a tensor
    rows, real = np.arange(size) % images, (np.arange(size) < images).astype(np.float32)
    # Never one array twice: TensorFlow takes each for its own memory, and computes in it.
    weight = real * weights[0][rows] if weights else real.copy()
    given = {"inputs": inputs[rows], "weights": weight, "images": np.full(size, images, np.float32)}
    return given, labels[rows], real


def _epochs(batches: mixing.Mixed, size: int) -> Callable[[], Iterator[Any]]:
    """Return what gives an epoch's batches; the strategy divides each among its devices, from the first row on."""
    return lambda: (filled(batch, size) for batch in ReadAhead(batches).epoch())


def dataset(epoch: Callable[[], Iterator[Any]], batches: mixing.Mixed, size: int, shape: tuple[int, ...]) -> Any:
    """Return an epoch's batches in their order, as Keras wants them.

    Args:
        epoch: gives them, each as ``filled`` does.
        batches: what they are made of.
        size: rows of each.
        shape: of the inputs of an image.
    """
    each = tf.TensorSpec((size,), tf.float32)
    given = {"inputs": tf.TensorSpec((size, *shape), tf.float32), "weights": each, "images": each}
    plain, mixed = tf.TensorSpec((size,), tf.int64), tf.TensorSpec((size, targets.MIXED), tf.float32)
    signature = given, mixed if batches.mixes else plain, each
    made = tf.data.Dataset.from_generator(epoch, output_signature=signature)
    return made.apply(tf.data.experimental.assert_cardinality(len(batches))).prefetch(AHEAD)


class Spread(keras.Model):  # type: ignore[misc]  # Keras has no stubs
    """A model whose layers run on variables of their own, of which each device has a copy.

    Its inputs are a dictionary: ``inputs`` of the model, (b, ...); ``weights`` in the loss, (b,); ``images`` of the
    whole batch, (b,), all the same. The sample weight says which rows are images (1) and which fill up (0).

    Args:
        model: activations → logits. Its own variables are only read.
    """

    def __init__(self, model: keras.Model):
        super().__init__(name=model.name)
        self.stateless = model.stateless_call  # not the model, or its variables would be this one's too
        self.trained = [self._own(variable, "none") for variable in model.trainable_variables]
        # What draws at random has a state, which every device moves on alike; statistics of batches are averaged.
        self.others = [
            self._own(variable, "mean" if keras.backend.is_float_dtype(variable.dtype) else "none")
            for variable in model.non_trainable_variables
        ]
        self.objective = keras.metrics.Mean("objective")
        self.built = True

    def _own(self, variable: keras.Variable, aggregation: str) -> keras.Variable:
        own = self.add_weight(
            shape=variable.shape,
            initializer="zeros",  # until it is assigned
            dtype=variable.dtype,
            trainable=variable.trainable,
            constraint=variable.constraint,
            aggregation=aggregation,
            name=variable.path.replace("/", "_"),
        )
        own.assign(variable)
        return own

    def call(self, given: dict[str, Any], training: bool = False) -> Any:
        """Return the logits, (b, classes), and note what has changed besides them: states and penalties."""
        before = [tf.convert_to_tensor(variable.value) for variable in self.others]
        trained = [variable.value for variable in self.trained]
        logits, after, losses = self.stateless(trained, before, given["inputs"], training=training, return_losses=True)
        for variable, old, new in zip(self.others, before, after, strict=True):
            if new is not old:
                variable.assign(new)
        for loss in losses:
            self.add_loss(loss)
        return logits

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Return this device's part of the objective; the sum over the devices is the whole batch's."""
        devices = tf.distribute.get_strategy().num_replicas_in_sync
        images = x["images"][0]
        each = targets.cross_entropy(y, y_pred)
        part = tf.reduce_sum(each * x["weights"]) / images + sum(self.losses) / devices
        self.objective.update_state(part * devices, sample_weight=images / devices)
        return part

    def get_metrics_result(self) -> dict[str, Any]:
        """Keras's hook. Its own mean of the objective counts what fills up the last batch."""
        found = dict(super().get_metrics_result())
        return found | {"loss": found.pop("objective")}
