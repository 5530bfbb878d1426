"""Packs: rows of the activation cache in a folder that several machines share, which may be in an object store.

What one machine has computed need not be computed on another. The rows of an entry lie in packs, of which each is
written once and never changed, so that any number of processes write beside each other without a lock:

    <folder>/<entry>/<pack>.rows    the rows, one after the other
    <folder>/<entry>/<pack>.index   a line a row, as in the cache: written when the rows are there
    <folder>/<entry>/used           written anew by who reads or adds packs

A pack's name is the hash of its index, which has a checksum of each row. A writer that is killed leaves rows without
an index, which nobody reads. Training reads the cache on the machine's own disk, into which packs are copied first.
"""

import hashlib
import os
import re
import socket
import zlib
from collections.abc import Collection, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from thaw import console, pipes
from thaw.features import cache, cache_room, shared_folder, store
from thaw.runtime import threads

PACK = 256_000_000  # bytes of a pack at most
CHUNK = 32_000_000  # bytes that are copied at a time
HEX = re.compile("[0-9a-f]{64}")
ROWS, INDEX, USED = ".rows", ".index", "used"

Keys = NDArray[np.uint64]  # of images: the first 8 bytes of their sha256


@dataclass
class Packs:
    """The packs of all entries in one folder."""

    folder: shared_folder.Folder
    budget: float  # bytes
    known: dict[str, dict[str, Keys]] = field(default_factory=dict)  # by entry and pack: its images
    looked: dict[str, int] = field(
        default_factory=dict
    )  # by entry: rows of the cache that need not be looked at again
    failed: bool = False  # then no more is asked of it

    def fetch(self, opened: store.Store, missing: store.Missing) -> store.Missing:
        """Copy what is missing to the cache, as far as there are packs of it; the caller is filling the cache.

        Returns:
            What is missing still. All that is left where the folder fails, which is said.
        """
        left = {sha: {view: list(cuts) for view, cuts in views.items()} for sha, views in missing.items()}
        with self._told("read from"):
            for view, cut, entry in opened.numbered():
                for sha in self._fetched(entry, [sha for sha, views in left.items() if cut in views.get(view, ())]):
                    left[sha][view].remove(cut)
        some = {sha: {view: cuts for view, cuts in views.items() if cuts} for sha, views in left.items()}
        return {sha: views for sha, views in some.items() if views}

    def _fetched(self, entry: cache.Entry, wanted: Collection[str]) -> Iterator[str]:
        """Copy the rows of some images, and yield which are there."""
        keys, left = _keys(wanted), set(wanted)
        for name, held in list(self._listed(entry).items()) if wanted and not self.failed else ():
            if np.isin(held, keys).any():
                with closing(threads.ahead(self._read(entry, name, frozenset(left)))) as parts:
                    for shas, rows in parts:
                        entry.copy(shas, rows)
                        left -= set(shas)
                        yield from shas
        if len(left) < len(wanted):
            self.folder.write(f"{entry.path.name}/{USED}", b"")

    def _read(
        self, entry: cache.Entry, name: str, wanted: Collection[str]
    ) -> Generator[tuple[list[str], list[bytes]]]:
        """Yield the rows of a pack that are wanted, some at a time. A pack that is damaged is removed."""
        start, size, is_damaged = f"{entry.path.name}/{name}", entry.row_bytes, False
        try:
            lines = cache.split(self.folder.read(start + INDEX))
            at_once = max(1, CHUNK // size)
            with self.folder.open(start + ROWS) as file:
                for some in (lines[first : first + at_once] for first in range(0, len(lines), at_once)):
                    text = file.read(len(some) * size)
                    rows = [text[at * size : (at + 1) * size] for at in range(len(some))]
                    whole = [cache.is_whole(row, line) for row, line in zip(rows, some, strict=True)]
                    is_damaged |= not all(whole)
                    shas = _images(some)
                    taken = [at for at, sha in enumerate(shas) if whole[at] and sha in wanted]
                    if taken:
                        yield [shas[at] for at in taken], [rows[at] for at in taken]
        except FileNotFoundError:  # it was removed, to make room
            return
        if is_damaged:
            console.warn(f"shared cache: {start}{ROWS} is damaged; it is removed, and computed again")
            for ending in (INDEX, ROWS):
                self.folder.remove(start + ending)

    def publish(self, opened: store.Store) -> None:
        """Write the rows that the cache has and no pack has. Where that fails it is said, and the work goes on."""
        own = {entry.path.name for _, _, entry in opened.numbered()}
        with self._told("written to"):
            for _, _, entry in opened.numbered():
                if not self.failed:
                    self._publish(entry, own)

    def _publish(self, entry: cache.Entry, own: Collection[str]) -> None:
        first = self.looked.get(entry.path.name, 0)
        lines = cache.split(entry.index.read_bytes()) if entry.index.exists() else []
        if len(lines) <= first:
            return
        hashes = _images(lines[first:])
        held = np.concatenate([*self._listed(entry).values(), _keys([])])
        found = entry.find([sha for sha, has in zip(hashes, np.isin(_keys(hashes), held), strict=True) if not has])
        rows = np.unique(found[(found >= 0) & (found < len(lines))])  # those that are whole
        at_once = max(1, PACK // entry.row_bytes)
        for some in (rows[start : start + at_once] for start in range(0, len(rows), at_once)):
            self._make_room(len(some) * entry.row_bytes, own)
            index = b"".join(lines[row] for row in some.tolist())
            start = f"{entry.path.name}/{hashlib.sha256(index).hexdigest()[:32]}"
            with self.folder.writing(start + ROWS) as file:
                for text in _texts(entry, some):
                    file.write(text)
            self.folder.write(start + INDEX, index)
            self.folder.write(f"{entry.path.name}/{USED}", b"")
        self.looked[entry.path.name] = len(lines)

    def _listed(self, entry: cache.Entry) -> dict[str, Keys]:
        """Return the packs of an entry that are there now. An index is read once."""
        known = self.known.setdefault(entry.path.name, {})
        there = {name.removesuffix(INDEX) for name in self.folder.names(entry.path.name) if name.endswith(INDEX)}
        for name in known.keys() - there:
            del known[name]
        for name in sorted(there - known.keys()):
            try:
                text = self.folder.read(f"{entry.path.name}/{name}{INDEX}")
            except FileNotFoundError:  # it was removed just now
                continue
            known[name] = _keys(_images(cache.split(text)))
        return known

    def _make_room(self, wanted: int, own: Collection[str]) -> None:
        """Remove the entries that were not used for longest until ``wanted`` bytes more fit; none of ``own``.

        Who reads such an entry at the moment computes what it does not find any more.
        """
        sizes: dict[str, int] = {}
        used: dict[str, float] = {}
        for path, (size, when) in self.folder.sizes().items():
            entry = path.partition("/")[0]
            if cache_room.NAME.fullmatch(entry):
                sizes[entry], used[entry] = sizes.get(entry, 0) + size, max(used.get(entry, 0.0), when)
        total = sum(sizes.values())
        for entry in sorted(used, key=used.__getitem__):
            if total + wanted > self.budget and entry not in own:
                self.folder.remove(entry)
                total -= sizes[entry]
                console.say(f"shared cache: removed {sizes[entry] / 1e6:,.0f} MB that were not used for longest")
        if total + wanted > self.budget:
            raise ValueError(f"compute.shared_cache_gb: {self.budget / 1e9:g} GB are full with what this run uses")

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Say what goes wrong with the folder, and ask no more of it: it only saves time."""
        try:
            yield
        except Exception as error:  # each client has kinds of its own
            self.failed = True
            why = pipes.said_by(error)
            console.warn(f"compute.shared_cache: activations are no longer {what} {self.folder.root} ({why})")


def at(address: str, gigabytes: float) -> Packs | None:
    """Return the packs at an address, ``compute.shared_cache``; none of an empty one.

    Raises:
        ValueError: it can't be reached.
    """
    return Packs(shared_folder.at(address), gigabytes * 1e9) if address else None


def parts(missing: store.Missing, row_bytes: int, batch: int) -> list[store.Missing]:
    """Divide what is missing into parts that fill a pack of each entry at most, in the order to compute them.

    They are of whole batches, so that each image has the same others beside it as in one go. Each process begins with
    another part, so that several of them that compute the same mostly take different ones.

    Args:
        missing: images in the order in which they are computed.
        row_bytes: of the largest row of an image.
        batch: images that are computed together.
    """
    hashes, size = list(missing), max(1, PACK // (row_bytes * batch)) * batch
    found: list[store.Missing] = [
        {sha: missing[sha] for sha in hashes[first : first + size]} for first in range(0, len(hashes), size)
    ]
    own = zlib.crc32(f"{socket.gethostname()}@{os.getpid()}".encode()) % max(len(found), 1)
    return found[own:] + found[:own]


def _images(lines: Collection[bytes]) -> list[str]:
    return [line[:64].decode("ascii", "replace") for line in lines]


def _keys(hashes: Collection[str]) -> Keys:
    return np.array([int(sha[:16], 16) if HEX.fullmatch(sha) else 0 for sha in hashes], np.uint64)


def _texts(entry: cache.Entry, rows: NDArray[np.int64]) -> Iterator[bytes]:
    """Yield the bytes of some rows, which ascend: of those that follow each other many at a time."""
    at_once = max(1, CHUNK // entry.row_bytes)
    with entry.data.open("rb") as file:
        for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
            for some in (run[first : first + at_once] for first in range(0, len(run), at_once)):
                file.seek(int(some[0]) * entry.row_bytes)
                yield file.read(len(some) * entry.row_bytes)
