"""The lineage of a stage: all that determines what it makes. By it a checkpoint is known, and a difference explained.

These are the parameters that dvc.yaml tracks for the stage, by value; its code, by the syntax tree; the bytes of what
it reads; the packages that compute, and the bytes of the weights. Nothing depends on a clock, a machine's name or
where the project lies.
"""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from thaw import paths, records
from thaw.config import load, schema
from thaw.networks import environment
from thaw.runtime import code_version, threads

PIPELINE = Path("dvc.yaml")
CODE = ("thaw", "stages")  # folders of code
PACKAGES = ("h5py",)  # by which weights are read, beside those that ``models/environment.json`` names
TRAININGS = ("phase1_head", "phase2_finetune")
LAST = "export"
HOW = "compute"  # the group
# PNGs in place of images: the manifest has the hash of each, and who reads one compares it.
KNOWN_BY_MANIFEST = paths.CONVERTED.name

Common = tuple[schema.Project, dict[str, dict[str, str]]]  # params.yaml, and what ``environment.describe`` gives


def stages() -> dict[str, dict[str, Any]]:
    """Return the stages of dvc.yaml, in its order, with what each declares."""
    declared: dict[str, dict[str, Any]] = yaml.safe_load(PIPELINE.read_text(encoding="utf-8"))["stages"]
    return declared


def inputs(stage: str, *, read: bool = True, common: Common | None = None) -> dict[str, dict[str, Any]]:
    """Return the inputs of a stage, of the project in the current folder.

    Args:
        read: the data, for their hashes; without it ``data`` is empty.
        common: to all stages, where the caller has it.

    Returns:
        ``parameters``, ``code``, ``data``, ``packages`` and ``weights``, each by name.
        Parameters are those that DVC tracks, and how the work is done (``compute``), which last bits may hang on.

    Raises:
        ValueError: the stage is unknown, or params.yaml is wrong.
    """
    declared = stages()
    if stage not in declared:
        raise ValueError(f"expected one of the stages {', '.join(declared)}, received {stage!r}")
    project, found = common or _common()
    names = [str(name) for name in declared[stage].get("deps", ())]
    code = [name for name in names if Path(name).parts[0] in CODE]
    data = [Path(name) for name in names if name not in code and Path(name) != paths.ENVIRONMENT]
    return {
        # Of a field that is tracked alone its whole group.
        "parameters": {
            name: asdict(getattr(project, name))
            for name in dict.fromkeys(each.partition(".")[0] for each in (*declared[stage].get("params", ()), HOW))
        },
        "code": {name: code_version.of_files(Path(), [Path(name)]) for name in code},
        "data": {path.as_posix(): content(path) for path in data if read and path.exists()},
        "packages": _packages(found["packages"]),
        "weights": found["sha256"],
    }


def _common() -> Common:
    project, _ = load.read()
    return project, environment.describe(project.backbone)


def _packages(computing: Mapping[str, str]) -> dict[str, str]:
    more = {name: version(name) for name in PACKAGES}
    return dict(computing) | more | {"python": platform.python_version()}


def describe() -> dict[str, dict[str, Any]]:
    """Return the lineage of what the pipeline has made in the current folder, for ``paths.PROVENANCE``.

    Returns:
        What ``inputs`` gives for all stages together, of the data only what stands for all images, the device and
        number of threads that each training has recorded, and the threads of this process. Not ``export``'s: its files
        carry what they came of.
    """
    found: dict[str, dict[str, Any]] = {}
    common = _common()
    for stage in stages():
        for kind, values in inputs(stage, read=False, common=common).items() if stage != LAST else ():
            found.setdefault(kind, {}).update(values)
    found["data"] = {path.as_posix(): content(path) for path in (paths.PREPARED, paths.MEMORY) if path.exists()}
    for stage in TRAININGS:
        record = records.read_json(paths.metrics(stage)) if paths.metrics(stage).is_file() else {}
        found.setdefault("hardware", {})[stage] = {
            name: record.get(name) for name in ("device", "threads", "precision")
        }
    found["hardware"]["evaluate"] = {"threads": threads.used()}  # it writes the record
    return found


def changes(before: Mapping[str, Any], now: Mapping[str, Any], kinds: Sequence[str] = ()) -> list[str]:
    """Return a line for each value that two lineages do not share.

    Args:
        before: of a run, as ``describe`` gave it.
        now: the same of today.
        kinds: of inputs; empty: all.
    """
    old, new = (dict(leaves(each)) for each in (before, now))
    lines = []
    for name in sorted(old.keys() | new.keys()):
        if (not kinds or name[0] in kinds) and old.get(name) != new.get(name):
            values = [_short(each.get(name)) for each in (old, new)]
            lines.append(f"{name[0]}: {'.'.join(name[1:])}: {values[0]} → {values[1]}")
    return lines


def leaves(tree: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the values that are not mappings, each with the names on the way to it."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*above, name))
        else:
            yield (*above, name), value


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:8]}…" if len(text) == 64 else text


def content(path: Path) -> str:
    """Return the hex sha256 of a file, or of the names and bytes of a folder's files."""
    if path.is_file():
        return records.sha256(path)
    total = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        name = file.relative_to(path)
        if name.parts[0] != KNOWN_BY_MANIFEST:
            total.update(f"{name.as_posix()} {records.sha256(file)}\n".encode())
    return total.hexdigest()


def key(found: Mapping[str, Any]) -> str:
    """Return 32 hex digits for inputs and whatever else determines a result, given as JSON-able values."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:32]
