"""Measure time and memory of the stage `prepare`: ``python -m benchmarks.prepare``.

Makes 10,000 JPEG images of 256 pixels, then 100,000 of 32, and runs the stage on each with nothing remembered, again
as it is, and again after 100 images were added. The goals: a minute for the first on two cores, and memory that does
not grow with the number of images.
"""

import argparse
import io
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import record, scratch
from thaw import paths, records

CLASSES = 5


def write(root: Path, side: int, number: int) -> None:
    """Write image ``number``: noise of every octave, whose strength falls off with the frequency as in photographs.

    One that all images share would make them look alike to ``thaw.data.near_duplicates``, so each has its own.
    """
    random = np.random.default_rng(number)
    slope, coarse = random.uniform(0.6, 1.4), np.zeros((32, 32, 3), np.float32)
    for octave in (2, 4, 8, 16, 32):
        noise = Image.fromarray(random.integers(0, 256, (octave, octave, 3), dtype=np.uint8))
        coarse += (np.asarray(noise.resize((32, 32), Image.Resampling.BICUBIC)) - 127.5) / octave**slope
    smooth = Image.fromarray(np.clip(127.5 + coarse, 0, 255).astype(np.uint8)).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    grain = random.integers(-15, 16, (side, side, 1), np.int16)  # the camera's
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
    (root / f"class {number % CLASSES}" / f"{number:06}.jpg").write_bytes(buffer.getvalue())


def make(root: Path, side: int, first: int, last: int) -> None:
    for label in range(CLASSES):
        (root / f"class {label}").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        for _ in pool.map(partial(write, root, side), range(first, last), chunksize=200):
            pass


def measure(count: int, side: int, more: int, overrides: list[str]) -> list[dict[str, Any]]:
    """Run `prepare` three times on ``count`` images of ``side`` pixels, the last time with ``more`` added."""
    folder = Path(tempfile.mkdtemp())
    rows = []
    try:
        root, project = folder / "images", folder / "project"
        project.mkdir()
        make(root, side, 0, count)
        for what in ("first run", "again", f"{more} more"):
            if what == f"{more} more":
                make(root, side, count, count + more)
            done = scratch.prepare(project, [f"data.raw={root}", *overrides])
            if done.code:
                raise RuntimeError(done.said)
            taken = records.read_json(project / paths.metrics("prepare"))["images"]
            rows.append(
                {
                    "images": f"{taken:,} of {side} px",
                    "run": what,
                    "seconds": round(done.seconds, 1),
                    "computing": round(done.busy, 1),
                    "peak MB": round(done.peak / 1e6),
                }
            )
            print(*rows[-1].values(), flush=True)
    finally:
        shutil.rmtree(folder)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000, help="of 256 pixels (default: %(default)s)")
    parser.add_argument("--tiny", type=int, default=100_000, help="of 32 pixels (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", help="of the configuration")
    options = parser.parse_args()
    rows = []
    for count, side in ((options.images, 256), (options.tiny, 32)):
        if count:
            rows += measure(count, side, 100, options.overrides)
    record.write("prepare", "the stage prepare, as a process", rows, overrides=options.overrides)


if __name__ == "__main__":
    main()
