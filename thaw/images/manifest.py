"""Which images there are, from the manifest, and their pixels."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thaw import paths, records
from thaw.config import schema
from thaw.images import columns, content, fitting, reading
from thaw.runtime import threads
from thaw.runtime.framework import keras, tf

# (indices, views), both (b,) int64 → inputs of a model, (b, ...) float32
Source = Callable[[np.ndarray, np.ndarray], np.ndarray]


FEW = 16  # images, to look at before all of them pass


@dataclass
class Images:
    """The images of one split, in the manifest's order."""

    paths: Sequence[str]  # of the files that are read: the user's, or the PNG made of what is not decoded here
    names: Sequence[str]  # the user's files, as in the manifest, relative to the folder of images
    hashes: Sequence[str]  # hex sha256 of the files that are read
    labels: np.ndarray  # (n,) int64, indices into the class list
    weights: np.ndarray | None = None  # (n,) float32, in the loss, as a table of images may give them; None: all one
    units: Sequence[str] = ()  # of each image what it must stay with, by number; empty if alone

    def __len__(self) -> int:
        return len(self.paths)


def classes() -> list[str]:
    """Class names; a label is an index into this list."""
    return list(records.read_json(paths.CLASSES)["classes"])


def read(raw: str, *splits: str, rows: Sequence[Mapping[str, str]] | None = None) -> list[Images]:
    """Return the images of each split.

    Args:
        raw: the folder or table that the manifest was made from.
        splits: train, val or test.
        rows: of the manifest, where the caller has read it; None: it is read, once for all calls of a process.

    Raises:
        ValueError: the folder isn't there.
    """
    root = paths.images_root(raw)
    if not root.is_dir():
        how = "run `dvc repro --force prepare`, which downloads it" if paths.is_remote(raw) else "has it been moved?"
        raise ValueError(f"data.raw: expected the folder of images {root}, found none; {how}")
    every = columns.read() if rows is None else columns.of(rows)
    return [_images(root, every.take(every.are("split", split)), classes()) for split in splits]


def _images(root: Path, own: columns.Manifest, names: Sequence[str]) -> Images:
    number = {name: index for index, name in enumerate(names)}
    of, labels = own.codes("label")
    given, weights = own.codes("weight")
    numbers = np.array([number.get(label, -1) for label in labels], np.int64)[of]
    if (numbers < 0).any():
        raise ValueError(f"{paths.CLASSES}: expected each class of {paths.MANIFEST}, received fewer; run `dvc repro`")
    weight = np.array(weights, np.float32)[given]
    files, hashes = _files(root, own)
    return Images(
        paths=files,
        names=own.strings("path"),
        hashes=hashes,
        labels=numbers,
        weights=None if (weight == 1).all() else weight,
        units=own.strings("unit"),
    )


def _files(root: Path, own: columns.Manifest) -> tuple[Sequence[str], Sequence[str]]:
    """Return the files that are read, and their hashes."""
    names, hashes = own.strings("path"), own.strings("sha256")
    beside = columns.Strings(names.values, before=str(root / "x").removesuffix("x"))
    converted = np.flatnonzero(~own.are("converted", ""))
    absolute = [place for place, name in enumerate(names) if name.startswith("/")]
    if not len(converted) and not absolute:
        return beside, hashes
    files, read = list(beside), list(hashes)
    for place in absolute:
        files[place] = names[place]
    made = own.strings("converted")
    for place in converted.tolist():
        files[place], read[place] = str(paths.converted(hashes[place])), made[place]
    return columns.strings(files), columns.strings(read)


def independent(split: Images) -> list[str]:
    """Return the unit of each image, by the manifest's number, or the image's own name if it is alone."""
    units = split.units or [""] * len(split)
    return [f"unit {unit}" if unit else name for unit, name in zip(units, split.names, strict=True)]


@contextmanager
def told() -> Iterator[None]:
    """Raise what a decoder raises within a graph as an error in one line."""
    try:
        yield
    except GeneratorExit:  # a generator that is left half-way may be closed when the interpreter has let go of tf
        raise
    except tf.errors.OpError as error:
        ours = re.search(r"ValueError: (.*?)\n+Traceback", error.message, re.DOTALL)
        reason = ours[1] if ours else f"an image can't be decoded ({error.message.splitlines()[0]:.200})"
        raise ValueError(reason) from error


def check(split: Images) -> None:
    """Read every image.

    Raises:
        ValueError: one is no longer what was prepared.
    """
    for path, sha256 in zip(split.paths, split.hashes, strict=True):
        content.prepared(path, sha256)


def pixels(image: schema.Image, paths: Sequence[str], hashes: Sequence[str], batch_size: int) -> Iterator[np.ndarray]:
    """The images of ``paths`` in their order, decoded and fitted beside whatever the caller does.

    Args:
        hashes: hex sha256 of each file, as the manifest has it.

    Yields:
        (batch, size, size, 3) float32 in [0, 255]; the last batch may be smaller.

    Raises:
        ValueError: a file has gone or holds other bytes than when it was prepared.
    """
    decode = fitting.decoder(image)
    files = reading.batches(paths, hashes, batch_size)
    batches = threads.ahead(threads.overlapped(lambda file: decode(*file), files))
    with told(), closing(batches), ThreadPoolExecutor(threads.used(), "fitting") as pool:
        for fields in batches:
            yield fitting.batch(tuple(field.numpy() for field in fields), image, pool)


def few(image: schema.Image, split: Images) -> np.ndarray:
    """The first images, (n, size, size, 3) float32 in [0, 255]."""
    return next(pixels(image, split.paths[:FEW], split.hashes[:FEW], FEW))


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no stubs
    """The batches of a training epoch, in a seeded order, each image once.

    Where an image begins is drawn; each time that it is drawn it goes on to its next view, so that none comes again
    before all have come.

    Args:
        source: gives the inputs of some images: (indices, views), both (b,) int64 → (b, ...) float32.
        labels: (n,) int64.
        views: how many views of each image there are.
        seed: of order and draws. None: the order of the labels and view 0, as in validation.
        weights: (n,) float32, of each image in the loss. None: all the same.
        chances: (n,) float64, of each image at each draw. An epoch then has n draws with replacement. None: each once.
    """

    def __init__(
        self,
        source: Source,
        labels: np.ndarray,
        batch_size: int,
        views: int = 1,
        seed: int | None = None,
        weights: np.ndarray | None = None,
        chances: np.ndarray | None = None,
    ):
        super().__init__(workers=1)
        self.source, self.labels, self.batch_size = source, labels, batch_size
        self.views, self.seed, self.epoch = views, seed, 0
        self.weights, self.chances = weights, chances
        chance = np.random.default_rng(seed)
        # The view of each image that comes next.
        self.following = np.zeros(len(labels), np.int64) if seed is None else chance.integers(views, size=len(labels))
        self._draw()

    def _draw(self) -> None:
        count = len(self.labels)
        self.order, self.view = np.arange(count), np.zeros(count, np.int64)  # of each draw the image, and its view
        if self.seed is not None:
            chance = np.random.default_rng([self.seed, self.epoch])
            self.order = (
                chance.permutation(count)
                if self.chances is None
                else chance.choice(count, count, p=self.chances / self.chances.sum())
            )
            self.view = (self.following[self.order] + _earlier(self.order)) % self.views
            self.following += np.bincount(self.order, minlength=count)

    def __len__(self) -> int:
        """Steps of an epoch; the last may have fewer images."""
        return math.ceil(len(self.labels) / self.batch_size)

    def __getitem__(self, number: int) -> tuple[np.ndarray, ...]:
        some = slice(number * self.batch_size, (number + 1) * self.batch_size)
        indices = self.order[some]
        batch = self.source(indices, self.view[some]), self.labels[indices]
        return batch if self.weights is None else (*batch, self.weights[indices])

    def on_epoch_end(self) -> None:
        """Draw order and views anew; Keras calls it."""
        self.epoch += 1
        self._draw()


def _earlier(order: np.ndarray) -> np.ndarray:
    """How often each image was drawn before in the same epoch: (n,) int64 images → (n,) int64."""
    together = np.argsort(order, kind="stable")
    images = order[together]
    earlier = np.empty_like(order)
    earlier[together] = np.arange(len(order)) - np.searchsorted(images, images)
    return earlier
