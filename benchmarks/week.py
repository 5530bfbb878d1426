"""Measure a project of one's own from nothing, and a week later with more images.

``python -m benchmarks.week --data DIR [--more 100] [--again]``. Some images of each class are held back. ``thaw new``
and ``thaw run`` make a project of the others and its exported model; the rest is put into the same folder, and
``thaw run`` is given again. With ``--again`` a second project is made of all images, with nothing computed yet: what
the second run would take if it re-used nothing. Seconds are those of the commands, imports and exports included.
"""

import argparse
import csv
import json
import random
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import record, repository
from benchmarks.sweep import notes

MANIFEST, SPLITS = Path("data/prepared/manifest.csv"), ("train", "val", "test")
RAN = re.compile(r"^Running stage '(\w+)'", re.MULTILINE)  # DVC's words


def held_back(files: Iterable[Path], share: float) -> list[Path]:
    """Return a seeded draw of the images of each folder, a share of them; one at least stays."""
    of: dict[Path, list[Path]] = {}
    for file in sorted(files):
        of.setdefault(file.parent, []).append(file)
    found: list[Path] = []
    for own in of.values():
        drawn = random.Random(0).sample(own, len(own))  # noqa: S311 -- a seeded draw
        found += drawn[: min(round(share * len(own)), len(own) - 1)]
    return found


def splits(folder: Path) -> dict[str, str]:
    """Return the split of each image of a project, by its path."""
    with (folder / MANIFEST).open(encoding="utf-8", newline="") as file:
        return {row["path"]: row["split"] for row in csv.DictReader(file)}


def moved(before: Mapping[str, str], after: Mapping[str, str]) -> int:
    """Return how many images are in another split than before, or are gone."""
    return sum(after.get(path) != split for path, split in before.items())


def counted(of: Iterable[str]) -> str:
    """Return how many images each split has, in words."""
    every = list(of)
    return ", ".join(f"{every.count(split):,} {split}" for split in SPLITS)


def ran(folder: Path) -> dict[str, Any]:
    """Run a project to its end, and return its seconds, its figures and what it has computed."""
    known = sum(1 for _ in _passed(folder))
    began = time.monotonic()
    said = repository.run(folder, "sh", "-c", "thaw run --json 2> run.log")
    seconds = time.monotonic() - began
    found, log = json.loads(said), (folder / "run.log").read_text(encoding="utf-8")
    (folder / "run.log").unlink()
    test = found["phase2" if found["ship"] != "phase1" else "phase1"]
    return {
        "seconds": round(seconds, 1),
        "images": counted(splits(folder).values()),
        "stages run": len(RAN.findall(log)),
        "views through the frozen layers": sum(list(_passed(folder))[known:]),
        "test accuracy": f"{test['accuracy']:.1%} ({test['accuracy_low']:.1%} to {test['accuracy_high']:.1%})",
    }


def _passed(folder: Path) -> Iterable[int]:
    return [note["count"] for note in notes(folder, "extraction")] if (folder / ".thaw/ledger.jsonl").is_file() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with one folder per class")
    parser.add_argument("--more", type=int, default=100, help="images that come later (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="all images from nothing too")
    parser.add_argument("--set", nargs="*", default=[], dest="choices", help="of `thaw new`, such as image=px128")
    options = parser.parse_args()
    data = options.data.resolve()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        images, later, project = (Path(scratch) / name for name in ("images", "later", "project"))
        shutil.copytree(data, images)
        files = [path for path in images.rglob("*") if path.is_file()]
        for file in held_back(files, options.more / len(files)):
            (later / file.relative_to(images)).parent.mkdir(parents=True, exist_ok=True)
            file.rename(later / file.relative_to(images))
        more = ["--data", str(images), *options.choices]
        began = time.monotonic()
        repository.run(Path(scratch), "thaw", "new", str(project), *more)
        made = time.monotonic() - began
        rows.append({"what": "thaw new", "seconds": round(made, 1)})
        rows.append({"what": "thaw run", **ran(project)})
        before, added = splits(project), sum(1 for path in later.rglob("*") if path.is_file())
        shutil.copytree(later, images, dirs_exist_ok=True)
        rows.append({"what": f"thaw run, {added} images more", **ran(project)})
        after = splits(project)
        if options.again:
            repository.run(Path(scratch), "thaw", "new", f"{project}-again", *more)
            rows.append({"what": "all of them from nothing", **ran(Path(f"{project}-again"))})
    rows = [{**dict.fromkeys(rows[-1], ""), **row} for row in rows]
    record.write(
        f"week_{data.name}",
        f"{data.name}: {moved(before, after)} of {len(before):,} images changed their split; "
        f"those added: {counted(after[path] for path in set(after) - set(before))}",
        rows,
        choices=options.choices,
    )


if __name__ == "__main__":
    main()
