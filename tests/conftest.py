"""What several tests share: a quiet environment, a copy of the project to work in, and a few images to learn from."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, settings
from PIL import Image

from thaw import paths, records
from thaw.config import chosen, load

# TensorFlow reads this when it is loaded, so it is set before any test module is.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# So does ONNX Runtime, which some test modules import before anything of the library.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# Property-based tests: the same few examples each time, unless THAW_HYPOTHESIS=long asks for many new ones.
TOO_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]  # not what is tested here
settings.register_profile(
    "short", derandomize=True, max_examples=100, deadline=None, database=None, suppress_health_check=TOO_SLOW
)
settings.register_profile(
    "long", max_examples=5000, deadline=None, database=None, print_blob=True, suppress_health_check=TOO_SLOW
)
settings.load_profile(os.environ.get("THAW_HYPOTHESIS", "short"))

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("conf", "stages", "thaw", ".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore", "dvc.yaml")
# Small, yet every part of the pipeline has something to do. tracking.enabled=true where a test is about MLflow.
TINY = ("data=folder", "image=px64", "augment.views=2", "phase1.epochs=2", "phase2.epochs=2", "tracking.enabled=false")
SWEEP = paths.SWEEPS / "learning_rate-unfreeze-12345678"  # of the project that ``finished_sweep`` is in
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


# How near numbers are that were computed in other orders, as shares of the largest: on a GPU cuDNN chooses how.
NEAR = {"cpu": 1e-5, "gpu": 1e-4}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    needy = [item for item in items if item.get_closest_marker("gpu")]
    if needy and not _gpu():
        for item in needy:
            item.add_marker(pytest.mark.skip(reason="needs a GPU that TensorFlow sees"))


def _gpu() -> bool:
    from thaw.runtime import devices  # noqa: PLC0415 -- TensorFlow is loaded where tests want it

    return devices.on_gpu()


@pytest.fixture(scope="session")
def near() -> float:
    """How near, as a share of the largest, float32 numbers are that a device adds up in another order."""
    return NEAR["gpu" if _gpu() else "cpu"]


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave aside what is special on a GPU, as the choice of float16."""
    from thaw.runtime import devices  # noqa: PLC0415

    monkeypatch.setattr(devices, "on_gpu", lambda: False)


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    _isolate(monkeypatch)


def _isolate(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches a real MLflow server, takes itself for a stage under DVC, or reads a person's git settings."""
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")


@contextmanager
def copied(fresh_project: Path, folder: Path) -> Iterator[Path]:
    """Work in a copy of the project with images, for a fixture of several tests: what a ``project`` is for one."""
    shutil.copytree(fresh_project, folder, symlinks=True, dirs_exist_ok=True)
    make_images(folder / "data" / "raw")
    with pytest.MonkeyPatch.context() as here:
        _isolate(here)
        here.chdir(folder)
        yield folder


@pytest.fixture(scope="session")
def fresh_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every ``project`` is copied from: to compose and to commit takes longer than to copy."""
    folder = tmp_path_factory.mktemp("fresh")
    for part in PARTS:
        source, target = ROOT / part, folder / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, target)
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        here.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        chosen.write([], paths.CONF)  # whatever is remembered where the tests lie
        paths.PARAMS.write_text(load.compose(TINY), encoding="utf-8", newline="\n")
        for words in (
            ("init", "--quiet", "--initial-branch=main"),
            ("config", "user.name", "test"),
            ("config", "user.email", "test@example.com"),
            ("add", "."),
            ("commit", "--quiet", "--message=start"),
        ):
            subprocess.run(["git", *words], check=True)
    return folder


@pytest.fixture
def project(fresh_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed copy of the project, configured by ``TINY``, and the current folder from now on.

    Its images are data/raw, which the fixture ``tiny_images`` fills. ``python``, ``dvc`` and ``thaw`` are the
    environment's own, and ``python -m stages.x`` runs the copy.
    """
    shutil.copytree(fresh_project, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    return tmp_path


@pytest.fixture
def tiny_images(tmp_path: Path) -> Path:
    """data/raw of the ``project``: 3 classes of 12 images."""
    return make_images(tmp_path / "data" / "raw")


def set_params(**groups: dict[str, Any]) -> None:
    """Set fields of params.yaml, by group, without composing it anew."""
    values = yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))
    for group, changes in groups.items():
        values[group].update(changes)
    paths.PARAMS.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


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


@pytest.fixture(scope="session")
def swept_project(fresh_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a project with a ``finished_sweep`` is copied from."""
    folder = tmp_path_factory.mktemp("swept")
    shutil.copytree(fresh_project, folder, symlinks=True, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        here.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        _leave_sweep(folder / SWEEP)
    return folder


@pytest.fixture
def finished_sweep(swept_project: Path, project: Path) -> Path:
    """The folder of a sweep as it is left: four finished trials and one that has failed.

    Each is an experiment in git, and what it made is in DVC's cache. Of 40 validation images the two that thaw 20
    layers get 30 and 37 right, those that thaw 40 get 31 and 38; the last has the lowest loss.
    """
    shutil.copytree(swept_project, project, symlinks=True, dirs_exist_ok=True)
    return project / SWEEP


def _leave_sweep(folder: Path) -> None:
    swept = {
        "phase2.learning_rate": ["phase2.learning_rate=1e-05", "phase2.learning_rate=0.0001"],
        "phase2.unfreeze": ["phase2.unfreeze=20", "phase2.unfreeze=40"],
    }
    tracking = {"enabled": False, "uri": "", "experiment": "thaw"}
    begun = {"trials": 5, "states": {}, "commit": "", "depths": ["20", "40"], "owner": "", "parent": ""}
    records.write_json(folder / "plan.json", begun | {"swept": swept, "tracking": tracking, "upstreams": {}})
    for number, (rate, depth, right, loss) in enumerate(
        (("1e-05", "20", 30, 0.6), ("1e-05", "40", 31, 0.5), ("0.0001", "20", 37, 0.3), ("0.0001", "40", 38, 0.2))
    ):
        overrides = [f"phase2.learning_rate={rate}", f"phase2.unfreeze={depth}", *TINY]
        figures = {"val_loss": loss, "val_accuracy": right / 40, "best_epoch": 2, "layers": int(depth)}
        name = f"rate={rate},depth={depth}-{number:08}"
        _leave_experiment(name, overrides, figures, right)
        record = {"name": name, "overrides": overrides, "shown": " ".join(overrides[:2]), "log": "", "failure": ""}
        told = {"label": f"lr={rate} depth={depth}", "seconds": 10.0 + number, "figures": figures}
        records.write_json(folder / f"{name}.json", record | told)
    overrides = ["phase2.learning_rate=0.0001", "phase2.unfreeze=80", *TINY]
    record = {"name": "failed-00000009", "overrides": overrides, "shown": "", "log": "", "failure": "it diverged"}
    records.write_json(
        folder / "failed-00000009.json", record | {"label": "lr=0.0001 depth=80", "seconds": 3.0, "figures": {}}
    )


@pytest.fixture
def leave_experiment() -> Callable[[str, Sequence[str], dict[str, Any], int], None]:
    """What leaves an experiment of the current commit: its name, overrides, figures, and right answers of 40."""
    return _leave_experiment


def _leave_experiment(name: str, overrides: Sequence[str], figures: dict[str, Any], right: int) -> None:
    """Write an experiment of the current commit into git, and into DVC's cache what the commit does not hold."""
    labels = np.arange(40) % 2
    rows = [
        {"path": f"{i}.png", "sha256": f"{i:064}", "label": "ab"[label], "split": "val", "unit": ""}
        for i, label in enumerate(labels)
    ]
    answers = np.where(np.arange(40) < right, labels, 1 - labels)
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        records.write_csv(made / paths.MANIFEST.name, list(rows[0]), rows)
        records.write_json(made / paths.CLASSES.name, {"classes": ["a", "b"]})
        np.save(made / paths.validation(made).name, np.eye(2, dtype=np.float32)[answers])
        prepared = keep_in_cache([made / path.name for path in (paths.MANIFEST, paths.CLASSES)])
        trained = keep_in_cache([made / paths.validation(made).name])
        committed = made / "committed"
        lock = {
            stage: {"cmd": "", "outs": [{"path": folder.as_posix(), "hash": "md5", "md5": md5}]}
            for stage, folder, md5 in (
                ("prepare", paths.PREPARED, prepared),
                ("phase2_finetune", paths.PHASE2, trained),
            )
        }
        records.write_json(committed / "dvc.lock", {"schema": "2.0", "stages": lock})
        shutil.copyfile("dvc.yaml", committed / "dvc.yaml")
        (committed / paths.PARAMS).write_text(load.compose(overrides), encoding="utf-8")
        images = {"train": [], "val": [f"{index:016}" for index in range(40)], "test": []}
        drawn_with = {"seed": 0, "val": 0.15, "test": 0.15}
        records.write_json(committed / paths.MEMORY, {"drawn_with": drawn_with, "images": images})
        records.write_json(committed / paths.metrics("prepare"), {"splits": {"val": {"images": 40}}})
        records.write_json(committed / paths.metrics("phase1_head"), {})
        records.write_json(committed / paths.metrics("phase2_finetune"), figures)
        where = {"GIT_INDEX_FILE": str(made / "index"), "GIT_WORK_TREE": str(committed), "GIT_DIR": ".git"}

        def git(*words: str) -> str:
            environment = os.environ | where
            return subprocess.run(["git", *words], check=True, capture_output=True, text=True, env=environment).stdout

        git("add", "--force", str(committed))
        commit = git("rev-parse", "HEAD").strip()
        experiment = git("commit-tree", git("write-tree").strip(), "-m", "experiment").strip()
        git("update-ref", f"refs/exps/{commit[:2]}/{commit[2:]}/{name}", experiment)


def keep_in_cache(files: Sequence[Path]) -> str:
    """Put files into DVC's cache as a folder's; its hash."""
    from dvc.repo import Repo  # noqa: PLC0415 -- most tests need no DVC, which may not be there

    cache = Repo().cache.local

    def keep(data: bytes, ending: str = "") -> str:
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest() + ending
        cache.add_bytes(md5, data)
        return md5

    listing = [{"md5": keep(path.read_bytes()), "relpath": path.name} for path in files]
    return keep(json.dumps(listing).encode(), ".dir")
