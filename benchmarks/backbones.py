"""Measure what each backbone with real weights reaches on real images, after each phase, and how long it takes.

``python -m benchmarks.backbones --data DIR [DIR …] [--backbones OVERRIDES …]``. A backbone is given as overrides with
spaces between, such as ``"backbone=mobilenet_v2 backbone.weights=PATH"``.
"""

import argparse
import statistics
from pathlib import Path

import numpy as np

from benchmarks import record, trials

PACKAGED = [f"backbone=efficientnet_lite{number}" for number in range(3)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders with one folder per class")
    parser.add_argument("--backbones", nargs="+", default=PACKAGED, help="(default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--set", nargs="*", default=[], dest="overrides", help="more of the configuration")
    options = parser.parse_args()
    settings = {given.split()[0].removeprefix("backbone="): given.split() for given in options.backbones}
    for data in (path.resolve() for path in options.data):
        results = trials.run(data, settings, options.seeds, options.overrides)
        rows = [
            {
                "backbone": name,
                "phase 1": trials.accuracy(np.mean([trial["right before"] for trial in each], axis=0)),
                "phase 2": trials.accuracy(np.mean([trial["right"] for trial in each], axis=0)),
                "phase 1 s": round(statistics.median(trial["seconds before"] for trial in each), 1),
                "phase 2 s": round(statistics.median(trial["seconds"] for trial in each), 1),
            }
            for name, each in results.items()
        ]
        title = f"{data.name}, {options.seeds} seeds; extraction is part of phase 1"
        record.write(f"backbones_{data.name}", title, rows, right=trials.right(results))


if __name__ == "__main__":
    main()
