"""What several tests share: a quiet environment, a copy of the project to work in, and a few images to learn from."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thaw import config, layout

# TensorFlow reads this when it is loaded, so it is set before any test module is.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("conf", "stages", "thaw", ".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore", "dvc.yaml")
# Small, yet every part of the pipeline has something to do. tracking.enabled=true where a test is about MLflow.
TINY = ("data=folder", "image=px64", "augment.views=2", "phase1.epochs=2", "phase2.epochs=2", "tracking.enabled=false")
# What a developer's shell, or the DVC that runs these tests, could bring in.
FOREIGN = (
    "DVC_ROOT",
    "DVC_STAGE",
    "DVC_EXP_NAME",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_RUN_ID",
    "THAW_TRACEBACK",
    "THAW_TRIAL",
)


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches a real MLflow server, takes itself for a stage under DVC, or reads a person's git settings."""
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed copy of the project, configured by ``TINY``, and the current folder from now on.

    Its images are data/raw, which the fixture ``tiny_images`` fills. ``python``, ``dvc`` and ``thaw`` are the
    environment's own, and ``python -m stages.x`` runs the copy.
    """
    for part in PARTS:
        source, target = ROOT / part, tmp_path / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, target)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    layout.PARAMS.write_text(config.compose(TINY), encoding="utf-8", newline="\n")
    for words in (
        ("init", "--quiet", "--initial-branch=main"),
        ("config", "user.name", "test"),
        ("config", "user.email", "test@example.com"),
        ("add", "."),
        ("commit", "--quiet", "--message=start"),
    ):
        subprocess.run(["git", *words], check=True)
    return tmp_path


@pytest.fixture
def tiny_images(tmp_path: Path) -> Path:
    """data/raw of the ``project``: 3 classes of 12 images."""
    return make_images(tmp_path / "data" / "raw")


def make_images(root: Path, classes: int = 3, per_class: int = 12, size: int = 40) -> Path:
    """Write seeded PNG files that can be told apart by their colour.

    Args:
        root: folder that gets one folder per class: class_0, class_1, …
        classes: how many, 1 to 6.
        per_class: images of each class, all different.
        size: pixels, height and width.

    Returns:
        ``root``.
    """
    colours = np.array([(200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40), (200, 40, 200), (40, 200, 200)])
    random = np.random.default_rng(0)
    for label in range(classes):
        folder = root / f"class_{label}"
        folder.mkdir(parents=True)
        for index in range(per_class):
            pixels = colours[label] + random.integers(-40, 40, (size, size, 3))  # (size, size, 3) within 0 to 255
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index:02}.png")
    return root
