"""Measure test accuracy by the number of cached views, against streaming with a fresh view each epoch.

``python -m benchmarks.views --data DIR [DIR …]``.
"""

import argparse
from pathlib import Path

from benchmarks import record, trials

STREAMING = "streaming"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders with one folder per class")
    parser.add_argument("--views", nargs="+", default=["1", "2", "4", "8", "16"], help="(default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--set", nargs="*", default=[], dest="overrides", help="more of the configuration")
    options = parser.parse_args()
    # The first view is the image as it is, so one alone is no augmentation.
    settings = {views: [f"augment.views={views}" if views != "1" else "augment=none"] for views in options.views}
    settings[STREAMING] = ["phase2.activations=streaming"]
    for data in (path.resolve() for path in options.data):
        results = trials.run(data, settings, options.seeds, options.overrides, ["augment"])
        table = trials.rows(results, "views", STREAMING)
        record.write(f"views_{data.name}", f"{data.name}, {options.seeds} seeds", table, right=trials.right(results))


if __name__ == "__main__":
    main()
