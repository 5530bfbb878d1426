"""Measure time and memory as a folder of images grows tenfold: ``python -m benchmarks.scale --data DIR``.

The larger folder holds ten versions of each image, changed a little and written anew, so that each has activations of
its own. Every stage runs as a process of its own, and its peak resident memory is what the kernel says of it.
"""

import argparse
import io
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from benchmarks import project, record

STAGES = ("prepare", "phase1_head", "phase2_finetune")
MEASURED = (
    "import resource, runpy, sys; sys.argv = sys.argv[1:2]; "
    "runpy.run_module(sys.argv[0], run_name='__main__'); "
    "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
)


def grow(source: Path, target: Path, images: int, times: int) -> int:
    """Write ``times`` versions of the first ``images`` images of each class; the first version is the image itself."""
    count = 0
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        (target / folder.name).mkdir(parents=True)
        for number, path in enumerate(sorted(folder.iterdir())[:images]):
            pixels = Image.open(path).convert("RGB")
            for version in range(times):
                random = np.random.default_rng([number, version])
                changed = pixels
                if version:
                    turned = pixels.rotate(random.uniform(-15, 15), Image.Resampling.BILINEAR)
                    changed = ImageEnhance.Brightness(turned).enhance(random.uniform(0.7, 1.3))
                data = io.BytesIO()
                changed.save(data, "JPEG", quality=92)
                (target / folder.name / f"{number:05}_{version:02}.jpg").write_bytes(data.getvalue())
                count += 1
    return count


def stage(name: str) -> tuple[float, float]:
    """Return seconds and peak resident memory in MB of a stage in a process of its own."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, f"stages.{name}"], check=True, stderr=subprocess.PIPE, text=True
    )
    unit = 1024 if sys.platform != "darwin" else 1
    peak = next(int(line.split()[1]) for line in done.stderr.splitlines() if line.startswith("peak "))
    return time.monotonic() - start, peak * unit / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with one folder per class")
    parser.add_argument("--images", type=int, default=100, help="of each class (default: %(default)s)")
    parser.add_argument("--set", nargs="*", default=[], dest="overrides", help="more of the configuration")
    options = parser.parse_args()
    source, rows = options.data.resolve(), list[dict[str, Any]]()
    with project.scratch() as folder:
        for times in (1, 10):
            raw = folder / f"images_{times}"
            count = grow(source, raw, options.images, times)
            project.configure(["data=folder", f"data.raw={raw}", *options.overrides])
            for name in STAGES:
                seconds, peak = stage(name)
                rows.append(
                    {
                        "stage": name,
                        "images": count,
                        "s": seconds,
                        "ms an image": 1000 * seconds / count,
                        "peak MB": peak,
                    }
                )
    rows.sort(key=lambda row: STAGES.index(row["stage"]))
    for small, large in zip(rows[::2], rows[1::2], strict=True):
        small["peak, of 1×"], large["peak, of 1×"] = 1.0, large["peak MB"] / small["peak MB"]
    record.write("scale", f"{source.name}, 1 and 10 times {rows[0]['images']} images", rows)


if __name__ == "__main__":
    main()
