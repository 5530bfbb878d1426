"""How batches reach the layers that are trained: on a GPU the cached activations lie on the card and are drawn there.

What a batch is, ``thaw.images.manifest.Batches`` and ``thaw.training.mixing`` say, here as elsewhere: which images in
which views, mixed with which others. On a GPU only these numbers leave the host at each step. Where the activations
are too many for the card's memory they follow in the cache's own fp16, ahead of the step that wants them.
"""

import copy
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Protocol, runtime_checkable

import numpy as np

from thaw.images import manifest
from thaw.runtime import devices
from thaw.runtime.framework import keras, tf
from thaw.training import mixing, targets
from thaw.training.read_ahead import ReadAhead

# Steps between two returns to Python, which cost more than a step of a head on pooled features. Where a batch is
# shared it is one: Keras 3.15 can't repeat a distributed step in a graph.
STEPS_AT_ONCE = 8
AHEAD = 16  # batches that wait on the card
SHARE = 0.5  # of the card's free memory, for activations; the rest is the step's
UNKNOWN = 10**9  # bytes free, where nobody says how many there are
CHUNK = 2**28  # bytes that are copied to the card at once


@runtime_checkable
class Kept(Protocol):
    """A ``thaw.images.manifest.Source`` of activations that are kept, such as those of the cache."""

    shape: tuple[int, ...]  # of an image's activations
    row_bytes: int  # of them in half precision

    def __call__(self, indices: np.ndarray, views: np.ndarray) -> np.ndarray:
        """Return the same as float32."""

    def half(self, indices: np.ndarray, views: np.ndarray) -> np.ndarray:
        """Return the activations of (b,) int64 images and (b,) int64 views: (b, *shape) float16."""


@dataclass
class Fed:
    """A model and what ``fit`` and ``evaluate`` take with it."""

    model: keras.Model
    train: Any
    val: Any
    callbacks: list[Any] = field(default_factory=list)
    # What brings the trained weights back to where the model's came from; nothing, where the two share them.
    give_back: Callable[[], None] = lambda: None
    scope: Callable[[], AbstractContextManager[Any]] = nullcontext  # in which the optimiser is made
    # Depths by the paths of the model's own variables, from those by the paths of the variables that they stand for.
    named: Callable[[Mapping[str, int]], Mapping[str, int]] = lambda depths: depths
    # What the model is compiled with, from the figures of a batch's images.
    compiled: Callable[[list[Any]], Mapping[str, Any]] = lambda figures: {
        "loss": targets.cross_entropy,
        "metrics": figures,
        "steps_per_execution": STEPS_AT_ONCE,
    }


def fed(model: keras.Model, train: mixing.Mixed, val: mixing.Mixed) -> Fed:
    """Return the model with what brings it its batches, the fastest way that the device has.

    Args:
        model: activations → logits. It shares its weights with the model that comes back.
        train, val: as ``thaw.features.inputs.batches`` gives them.
    """
    both = copy.copy(train), copy.copy(val)
    readers = [each.source for each in both if isinstance(each.source, Kept)]
    if len(readers) < len(both) or not devices.on_gpu():
        return Fed(keras.Model(model.inputs, model.outputs), ReadAhead(train), ReadAhead(val))
    tables = [_Table(reader, len(each.labels), each.views) for reader, each in zip(readers, both, strict=True)]
    read = _resident(tables)
    first, shape = 0, readers[0].shape
    for each, table in zip(both, tables, strict=True):
        each.source = _numbers(first, table.images) if read else table.reader.half
        each.blend = _apart  # type: ignore[method-assign]
        first += table.images * table.views
    given = keras.Input((), dtype="int32") if read else keras.Input(shape, dtype="float16")
    inputs = [given, keras.Input((), dtype="int32"), keras.Input(())]
    whole = keras.Model(inputs, model(_Blend(read)(*inputs)))
    fed_train, fed_val = (_dataset(each, None if read else shape) for each in both)
    return Fed(whole, fed_train, fed_val, callbacks=[Turn(both[0])])


@dataclass
class _Table:
    """Cached activations of all views of some images."""

    reader: Kept
    images: int
    views: int

    def size(self) -> int:
        """Return the bytes of all of them."""
        return self.images * self.views * self.reader.row_bytes


class _Blend(keras.layers.Layer):  # type: ignore[misc]  # Keras has no stubs
    """Batches of activations, each mixed with another of its batch by its share.

    Args:
        read: the activations of some numbers. None: they are what comes in.
    """

    def __init__(self, read: Callable[[Any], Any] | None):
        super().__init__(dtype="float32", name="blend")
        self.read = read

    def call(self, given: Any, others: Any, share: Any) -> Any:
        """(b,) int32 numbers or (b, ...) float16, (b,) int32 places in the batch, (b,) → (b, ...) float32."""
        values = tf.cast(self.read(given) if self.read else given, tf.float32)
        wide = tf.reshape(share, [-1, *[1] * (len(values.shape) - 1)])
        return wide * values + (1 - wide) * tf.gather(values, others)


class Turn(keras.callbacks.Callback):  # type: ignore[misc]
    """Draws each epoch's batches.

    Keras has those that it reads itself drawn anew before the first epoch too, once it has looked at two of them.
    """

    def __init__(self, batches: manifest.Batches):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Keras's hook."""
        self.batches.on_epoch_end()


def _apart(values: np.ndarray, share: np.ndarray, others: np.ndarray) -> Any:
    """Return what the card mixes, in place of ``Mixed.blend``."""
    return values, others.astype(np.int32), share


def _numbers(first: int, count: int) -> manifest.Source:
    """Return the rows of images and views in the table on the card, in place of what lies there."""
    return lambda indices, views: (first + views * count + indices).astype(np.int32)


def _resident(tables: Sequence[_Table]) -> Callable[[Any], Any] | None:
    """Return what gives the rows of the tables on the card; None where its memory does not hold them.

    What is free may be less than was said: by another process since, or of a part of a card (MIG).
    """
    if sum(table.size() for table in tables) > SHARE * free_memory():
        return None
    try:
        return _on_card(tables)
    except tf.errors.OpError as error:
        if not devices.is_full(error):
            raise
        return None


def _on_card(tables: Sequence[_Table]) -> Callable[[Any], Any]:
    """Copy the tables to the card, one behind the other, part by part; what gives their rows by number."""
    rows, shape = sum(table.images * table.views for table in tables), tables[0].reader.shape
    with tf.device(devices.place()):
        whole = tf.Variable(tf.zeros((rows, *shape), tf.float16), trainable=False)
    position = 0
    for table in tables:
        step = max(1, CHUNK // table.reader.row_bytes)
        for view, first in product(range(table.views), range(0, table.images, step)):
            indices = np.arange(first, min(first + step, table.images))
            values = table.reader.half(indices, np.full(len(indices), view))
            whole[position : position + len(indices)].assign(values)
            position += len(indices)
    return lambda numbers: tf.gather(whole, numbers)


def _dataset(batches: mixing.Mixed, shape: tuple[int, ...] | None) -> Any:
    """Return the batches of an epoch, in the order in which Keras wants them, on their way to the card.

    Args:
        shape: of an image's activations, where they come along; None: their numbers do.
    """

    def epoch() -> Iterator[Any]:
        for inputs, *rest in ReadAhead(batches).epoch():
            count = len(rest[0])
            plain = (inputs, np.arange(count, dtype=np.int32), np.ones(count, np.float32))
            yield (inputs if isinstance(inputs, tuple) else plain, *rest)

    given = tf.TensorSpec((None,), tf.int32) if shape is None else tf.TensorSpec((None, *shape), tf.float16)
    inputs = (given, tf.TensorSpec((None,), tf.int32), tf.TensorSpec((None,), tf.float32))
    plain, mixed = tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None, targets.MIXED), tf.float32)
    signature = [inputs, mixed if batches.mixes else plain]
    if batches.weights is not None:
        signature.append(tf.TensorSpec((None,), tf.float32))
    dataset = tf.data.Dataset.from_generator(epoch, output_signature=tuple(signature))
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))
    dataset = dataset.prefetch(AHEAD)
    if shape is not None and devices.place() != "/CPU:0":
        dataset = dataset.apply(tf.data.experimental.prefetch_to_device(devices.place(), AHEAD))
        # It is lost on the way to the card. Keras would find out by running out of batches, and warn of that.
        dataset.cardinality = lambda: len(batches)
    return dataset


def free_memory() -> int:
    """Return the bytes of GPU memory that nobody uses, of the card of CUDA_VISIBLE_DEVICES that has least of it."""
    if shutil.which("nvidia-smi") is None:
        return UNKNOWN
    words = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    if cards := os.environ.get("CUDA_VISIBLE_DEVICES", ""):
        words.append(f"--id={cards}")  # of a part of a card (MIG) it says nothing
    done = subprocess.run(words, capture_output=True, text=True, encoding="utf-8", check=False)
    found = [int(line) << 20 for line in done.stdout.split("\n") if line.strip().isdecimal()]
    return min(found, default=UNKNOWN)
