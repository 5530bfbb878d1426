"""The code of the installed package that each stage runs, as hashes: what a project's stages depend on.

The hashes are of syntax trees (``thaw.runtime.code_version``), of those packages that the repository's dvc.yaml names
for the stage. So an upgrade makes those stages stale whose code has changed, and no others.
"""

import hashlib
from importlib.metadata import version

from thaw import console, paths, records
from thaw.project import template
from thaw.runtime import code_version


def of(stage: str) -> str:
    """Return the hash of the code that the installed package runs for a stage: 64 hex digits."""
    root = template.source()
    parts = [name.removeprefix("thaw/") for name in template.stages()[stage]["deps"] if name.startswith("thaw/")]
    own = code_version.of_source((root / "stages" / f"{stage}.py").read_bytes())
    return hashlib.sha256(f"{code_version.of(*parts)} {own}".encode()).hexdigest()


def write() -> None:
    """Write a record for each stage, and the package's version beside them, on which nothing depends."""
    records.make_new(paths.PACKAGE)
    for stage in template.stages():
        if stage != template.SAMPLE:
            records.write_json(template.record(stage), {"code": of(stage)})
    records.write_json(paths.PACKAGE / "version.json", {"thaw": version("thaw")})
    console.result(template.RECORD, f"thaw {version('thaw')} → {paths.PACKAGE}")
