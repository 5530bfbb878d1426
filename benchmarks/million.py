"""Measure how a run grows with images and classes: ``python -m benchmarks.million --images 10000 100000``.

Makes small JPEG files of which one in a hundred has a planted copy (recompressed, resized, brighter or mirrored), and
runs the stages on each number of images: seconds, seconds of computing (other work on the machine counts less in
them), peak memory and bytes on disk, and the exponents by which they grow. ``--recall`` finds pairs of vectors alone,
by comparing all with all and by caps. The network is a small one with random weights: what is measured is what the
pipeline does around it.
"""

import argparse
import io
import math
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from benchmarks import project, record
from thaw import paths, records
from thaw.data import near_duplicates, similar_vectors

STAGES = ("prepare", "prepare again", "phase1_head", "phase2_finetune", "evaluate", "export")
PLANTED = 100  # images to one copy
CHANNELS, SURE = 51, 0.86  # of a coarse fingerprint; the product from which copies are, but for one in a hundred
MOST = 100_000  # vectors that are compared all with all: minutes
OVERRIDES = (
    "data=folder",
    "image.size=32",
    "backbone.name=mobilenet_v3_small",
    "backbone.weights=random",
    "augment=none",
    "head=linear",
    "phase1.epochs=1",
    "phase2.epochs=1",
    "phase2.unfreeze=20%",
    "phase2.activations=streaming",
    "phase1.canary=warn",
    "evaluate.baselines=false",
    "evaluate.robustness=0",
    "export.formats=[keras]",
)
MEASURED = (
    "import resource, runpy, sys; sys.argv = sys.argv[1:2]; "
    "runpy.run_module(sys.argv[0], run_name='__main__'); "
    "used = resource.getrusage(resource.RUSAGE_SELF); "
    "print('used', used.ru_maxrss, used.ru_utime + used.ru_stime, file=sys.stderr)"
)


def picture(number: int) -> Image.Image:
    """Return image ``number``: noise whose coarse half and fine half each image has for itself."""
    random = np.random.default_rng(number)
    coarse, fine = (random.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (6, 16))
    one, other = (Image.fromarray(noise).resize((40, 40), Image.Resampling.BICUBIC) for noise in (coarse, fine))
    return Image.blend(one, other, 0.4)


def copied(number: int) -> tuple[Image.Image, int]:
    """Return the planted copy of an image, and the quality of its JPEG."""
    image, kind = picture(number), number // PLANTED % 4
    if kind == 0:
        return image, 50
    if kind == 1:
        return image.resize((56, 56), Image.Resampling.BICUBIC), 85
    return (ImageEnhance.Brightness(image).enhance(1.15) if kind == 2 else ImageOps.mirror(image)), 85


def write(root: Path, classes: int, number: int) -> int:
    """Write an image, and its copy if it has one; how many files these are."""
    buffer = io.BytesIO()
    picture(number).save(buffer, "JPEG", quality=80)
    stem = root / f"class_{number % classes:05}" / f"{number:08}"
    Path(f"{stem}.jpg").write_bytes(buffer.getvalue())
    if number % PLANTED:
        return 1
    buffer, (image, quality) = io.BytesIO(), copied(number)
    image.save(buffer, "JPEG", quality=quality)
    Path(f"{stem}_copy.jpg").write_bytes(buffer.getvalue())
    return 2


def make(root: Path, images: int, classes: int) -> None:
    """Write ``images`` images and their copies below ``root``."""
    for label in range(classes):
        (root / f"class_{label:05}").mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        for _ in pool.map(partial(write, root, classes), range(images), chunksize=500):
            pass


def found_copies() -> tuple[int, int]:
    """Return how many planted copies `prepare` has in one cluster with their image, and how many groups it made else.

    The latter are clusters without a planted copy: images that it takes for one picture by chance.
    """
    clusters: dict[str, set[str]] = {}
    for row in records.read_csv(paths.COPIES):
        clusters.setdefault(row["cluster"], set()).add(row["path"])
    together = [{path.replace("_copy.jpg", ".jpg") for path in own} for own in clusters.values()]
    found = sum(len(own) > len(stems) for own, stems in zip(clusters.values(), together, strict=True))
    return found, len(clusters) - found


def run(stage: str) -> dict[str, float]:
    """Run a stage in a process of its own: seconds, seconds of computing, peak MB."""
    start = time.monotonic()
    words = [sys.executable, "-c", MEASURED, f"stages.{stage}"]
    done = subprocess.run(words, check=False, stderr=subprocess.PIPE, text=True)
    used = [line.split() for line in done.stderr.splitlines() if line.startswith("used ")]
    if done.returncode or not used:
        raise RuntimeError(done.stderr[-2000:])
    unit = 1 if sys.platform == "darwin" else 1024
    peak, busy = float(used[-1][1]) * unit / 1e6, float(used[-1][2])
    return {"seconds": time.monotonic() - start, "computing": busy, "peak MB": peak}


def size(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0


def measure(images: int, classes: int, stages: Sequence[str], overrides: Sequence[str]) -> list[dict[str, Any]]:
    """Make the images and run the stages on them; a row for each."""
    rows: list[dict[str, Any]] = []
    with project.scratch() as folder:
        start = time.monotonic()
        make(folder / "images", images, classes)
        planted = -(-images // PLANTED)
        print(f"{images:,} images in {classes:,} classes made in {time.monotonic() - start:.0f} s", flush=True)
        project.configure([*OVERRIDES, f"data.raw={folder / 'images'}", *overrides])
        made = {"prepare": paths.PREPARED, "prepare again": paths.PREPARED, "evaluate": paths.EVALUATION}
        made |= {"phase1_head": paths.PHASE1, "phase2_finetune": paths.PHASE2, "export": paths.EXPORTED}
        for stage in stages:
            found: dict[str, Any] = {"stage": stage, "images": images + planted, "classes": classes}
            found |= run(stage.split()[0])
            found["written MB"] = size(made[stage]) / 1e6
            found["cache MB"] = size(Path("cache")) / 1e6
            if stage == "prepare":
                right, others = found_copies()
                print(f"planted copies found: {right:,} of {planted:,}; other clusters: {others:,}", flush=True)
            rows.append(found)
            print(*(f"{value:.4g}" if isinstance(value, float) else value for value in found.values()), flush=True)
    return rows


def exponents(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each stage the power of the images that computing, peak memory and files grow with."""
    grown = []
    for stage in dict.fromkeys(row["stage"] for row in rows):
        own = [row for row in rows if row["stage"] == stage]
        for small, large in pairwise(own):
            if large["images"] > small["images"]:
                times = math.log(large["images"] / small["images"])
                powers = {
                    name: math.log(max(large[name], 1e-9) / max(small[name], 1e-9)) / times
                    for name in ("computing", "peak MB", "written MB")
                }
                grown.append({"stage": stage, "from": small["images"], "to": large["images"], **powers})
    return grown


def recall(counts: Sequence[int]) -> list[dict[str, Any]]:
    """Compare random vectors with planted neighbours, all with all and by caps: seconds, and which pairs are found.

    They have the channels and the limit that near-duplicates have, and the products of planted pairs are even from
    the limit to 1. Real copies are nearer: of 1,600 photographs cut and compressed, 99 in 100 are above 0.86.
    """
    rows = []
    for count in counts:
        random = np.random.default_rng(0)
        vectors = random.standard_normal((count, CHANNELS), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        first, last = np.arange(count // PLANTED), count - count // PLANTED
        across = random.standard_normal((len(first), CHANNELS), np.float32)
        across -= (across * vectors[first]).sum(1, keepdims=True) * vectors[first]
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        products = random.uniform(near_duplicates.CUT + 1e-4, 1, (len(first), 1)).astype(np.float32)
        vectors[last:] = products * vectors[first] + np.sqrt(1 - products**2) * across
        for how, exact in (("all with all", 10**9), ("by caps", 0)):
            if how == "all with all" and count > MOST:
                continue
            similar_vectors.EXACT, similar_vectors.COST = exact, 0.0  # by caps however full these are
            start, busy = time.monotonic(), time.process_time()
            found, near, every = 0, 0, 0
            for one, other in similar_vectors.pairs(vectors, near_duplicates.CUT):
                planted = other - one == last
                every, found = every + len(one), found + int(planted.sum())
                near += int((products[one[planted], 0] >= SURE).sum())
            used = {"seconds": time.monotonic() - start, "computing": time.process_time() - busy, "pairs": every}
            share = {"planted": found / len(first), f"from {SURE} on": near / int((products >= SURE).sum())}
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
            rows.append({"compared": how, "vectors": count, **used, **share, "peak MB": peak})
            print(*rows[-1].values(), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="*", default=[10_000, 100_000], help="(default: %(default)s)")
    parser.add_argument("--classes", type=int, default=100, help="(default: %(default)s)")
    parser.add_argument("--stages", nargs="*", default=STAGES, choices=STAGES, help="(default: all)")
    parser.add_argument("--recall", type=int, nargs="*", default=[], help="vectors, to find their pairs and no more")
    parser.add_argument("--set", nargs="*", default=[], dest="overrides", help="more of the configuration")
    options = parser.parse_args()
    if options.recall:
        record.write("million_recall", "pairs of vectors with a product of 0.78", recall(options.recall))
        return
    rows = [
        row for count in options.images for row in measure(count, options.classes, options.stages, options.overrides)
    ]
    grown = exponents(rows)
    record.write("million", "a run by images and classes", rows, exponents=grown, overrides=options.overrides)
    if grown:
        record.write("million_exponents", "the power of the number of images that each grows with", grown)


if __name__ == "__main__":
    main()
