"""Compare ``dvc.lock`` with what lies on disk: which records belong to this run, and which are of an earlier one."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from thaw import paths, records
from thaw.tracking import pipeline

CODE = "thaw"  # the folder whose folders are dependencies of code
_EXPONENT = re.compile(r"[+-]?\d+e[+-]?\d+")


def valid(stage: str, params: Mapping[str, Any], *, finished: bool) -> list[str]:
    """Return the stages whose records on disk belong to this run, in the pipeline's order.

    A record is out of date if a file it was made from is another one now, and then so is each record after it. The
    records of later stages must agree with ``dvc.lock`` too: the code and the parameters they were made with.

    Args:
        stage: The one that asks.
        params: The whole of params.yaml.
        finished: Whether ``stage`` has ended well; if not, only the stages before it are looked at.
    """
    own = pipeline.STAGES.index(stage)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a quarter of a second less, in each stage twice
    text = paths.DVC_LOCK.read_bytes() if paths.DVC_LOCK.exists() else b"{}"
    locked = yaml.load(text, loader)  # noqa: S506  both loaders are the safe one
    stages: dict[str, Any] = locked.get("stages", {}) if isinstance(locked, dict) else {}
    found = []
    for index, name in enumerate(pipeline.STAGES if finished else pipeline.STAGES[:own]):
        if not paths.metrics(name).exists():
            continue
        record = records.read_json(paths.metrics(name))
        made_from = {each["path"]: each["sha256"] for each in record.get("made_from", [])}
        if any(not Path(path).is_file() or records.sha256(Path(path)) != sum_ for path, sum_ in made_from.items()):
            break
        if index > own and not (made_from and _agrees(stages.get(name, {}), params)):
            break
        found.append(name)
    return found


def _agrees(locked: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    """Return whether code and parameters a stage ran with are still the same. Folders of data are left to
    ``made_from``.
    """
    for dependency in locked.get("deps", []):
        path, expected = Path(dependency["path"]), dependency.get("md5", "")
        if dependency.get("hash") != "md5" or (expected.endswith(".dir") and path.parts[0] != CODE):
            continue
        if expected.endswith(".dir"):
            if _folder_md5(path) != expected:
                return False
            continue
        if not path.is_file() or hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != expected:
            return False
    for name, value in locked.get("params", {}).get(paths.PARAMS.name, {}).items():
        now: Any = params
        for key in name.split("."):
            now = now.get(key) if isinstance(now, Mapping) else None
        if _plain({name: now}) != _plain({name: value}):
            return False
    return True


def _folder_md5(folder: Path) -> str:
    """Return the hash that DVC gives to a folder of code: of the list of its files and their hashes."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    listing = [
        {"md5": hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest(), "relpath": name}
        for name, path in sorted(files.items())
        if "__pycache__" not in path.parts  # .dvcignore
    ]
    return f"{hashlib.md5(json.dumps(listing).encode(), usedforsecurity=False).hexdigest()}.dir"


def _plain(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the leaves, with numbers as floats: 1e-05 is a number to DVC's YAML and a text to PyYAML."""
    plain: dict[str, Any] = {}
    for key, value in pipeline.leaves(tree, "."):
        try:
            plain[key] = float(value)
        except (TypeError, ValueError):
            plain[key] = value
    return plain


def numbered(noted: Any) -> Any:
    """Return what was read from YAML, with numbers as DVC writes them, such as 1e-05: to PyYAML they are texts."""
    if isinstance(noted, Mapping):
        return {name: numbered(value) for name, value in noted.items()}
    if isinstance(noted, list):
        return [numbered(value) for value in noted]
    return float(noted) if isinstance(noted, str) and _EXPONENT.fullmatch(noted) else noted
