"""Measure what sharing activations costs and saves: ``python -m benchmarks.shared_cache --images 400 10000``.

Rows as large as those of the default network are written to an activation cache, published as packs, and fetched
into the empty cache of another machine. ``--address`` is where the packs lie, such as an object store; it is a folder
of its own if left out, so what is measured is what the pipeline does around disk and network.
"""

import argparse
import hashlib
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record
from thaw.features import cache, packs, shared_folder, store

SHAPES = ((1280,), (7, 7, 192))  # pooled features, and the activations at the boundary
VIEWS = 8
AT_ONCE = 32  # images added at a time, as the layers give them


def measure(images: int, folder: Path, address: str) -> dict[str, Any]:
    """Write, publish and fetch the rows of some images."""
    hashes = [hashlib.sha256(f"{address} {number}".encode()).hexdigest() for number in range(images)]
    names = [
        [cache.name(view=view, cut=cut, address=address, images=images) for cut in range(len(SHAPES))]
        for view in range(VIEWS)
    ]
    wanted = [(hashes, VIEWS)]
    random = np.random.default_rng(0)
    rows = [random.standard_normal((AT_ONCE, *shape)).astype(np.float32) for shape in SHAPES]
    first, second = (store.Store(str(folder / name), "family", names, SHAPES) for name in ("one", "other"))
    seconds: dict[str, float] = {}

    def timed(name: str, start: float) -> float:
        seconds[name] = time.perf_counter() - start
        return time.perf_counter()

    clock = time.perf_counter()
    missing = first.ask(wanted).missing
    for start in range(0, images, AT_ONCE):
        some = hashes[start : start + AT_ONCE]
        for view in range(VIEWS):
            first.add(missing, view, some, [each[: len(some)] for each in rows])
    clock = timed("written s", clock)
    shared = packs.Packs(shared_folder.at(address), 1e15)
    shared.publish(first)
    clock = timed("published s", clock)
    other = packs.Packs(shared_folder.at(address), 1e15)
    left = other.fetch(second, second.ask(wanted).missing)
    clock = timed("fetched s", clock)
    readers = second.readers(second.ask(wanted))[0]
    clock = timed("checked s", clock)
    if left or not np.array_equal(readers[1](np.arange(3), np.zeros(3, int)), rows[1][:3].astype(np.float16)):
        raise RuntimeError("what was fetched is not what was written")
    other.publish(second)
    timed("nothing to publish s", clock)
    ours = {name for view in names for name in view}
    own = [path for path in shared.folder.sizes() if path.partition("/")[0] in ours]
    size = sum(entry.size() for _, _, entry in first.numbered())
    files = sum(1 for path in (folder / "one").rglob("*") if path.is_file() and path.parent.name != "users")
    return {"images": images, "MB": size / 1e6, "cache files": files, "shared files": len(own), **seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="*", default=[400, 10_000], help="(default: %(default)s)")
    parser.add_argument("--address", default="", help="of the packs (default: a folder that is removed)")
    options = parser.parse_args()
    rows = []
    for images in options.images:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(images, Path(folder), options.address or f"{folder}/shared"))
            print(*(f"{value:.4g}" for value in rows[-1].values()), flush=True)
    record.write("shared_cache", "activations written, published and fetched", rows, address=options.address)


if __name__ == "__main__":
    main()
