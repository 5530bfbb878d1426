"""A first look: the pipeline on a sample of the images and for a short time, in a folder of its own.

The same stages run on params.yaml with a few values changed, in ``.thaw/first_look``. Nothing else of the project
changes: no split, no figure, no run in MLflow. The activation cache is the project's, which finds them again, and what
was measured goes into the project's ledger of timings, so that `thaw explain` can say what the whole may take.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from thaw import paths, records, timings
from thaw.config import concurrency, schema
from thaw.data import folders
from thaw.data.table import NEEDED, OPTIONAL, Entry
from thaw.project import pipeline_run, template

FOLDER = Path(".thaw/first_look")
IMAGES = 400  # in all
FEWEST = 12  # of a class, so that each split has some
MINUTES, EPOCHS = 0.25, 8


def run(project: schema.Project, values: dict[str, Any], *, quiet: bool = False) -> tuple[dict[str, Any], str]:
    """Run it.

    Args:
        project: the configuration.
        values: the same, as params.yaml has it.
        quiet: write what the stages say to standard error.

    Returns:
        What ``pipeline_run.outcome`` says of it, and a line for people.
    """
    concurrency.check_idle(FOLDER)
    if Path(project.data.raw) == paths.SAMPLE and not paths.SAMPLE.is_dir():
        pipeline_run.reproduce(Path(), pipeline_run.SAMPLE, quiet=quiet)
    found = folders.find(project.data.raw, project.data.nested)
    taken = draw(found.entries)
    if not taken:
        raise ValueError(f"data.raw: expected images, found none in {project.data.raw}")
    write(found.root, taken, project, values)
    held = cached(project)
    pipeline_run.reproduce(FOLDER, "evaluate", quiet=quiet, modules=Path.cwd())
    _remember(project, values, len(found.entries), cached(project) - held)
    line = (
        f"a first look at {len(taken):,} of {len(found.entries):,} images, {MINUTES:g} minutes of phase 2 at most; "
        "`thaw run` takes all"
    )
    return pipeline_run.outcome(FOLDER), line


def cached(project: schema.Project) -> int:
    """Return the bytes in the activation cache."""
    folder = Path(project.compute.cache_dir or paths.main_root() / ".thaw" / "activations")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


def _remember(project: schema.Project, values: dict[str, Any], images: int, grown: int) -> None:
    """Remember what was measured, for `thaw explain`: the times, how many images there are, and what a view takes.

    Args:
        images: in all, of which this was a look at some.
        grown: bytes by which the activation cache has grown; 0: all was there.
    """
    timings.take(FOLDER / paths.LEDGER)
    splits = records.read_json(FOLDER / paths.metrics("prepare"))["splits"]
    views = splits["train"]["images"] + splits["val"]["images"]
    facts = {"bytes": grown, "views": views, "stored_as": project.phase2.stored_as} if grown > 0 else {}
    timings.write("first_look", values, raw=project.data.raw, images=images, **facts)


def draw(entries: Sequence[Entry]) -> list[Entry]:
    """Return a sample of the images, as many of each class, in the order of their paths; the same each time."""
    by_class: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: hashlib.sha256(entry.path.encode(errors="replace")).digest()):
        by_class[entry.label].append(entry)
    each = max(FEWEST, IMAGES // max(len(by_class), 1))
    return sorted((entry for group in by_class.values() for entry in group[:each]), key=lambda entry: entry.path)


def write(root: Path, taken: Sequence[Entry], project: schema.Project, values: dict[str, Any]) -> None:
    """Write the folder: pipeline, table of images, params.yaml."""
    records.make_new(FOLDER)
    for path, text in template.files("first look"):
        if path.parts[0] in ("dvc.yaml", "stages", ".dvcignore"):
            records.write_text(FOLDER / path, text)
    for path in sorted(Path("stages").rglob("*.py")):  # the project's own, which may be other code
        records.write_text(FOLDER / path, path.read_text(encoding="utf-8"))
    # Its dvc.yaml lies where git looks at nothing, which DVC refuses in a repository.
    records.write_text(FOLDER / ".dvc/config", "[core]\n    analytics = false\n    no_scm = true\n")
    columns = (*NEEDED, *OPTIONAL)
    rows = ({name: getattr(entry, name) for name in columns} for entry in taken)
    absolute = Path(os.path.abspath(root))  # noqa: PTH100 -- resolve() would follow links
    listed = ({**row, "path": str(absolute / row["path"])} for row in rows)
    records.write_csv(FOLDER / "images.csv", columns, listed, guarded=False)
    (FOLDER / paths.PARAMS).write_text(yaml.safe_dump(shortened(project, values)), encoding="utf-8")


def shortened(project: schema.Project, values: dict[str, Any]) -> dict[str, Any]:
    """Return params.yaml with what makes a run short."""
    changed = {group: dict(fields) if isinstance(fields, dict) else fields for group, fields in values.items()}
    changed["data"] |= {"raw": "images.csv"}
    cache = project.compute.cache_dir or ".thaw/activations"
    changed["compute"] |= {"cache_dir": os.path.abspath(cache)}  # noqa: PTH100
    if Path(project.backbone.weights).exists() and project.backbone.weights:
        changed["backbone"] |= {"weights": os.path.abspath(project.backbone.weights)}  # noqa: PTH100
    changed["tracking"] |= {"enabled": False}
    # One view, the image as it is: each further one is a pass through the frozen layers.
    changed["augment"] |= {name: type(value)(0) for name, value in changed["augment"].items() if name != "seed"}
    changed["augment"] |= {"views": 1}
    changed["evaluate"] |= {"robustness": 0.0, "scratch": False}
    if project.phase2.schedule == "cosine":  # which has no bound in minutes
        changed["phase2"] |= {"epochs": min(EPOCHS, project.phase2.epochs or EPOCHS)}
    else:
        changed["phase2"] |= {"minutes": min(project.phase2.minutes or MINUTES, MINUTES)}
    return changed
