"""What has changed in the inputs of a stage since its run was recorded, so that it makes something else now."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from thaw import paths, records
from thaw.tracking import dvc_lock, lineage


def found(project: Path, copy: Path, stages: Sequence[str]) -> list[str]:
    """Return what of the inputs of stages is not as it was recorded, a line each.

    Args:
        project: its record of the run is that of then.
        copy: the same today; the stages have run there.
        stages: their names.
    """
    if not (project / paths.PROVENANCE).is_file():
        return [f"{paths.PROVENANCE} is not there, so nothing is known of the inputs of then"]
    before = Path.cwd()
    os.chdir(copy)
    try:
        now, own = lineage.describe(), [lineage.inputs(stage) for stage in stages]
    finally:
        os.chdir(before)
    recorded = records.read_json(project / paths.PROVENANCE)
    # Of parameters and code only what the stages declare; the data of a stage are what stages before it have made.
    for each in (now, recorded):
        for kind in ("code", "parameters"):
            declared = {name for inputs in own for name in inputs[kind]}
            each[kind] = {name: value for name, value in each.get(kind, {}).items() if name in declared}
        each["hardware"] = {name: value for name, value in each.get("hardware", {}).items() if name in stages}
    # What a version of then did not record has not changed.
    now["hardware"] = {name: value for name, value in now["hardware"].items() if name in recorded["hardware"]}
    if lineage.LAST in stages:
        _of_the_last(project, recorded, now, own[list(stages).index(lineage.LAST)])
    kinds = [kind for kind in now if kind != "data"]
    return lineage.changes(recorded, now, kinds) + _images(project, copy)


def _of_the_last(project: Path, recorded: dict[str, Any], now: dict[str, Any], own: dict[str, Any]) -> None:
    """Compare the parameters of `export`, of which the record of the run has none, with those that DVC has noted."""
    lock = project / "dvc.lock"
    noted = yaml.safe_load(lock.read_text(encoding="utf-8")).get("stages", {}) if lock.is_file() else {}
    params = noted.get(lineage.LAST, {}).get("params", {}).get(paths.PARAMS.name, {})
    today = {name: own["parameters"][name] for name in params if name in own["parameters"]}
    recorded["parameters"] |= dvc_lock.numbered(params)
    now["parameters"] |= dvc_lock.numbered(today)


def _images(project: Path, copy: Path) -> list[str]:
    """Return which images are others."""
    both = []
    for root in (project, copy):
        rows = records.read_csv(root / paths.MANIFEST) if (root / paths.MANIFEST).is_file() else []
        both.append({row["path"]: row["sha256"] for row in rows})
    names = sorted(name for name in both[0].keys() | both[1].keys() if both[0].get(name) != both[1].get(name))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"images: {', '.join(names[:3])}{more}: added, removed or changed"] if names else []
