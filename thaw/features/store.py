"""The one door to the activation cache: ask for images, add what is missing, read it all.

    found = store.ask(wanted)
    if found.missing:
        with store.filling():
            found = store.ask(wanted)  # another process may have computed some of it meanwhile
            ...                        # store.add(...), as views pass the layers
        found = store.ask(wanted)
    readers = store.readers(found)

However often it is asked, a store reads a row once to see that it is whole.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

import numpy as np
from filelock import Timeout
from numpy.typing import NDArray

from thaw import console
from thaw.features import cache, cache_room, stored

COMPARED = 8  # images of each entry that are looked at in float32
WAIT = 2.0  # seconds for another process before a person is told of it

Wanted = Sequence[tuple[Sequence[str], int]]  # sets of images by their sha256, and how many views of each
Missing = Mapping[str, Mapping[int, Sequence[int]]]  # image → view → cuts that lack it


@dataclass
class Found:
    """What the cache has of what was asked for, and what it lacks."""

    present: list[list[list[NDArray[np.int64]]]]  # by set, view and cut: the row of each image, -1 where it is missing
    missing: Missing  # of no image that is complete


def names_all(cache_dir: str, names: Sequence[Sequence[str]], wanted: Wanted) -> bool:
    """Return whether the cache names all that is asked for. Whether it is whole is seen when it is asked for.

    Args:
        names: of the entry of each view at each cut.
    """
    folder = cache.folder(cache_dir)
    return all(
        cache.names(folder / name).issuperset(hashes)
        for hashes, views in wanted
        for view in names[:views]
        for name in view
    )


class Store:
    """The rows of images that passed the same frozen layers.

    Args:
        cache_dir: ``compute.cache_dir``.
        family: what all that such layers compute have in common; of two processes one computes it at a time.
        names: of the entry of each view at each cut.
        shapes: of an image's activations at each cut.
        spare: numbers of cuts that nobody waits for: they are left out where fp16 can't hold them.
        kind: how activations that are no pooled features are stored, of ``thaw.features.stored``.
    """

    def __init__(
        self,
        cache_dir: str,
        family: str,
        names: Sequence[Sequence[str]],
        shapes: Sequence[Sequence[int]],
        spare: Sequence[int] = (),
        kind: str = stored.FLOAT16,
    ):
        folder = cache.folder(cache_dir)
        cache_room.claim(folder, [name for view in names for name in view])
        self.folder, self.family, self.spare = folder, family, set(spare)
        self.compared: set[cache.Entry] = set()  # with what they were made of
        self.entries = [
            [
                cache.Entry(folder / name, shape, stored.of(kind, shape))
                for name, shape in zip(view, shapes, strict=True)
            ]
            for view in names
        ]

    def numbered(self) -> Iterator[tuple[int, int, cache.Entry]]:
        """Yield the entries with the numbers of view and cut."""
        for view, entries in enumerate(self.entries):
            for cut, entry in enumerate(entries):
                yield view, cut, entry

    def ask(self, wanted: Wanted) -> Found:
        """Return where the rows are, and what has none."""
        present: list[list[list[NDArray[np.int64]]]] = []
        missing: dict[str, dict[int, list[int]]] = {}
        for hashes, views in wanted:
            present.append([[entry.find(hashes) for entry in self.entries[view]] for view in range(views)])
            for view, cut in product(range(views), range(len(self.entries[0]))):
                if cut in self.spare and self.entries[view][cut].mark.exists():
                    continue
                for position in np.flatnonzero(present[-1][view][cut] < 0).tolist():
                    cuts = missing.setdefault(hashes[position], {}).setdefault(view, [])
                    if cut not in cuts:  # an image may be in two sets
                        cuts.append(cut)
        return Found(present, missing)

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Let this be the one process that adds to these entries, inside."""
        lock = cache_room.lock(self.folder, self.family)
        try:
            held = lock.acquire(timeout=WAIT)
        except Timeout:
            console.warn("another process takes images through these frozen layers; this one waits for it")
            held = lock.acquire()
        with held:
            yield

    def make_room(self, missing: Missing, budget: int) -> int:
        """Remove what was not used for longest until the missing rows fit the budget; the bytes that they will take.

        They are added also where they do not fit; that is said.
        """
        size = [entry.row_bytes for entry in self.entries[0]]
        needed = sum(size[cut] for views in missing.values() for cuts in views.values() for cut in cuts)
        if excess := cache_room.make_room(self.folder, needed, budget):
            console.warn(
                f"the activation cache exceeds compute.cache_gb by {excess / 1e9:.1f} GB: all else is in use. Images "
                f"that are no longer there count too; to empty it, remove {self.folder}"
            )
        return needed

    def add(self, missing: Missing, view: int, hashes: Sequence[str], outputs: Sequence[np.ndarray]) -> set[int]:
        """Add those rows of a batch that are missing; the caller is ``filling``.

        Args:
            missing: what ``ask`` found.
            hashes: of the images of the batch.
            outputs: what the layers made of this view of them, (b, *shape) of each cut.

        Returns:
            The spare cuts of which none is kept, since one of these rows is too large for fp16, or all too small.

        Raises:
            cache.TooLargeError: fp16 can't hold a row that is not spare, or its first ones are too small for it.
        """
        refused = set()
        for cut, values in enumerate(outputs):
            kept = [row for row, sha in enumerate(hashes) if cut in missing[sha].get(view, ())]
            if not kept or (cut in self.spare and self.entries[view][cut].mark.exists()):
                continue
            with np.errstate(over="ignore"):  # append() says it, with a way out
                rows = values[kept].astype(np.float16)
            entry = self.entries[view][cut]
            try:
                if entry not in self.compared:  # a few images stand for all
                    cache.check_small(values[kept[:COMPARED]], rows[:COMPARED])
                    self.compared.add(entry)
                entry.append([hashes[row] for row in kept], rows)
            except cache.TooLargeError:
                if cut not in self.spare:
                    raise
                for each in self.entries:
                    each[cut].refuse()
                refused.add(cut)
        return refused

    def readers(self, found: Found) -> list[list[cache.Reader]]:
        """Return for each set of images a reader for each cut that is not spare."""
        asked = [cut for cut in range(len(self.entries[0])) if cut not in self.spare]
        return [
            [
                cache.Reader([entries[cut] for entries in self.entries[: len(views)]], [rows[cut] for rows in views])
                for cut in asked
            ]
            for views in found.present
        ]
