"""Kill a sweep at random moments, go on with it, and compare it with one that nobody disturbed.

``python -m benchmarks.killed --data DIR``. After each ``kill -9`` of the sweep's process, what it had started must end
by itself; then the same command is given again. In the end the table must have the same bytes, no trial that was
finished may have run again, and git must be as it was.
"""

import argparse
import random
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks import record, repository

GRID = ("phase2.learning_rate=1e-5,1e-4", "phase2.unfreeze=20,40")
PATIENCE = 90  # seconds in which what was started has to end


def finished(folder: Path) -> dict[str, float]:
    """Return the trials that git has an experiment of, each with the time of its log: a second run would change it."""
    names = repository.run(folder, "git", "for-each-ref", "--format=%(refname)", "refs/exps/").split()
    logs = {path.stem: path.stat().st_mtime for path in (folder / ".thaw").glob("sweeps/*/*.log")}
    return {name: logs[name] for name in (ref.rsplit("/", 1)[1] for ref in names) if name in logs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with one folder per class")
    parser.add_argument("--per-class", type=int, default=0, help="images of each class (default: all)")
    parser.add_argument("--kills", type=int, default=5, help="how often it is killed (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", help="of the sweep, swept ones too (default: a grid of four trials)")
    options = parser.parse_args()
    moments = random.Random(options.seed)  # noqa: S311 -- moments, not secrets
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        raw = repository.subset(options.data, options.per_class, Path(scratch) / "images")
        overrides = ["data=folder", f"data.raw={raw}", *(options.overrides or GRID)]
        with repository.cold() as folder:
            began = time.monotonic()
            ended = repository.start(folder, overrides).wait()
            wall = time.monotonic() - began
            expected = repository.table(folder)
            rows.append({"what": "undisturbed", "seconds": wall, "ended": ended, "finished": len(finished(folder))})
        with repository.cold() as folder:
            for number in range(options.kills):
                before, began = finished(folder), time.monotonic()
                process = repository.start(folder, overrides)
                try:
                    process.wait(moments.uniform(2, 2 * wall / options.kills))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                lived = time.monotonic() - began
                left = psutil.wait_procs(repository.busy(folder), timeout=PATIENCE)[1]
                now = finished(folder)
                rows.append(
                    {
                        "what": f"kill {number + 1}",
                        "seconds": lived,
                        "ended": process.returncode,
                        "finished": len(now),
                        "run again": sum(now.get(name) != log for name, log in before.items()),
                        "orphans": len(left),
                        "stash": len(repository.run(folder, "git", "stash", "list").splitlines()),
                        "changed": len(repository.run(folder, "git", "status", "--porcelain").splitlines()),
                    }
                )
            before = finished(folder)
            ended = repository.start(folder, overrides).wait()
            now = finished(folder)
            again = sum(now.get(name) != log for name, log in before.items())
            same = repository.table(folder) == expected
            rows.append({"what": "to its end", "ended": ended, "finished": len(now), "run again": again})
    columns = ("what", "seconds", "ended", "finished", "run again", "orphans", "stash", "changed")
    table = [{column: row.get(column, "") for column in columns} for row in rows]
    told = "the same, bit for bit" if same else "ANOTHER TABLE"
    record.write(f"killed_{options.data.resolve().name}", f"the table is {told}", table, same=same)


if __name__ == "__main__":
    main()
