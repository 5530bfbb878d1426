"""Batches that are read by a thread while a step computes, so that what trains does not wait for a disk or a decoder.

``tf.data`` and Keras read ahead too, but not where operations must repeat (``compute.deterministic``): TensorFlow then
makes each batch when it is asked for.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from thaw.images.manifest import Batches
from thaw.runtime.framework import keras

AHEAD = 2  # batches that are read before they are asked for; what they hold is in memory


class ReadAhead(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no stubs
    """The batches of another, the same ones in the same order; one thread reads all of them, one after the other.

    Args:
        batches: what is read.
    """

    def __init__(self, batches: Batches):
        super().__init__(workers=1)
        self.batches = batches
        self.pool = ThreadPoolExecutor(1, "reading batches")
        self.coming: dict[int, Future[tuple[Any, ...]]] = {}

    def __len__(self) -> int:
        """Steps of an epoch."""
        return len(self.batches)

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        if number not in self.coming:  # the first of an epoch, or they are not taken one after the other
            self._drop()
        for each in range(number, min(number + 1 + AHEAD, len(self))):
            if each not in self.coming:
                self.coming[each] = self.pool.submit(self.batches.__getitem__, each)
        return self.coming.pop(number).result()

    def epoch(self) -> Iterator[tuple[Any, ...]]:
        """Yield the batches of an epoch."""
        return (self[number] for number in range(len(self)))

    def on_epoch_end(self) -> None:
        """Draw order and views anew; Keras calls it."""
        self._drop()
        self.batches.on_epoch_end()

    def _drop(self) -> None:
        """Forget what nobody has asked for. What is being read ends first: the order must not change under it."""
        for future in self.coming.values():
            future.cancel()
        wait(self.coming.values())
        self.coming.clear()
