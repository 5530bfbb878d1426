"""An entry of the activation cache under any order of appends, damage and deletions, played by hypothesis."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from thaw.features import cache

IMAGES = 8
HASHES = [hashlib.sha256(bytes([number])).hexdigest() for number in range(IMAGES)]
LINE = 74
images = st.lists(st.integers(0, IMAGES - 1), max_size=6)
files = st.sampled_from(["data", "index"])


class Entry(RuleBasedStateMachine):
    """A row is a function of its image, as in the cache; either it comes back or it counts as missing.

    What is damaged is seen by the next process, which opens the entry anew: a row that was whole is not read twice.
    """

    @initialize(shape=st.lists(st.integers(1, 3), min_size=1, max_size=3), seed=st.integers(0, 9), zero=st.booleans())
    def begin(self, shape: list[int], seed: int, zero: bool) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.shape = tuple(shape)
        self.entry = cache.Entry(self.folder / "entry", shape)
        self.values = np.random.default_rng(seed).normal(0, 9, (IMAGES, *shape)).astype(np.float16)
        if zero:
            self.values[:2] = 0  # what a lengthened file is filled with
        self.sound: set[int] = set()  # must be found: appended, and nothing was damaged since

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    @rule(chosen=images)
    def append(self, chosen: list[int]) -> None:
        self.entry.append([HASHES[image] for image in chosen], self.values[chosen])
        self.sound |= set(chosen)

    @rule()
    def append_what_is_missing(self) -> None:
        missing = [image for image, row in enumerate(self.entry.find(HASHES)) if row < 0]
        self.append(missing)
        assert (self.entry.find(HASHES) >= 0).all()

    @rule(name=files, share=st.floats(0, 1))
    def cut(self, name: str, share: float) -> None:
        file = getattr(self.entry, name)
        if file.exists():
            os.truncate(file, int(share * file.stat().st_size))
            self.damaged()

    @rule(name=files, more=st.binary(min_size=1, max_size=200))
    def lengthen(self, name: str, more: bytes) -> None:
        """What a crash leaves behind the rows does no harm; behind the index it may make a line that is none."""
        with getattr(self.entry, name).open("ab") as file:
            file.write(more)
        if name == "index":
            self.damaged()

    @rule(name=files, share=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255))
    def flip(self, name: str, share: float, bits: int) -> None:
        file = getattr(self.entry, name)
        if file.exists() and (data := bytearray(file.read_bytes())):
            data[int(share * len(data))] ^= bits
            file.write_bytes(data)
            self.damaged()

    @rule(name=files)
    def delete(self, name: str) -> None:
        getattr(self.entry, name).unlink(missing_ok=True)
        self.damaged()

    @rule()
    def refuse(self) -> None:
        self.entry.refuse()
        assert self.entry.mark.exists() and self.entry.size() == 0
        self.sound.clear()

    def damaged(self) -> None:
        self.sound.clear()
        self.open_again()

    @rule()
    def open_again(self) -> None:
        self.entry = cache.Entry(self.entry.path, self.shape)

    @precondition(lambda self: hasattr(self, "entry"))
    @invariant()
    def every_row_is_right_or_missing(self) -> None:
        rows = self.entry.find(HASHES)
        found = np.flatnonzero(rows >= 0)
        assert self.sound <= set(found.tolist())
        assert {HASHES[image] for image in found} <= cache.names(self.entry.path)
        if len(found):
            read = cache.Reader([self.entry], [rows[found]])(np.arange(len(found)), np.zeros(len(found), np.int64))
            expected = self.values[found].astype(np.float32)
            assert read.tobytes() == expected.tobytes()


TestEntry = Entry.TestCase
