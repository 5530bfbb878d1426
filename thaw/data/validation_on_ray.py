"""Look at image files on a Ray cluster: what its workers find goes to the memos, from which validation then reads.

So what is made of it is what one process makes, to the byte, and files that no worker could look at are read as ever.
"""

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from os import stat_result
from pathlib import Path
from typing import Any

from PIL import Image

from thaw import console
from thaw.config import schema
from thaw.data import file_hashes, folders, judgement, validation_cache
from thaw.images import content
from thaw.images.integrity import Unusable
from thaw.runtime import cluster

PART = 200  # files that a worker looks at before it reports

Looked = tuple[str, dict[str, Any] | None]  # the sha256 of a file, and what its content is


class _Found:
    """A memo of nothing, which holds what was put last."""

    record: dict[str, Any] | None = None

    def put(self, _sha256: str, record: dict[str, Any]) -> None:
        """Hold a record."""
        self.record = record


def fill(data: schema.Data, address: str) -> None:
    """Let the workers of a cluster look at all files that are not known.

    Args:
        data: where the files are.
        address: of the cluster.

    Raises:
        ValueError: there is no cluster.
    """
    found = folders.find(data.raw, data.nested)
    root = found.root.resolve()
    version = judgement.version(judgement.stretches(data))
    with validation_cache.judgements(version) as known, file_hashes.memo() as kept:
        hashes = file_hashes.FileHashes(kept)
        states: dict[str, tuple[stat_result, int]] = {}
        for path in (str(root / entry.path) for entry in found.entries):
            with suppress(Unusable):
                state = content.status(Path(path)), time.time_ns()
                sha256 = hashes.known(state[0])
                if not (sha256 and known.get(sha256)):
                    states[path] = state
        new = list(states)
        parts = [new[first : first + PART] for first in range(0, len(new), PART)]
        if not parts:
            return
        read = 0
        looked = cluster.done(address, looking, (data,), parts)
        for number, results in console.track(looked, "images, looked at by the cluster", len(parts), "parts"):
            for path, result in zip(parts[number], results, strict=True):
                if result:
                    sha256, record = result
                    read += 1
                    hashes.keep(Path(path), states[path][0], states[path][1], sha256)
                    if record:
                        known.put(sha256, record)
        if read < len(new):
            console.warn(
                f"{len(new) - read:,} of {len(new):,} files could not be read where the cluster's workers are"
            )


def looking(data: schema.Data) -> Callable[[list[str]], list[Looked | None]]:
    """Return what a worker does: it looks at some files, of which none is returned that cannot be read."""
    Image.init()
    return lambda part: [_looked(Path(path), data) for path in part]


def _looked(path: Path, data: schema.Data) -> Looked | None:
    found = _Found()
    try:
        held = content.read(path)
    except Unusable:
        return None
    sha256 = hashlib.sha256(held).hexdigest()
    with suppress(Unusable):
        judgement.look(held, sha256, None, data, found)
    return sha256, found.record
