"""A copy of the project in a temporary folder, in which a benchmark composes configurations and runs stages."""

import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from thaw import paths
from thaw.config import load, schema

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def scratch() -> Iterator[Path]:
    """Copy the project and make the copy the current folder; it is gone afterwards."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        for part in ("conf", "stages", "thaw"):
            shutil.copytree(ROOT / part, Path(folder) / part)
        shutil.copyfile(ROOT / "dvc.yaml", Path(folder) / "dvc.yaml")
        (Path(folder) / paths.CHOSEN).unlink(missing_ok=True)
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def configure(overrides: Sequence[str]) -> schema.Project:
    """Compile conf/ with ``overrides``, without tracking and with an activation cache of the copy's own."""
    own = ["tracking.enabled=false", f"compute.cache_dir={Path.cwd()}/cache"]
    paths.PARAMS.write_text(load.compose([*own, *overrides]), encoding="utf-8")
    return load.check(yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8")))


def run(stage: str) -> Any:
    """Run a stage in this process."""
    return importlib.import_module(f"stages.{stage}").main()
