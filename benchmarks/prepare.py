"""Time and memory of the stage `prepare`: ``python -m benchmarks.prepare``.

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
from PIL import Image, ImageFilter

from benchmarks import record, scratch
from thaw import layout, records

CLASSES = 5


def write(root: Path, side: int, number: int) -> None:
    """Image ``number``: smooth shapes with some grain, which compress about as photographs do."""
    random = np.random.default_rng(number)
    shapes = Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    smooth = shapes.resize((side, side), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(1))
    grain = random.normal(0, 6, (side, side, 1))
    pixels = np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    (root / f"class {number % CLASSES}" / f"{number:06}.jpg").write_bytes(buffer.getvalue())


def make(root: Path, side: int, first: int, last: int) -> None:
    for label in range(CLASSES):
        (root / f"class {label}").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        for _ in pool.map(partial(write, root, side), range(first, last), chunksize=200):
            pass


def measure(count: int, side: int, more: int) -> list[dict[str, Any]]:
    """Three runs on ``count`` images of ``side`` pixels, the last of them with ``more`` added."""
    folder = Path(tempfile.mkdtemp())
    rows = []
    try:
        root, project = folder / "images", folder / "project"
        project.mkdir()
        make(root, side, 0, count)
        for what in ("first run", "again", f"{more} more"):
            if what == f"{more} more":
                make(root, side, count, count + more)
            done = scratch.prepare(project, [f"data.raw={root}", "data.min_side=1"])
            if done.code:
                raise RuntimeError(done.said)
            taken = records.read_json(project / layout.metrics("prepare"))["images"]
            rows.append(
                {
                    "images": f"{taken:,} of {side} px",
                    "run": what,
                    "seconds": round(done.seconds, 1),
                    "peak MB": round(done.peak / 1e6),
                }
            )
    finally:
        shutil.rmtree(folder)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000, help="of 256 pixels (default: %(default)s)")
    parser.add_argument("--tiny", type=int, default=100_000, help="of 32 pixels (default: %(default)s)")
    options = parser.parse_args()
    rows = measure(options.images, 256, 100) + measure(options.tiny, 32, 100)
    record.write("prepare", "the stage prepare, as a process", rows)


if __name__ == "__main__":
    main()
