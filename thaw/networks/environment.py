"""Describe what determines results and is neither code nor parameter: versions of packages, and the bytes of the
weights.

DVC sees neither. The stage ``environment`` writes them down in each run of the pipeline, and what trains or evaluates
depends on that file; for a sweep they are part of what a trial is. The same lock gives the same file everywhere.
"""

import importlib.util
from importlib.metadata import version
from pathlib import Path

from thaw import records
from thaw.config import schema

# Those whose numbers go into a model, into what it says, into the activations it learns from, or into the report.
PACKAGES = (
    "cleanlab",
    "keras",
    "numpy",
    "onnxruntime",
    "pillow",
    "scikit-learn",
    "scipy",
    "tensorflow",
    "tf2onnx",
)


def describe(backbone: schema.Backbone) -> dict[str, dict[str, str]]:
    """Return the versions of the packages, and the sha256 of what ``backbone.weights`` and ``backbone.builder`` name.

    Files that a word or a handle stands for are pinned by their hashes, and files that are not there have none.
    """
    return {
        "packages": {name: version(name) for name in PACKAGES},
        "sha256": {"weights": _weights(backbone.weights), "builder": _builder(backbone.builder)},
    }


def _weights(name: str) -> str:
    path = Path(name)
    if path.is_dir():
        return records.folder_sha256(path)
    return records.sha256(path) if path.is_file() else ""


def _builder(name: str) -> str:
    """Return the sha256 of the module's own file; what it imports is its author's to tell DVC of."""
    try:
        found = importlib.util.find_spec(name.partition(":")[0]) if name else None
    except (ImportError, ValueError):  # which phase 1 will say
        return ""
    origin = Path(found.origin) if found and found.origin else None
    return records.sha256(origin) if origin and origin.is_file() else ""
