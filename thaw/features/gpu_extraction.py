"""The way to the frozen layers on a GPU: files are decoded on all cores, all else is done on the card, batch by batch.

A core decodes a JPEG in a third of the time that it takes to decode and to fit it, so pictures go to the card as they
are decoded, in uint8, and are fitted there: a resize is two products with matrices (``thaw.images.fitting``). The
random views are made there too, and the activations come back as they are kept, while the next batch is computed. What
is larger than twice the input square is fitted by the processor, since it is no less to carry.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from thaw import console
from thaw.config import schema
from thaw.features import engines
from thaw.images import augment, fitting, manifest, reading
from thaw.runtime import devices, threads
from thaw.runtime.framework import keras, tf

# Grey levels of 255 by which a view may differ from the processor's, in all but one of ten thousand pixels.
MOVED = 0.5
BATCH = 128  # images a step where compute.extract_batch_size is auto

Made = TypeVar("Made")
Fields = fitting.Fields  # of a batch, as ``fitting.picture`` gives them of an image
Views = tuple[int, list[str], list[np.ndarray]]  # a view's number, the images' hashes, what comes out of each cut


@dataclass
class Wanted:
    """An image and the views of it that are missing."""

    path: str
    sha256: str
    views: tuple[int, ...]  # sorted; 0 is the image as it is


class Card:
    """The GPU's work on a batch, in parts that its memory holds.

    Args:
        size: images at once, until that is too many.
    """

    def __init__(self, layers: engines.Widening, image: schema.Image, settings: schema.Augment, size: int):
        self.layers, self.size = layers, size
        self.busy = Lock()  # with what is streamed: a thread reads ahead, and others may ask
        pixels, flat = tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((None, None))
        pictures = tf.TensorSpec((None, None, None, 3), tf.uint8)
        self.fit = tf.function(
            fitting.fitter(image), input_signature=[pictures, tf.TensorSpec((None, 2), tf.int32), pixels]
        )
        self.move = tf.function(augment.moved(settings), input_signature=[pixels, flat, flat])

    def fitted(self, fields: Fields) -> tf.Tensor:
        """Return the pictures as the network takes them: (batch, size, size, 3) float32 in [0, 255]."""
        return self._in_parts(lambda: tf.concat([self.fit(*part) for part in self._parts(fields)], axis=0))

    def launched(self, pixels: tf.Tensor, drawn: Fields = (), clean: Any = None) -> Callable[[], list[np.ndarray]]:
        """Start the layers on views; what is returned waits for the outputs, (batch, ...) each.

        Args:
            pixels: of ``fitted``.
            drawn: of ``augment.drawn``; none: the pictures as they are.
            clean: (batch,) bool, the pictures that stay as they are. None: all or none, as there is something drawn.
        """

        def start() -> list[tuple[tf.Tensor, list[tf.Tensor]]]:
            started = []
            for part, *chance in self._parts((pixels, *drawn)):
                views = self.move(part, *chance[:2]) if chance else part
                if chance[2:]:
                    views = tf.where(chance[2][:, None, None, None], part, views)
                started.append((views, self.layers.launched(views)))
            return started

        if clean is not None:
            drawn = (*drawn, tf.constant(clean))
        running = self._in_parts(start)

        def wait() -> list[np.ndarray]:
            nonlocal running
            again = False

            def fetch() -> list[np.ndarray]:
                nonlocal running, again
                running = start() if again else running
                again = True
                parts = [self.layers.fetched(outputs, views) for views, outputs in running]
                return [np.concatenate(each) for each in zip(*parts, strict=True)]

            return self._in_parts(fetch)

        return wait

    def _parts(self, fields: Fields) -> Iterator[Fields]:
        count = int(fields[0].shape[0])
        if self.size >= count:
            yield fields
        else:
            for first in range(0, count, self.size):
                yield tuple(field[first : first + self.size] for field in fields)

    def _in_parts(self, make: Callable[[], Made]) -> Made:
        """Make it; where the memory is full, halve the parts and try again.

        Raises:
            ValueError: the memory is too small for one image.
        """
        while True:
            try:
                with devices.enough_memory("compute.extract_batch_size", self.size):
                    return make()
            except ValueError as error:
                if self.size == 1 or not isinstance(error.__cause__, tf.errors.OpError):
                    raise
                self.size = -(-self.size // 2)
                console.warn(f"the memory of {devices.name()} is full; images go on {self.size} at a time")


def card(
    frozen: keras.Model, image: schema.Image, settings: schema.Augment, size: int, kept: tf.DType = tf.float32
) -> Card:
    """Return what takes pictures through the frozen layers.

    Args:
        frozen: (batch, size, size, 3) float32 in [0, 255] → one or more outputs.
        size: images at once.
        kept: the type of the outputs.
    """
    return Card(engines.Widening(frozen, kept), image, settings, size)


def outputs(card: Card, image: schema.Image, settings: schema.Augment, wanted: Sequence[Wanted]) -> Generator[Views]:
    """Yield what the frozen layers make of each view that is missing; a batch is fetched while the next is computed.

    Raises:
        ValueError: an image has changed since it was prepared.
    """
    waiting: list[tuple[int, list[str], Callable[[], list[np.ndarray]]]] = []

    def finished(most: int) -> Iterator[Views]:
        while len(waiting) > most:
            view, shas, wait = waiting.pop(0)
            yield view, shas, [output[: len(shas)] for output in wait()]

    with closing(threads.ahead(_batches(image, settings, wanted, card.size))) as batches:
        for batch, fields, drawn in batches:
            pixels, shas = card.fitted(fields), [each.sha256 for each in batch]
            views = batch[0].views
            for view in views:
                place = views.index(view) - (0 in views)
                chance = tuple(each[:, place] for each in drawn) if view else ()
                waiting.append((view, shas, card.launched(pixels, chance)))
                yield from finished(1)
    yield from finished(0)


def _batches(
    image: schema.Image, settings: schema.Augment, wanted: Sequence[Wanted], size: int
) -> Generator[tuple[list[Wanted], Fields, Fields]]:
    """Batches on the card, all of one number of images, of which the last may be black; what is drawn for each view.

    All images of a batch miss the same views.
    """
    groups = groupby(sorted(wanted, key=lambda each: each.views), key=lambda each: each.views)
    alike = [list(group) for _, group in groups]
    batches = [group[first : first + size] for group in alike for first in range(0, len(group), size)]
    filled = [each for batch in batches for each in [*batch, *[None] * (size - len(batch))]]
    paths, hashes = [each.path if each else "" for each in filled], [each.sha256 if each else "" for each in filled]
    most = max((len(set(each.views) - {0}) for each in wanted), default=0)
    prepare = _prepared(image, settings)

    def made(item: tuple[list[Wanted], tuple[tf.Tensor, tf.Tensor]]) -> tuple[list[Wanted], Fields, Fields]:
        batch, files = item
        seeds = np.zeros((size, most, 2), np.int32)
        for place, each in enumerate(batch):
            views = [view for view in each.views if view]
            seeds[place, : len(views)] = augment.view_seeds(settings, [each.sha256] * len(views), views)
        fields, drawn = prepare(*files, seeds.reshape(-1, 2))
        return batch, _carried(fields), _carried([tf.reshape(each, (size, most, each.shape[-1])) for each in drawn])

    with closing(reading.batches(paths, hashes, size)) as files, manifest.told():
        yield from threads.overlapped(made, (item for item in zip(batches, files, strict=True)))


def _prepared(image: schema.Image, settings: schema.Augment) -> Callable[..., tuple[Fields, Fields]]:
    """Return a function on the processor from files' bytes and orientations, and seeds, to pictures and what is drawn.

    Returns:
        (n,) string, (n,) int32, (m, 2) int32 → the fields of n pictures, as ``fitting.decoder`` makes them; of
        ``augment.drawn``.
    """
    decode, draw = fitting.decoder(image), augment.drawn(settings, image.size)
    kinds = tf.TensorSpec((None,), tf.string), tf.TensorSpec((None,), tf.int32), tf.TensorSpec((None, 2), tf.int32)
    both = tf.function(lambda encoded, turned, seeds: (decode(encoded, turned), draw(seeds)), input_signature=kinds)

    def prepare(encoded: tf.Tensor, turned: tf.Tensor, seeds: np.ndarray) -> tuple[Fields, Fields]:
        with tf.device("/CPU:0"):
            fields, drawn = both(encoded, turned, seeds)
        return fields, drawn

    return prepare


def _carried(fields: Sequence[tf.Tensor]) -> Fields:
    with tf.device(devices.place()):
        return tuple(tf.identity(field) for field in fields)


def streamed(card: Card, image: schema.Image, settings: schema.Augment, split: manifest.Images) -> manifest.Source:
    """The activations at the first cut whenever they are asked for, float32, from views that need not be kept."""
    prepare = _prepared(image, settings)
    most = 0  # images of the largest batch so far: smaller ones are filled up to it, since each size takes seconds

    def activations(indices: np.ndarray, views: np.ndarray) -> np.ndarray:
        nonlocal most
        most = max(most, len(indices))
        spare = most - len(indices)
        paths, hashes = ([each[index] for index in indices] for each in (split.paths, split.hashes))
        seeds = augment.view_seeds(settings, hashes, views.tolist())
        files = reading.tensors(paths + [""] * spare, hashes + [""] * spare)
        with manifest.told():
            fields, drawn = prepare(*files, np.pad(seeds, ((0, spare), (0, 0))))
        with card.busy:
            pixels = card.fitted(_carried(fields))
            moved = (_carried(drawn), np.pad(views == 0, (0, spare))) if views.any() else ()
            values: np.ndarray = card.launched(pixels, *moved)()[0][: len(indices)]
        return values

    return activations
