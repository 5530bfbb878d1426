"""Measure the test accuracy by how much is unfrozen, and what ``auto`` would have chosen.

``python -m benchmarks.depths --data DIR [DIR …]``. From its tables the numbers of ``thaw.features.auto_unfreeze`` are
chosen.
"""

import argparse
from pathlib import Path

from benchmarks import record, trials

DEFAULT = "auto"
DEPTHS = ("none", "10%", "20%", "30%", "40", "50%", "75%", "all", DEFAULT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders with one folder per class")
    parser.add_argument(
        "--depths", nargs="+", default=list(DEPTHS), help="words of phase2.unfreeze (default: %(default)s)"
    )
    parser.add_argument("--seeds", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--set", nargs="*", default=[], dest="overrides", help="more of the configuration")
    options = parser.parse_args()
    settings = {depth: [f"phase2.unfreeze={depth}"] for depth in options.depths}
    against = DEFAULT if DEFAULT in settings else options.depths[0]
    for data in (path.resolve() for path in options.data):
        results = trials.run(data, settings, options.seeds, options.overrides)
        table = trials.rows(results, "phase2.unfreeze", against)
        for row in table:
            row["thawed"] = ", ".join(dict.fromkeys(trial["boundary"] for trial in results[row["phase2.unfreeze"]]))
        name, about = f"depths_{data.name}", f"{data.name}, {options.seeds} seeds"
        record.write(name, about, table, right=trials.right(results))


if __name__ == "__main__":
    main()
