"""Stages run by hand, beside a cache of DVC whose entries are hard links of what they made, and on a full disk."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stages import evaluate, export, phase1_head, phase2_finetune, prepare, sample
from tests import small_network
from thaw import paths, records
from thaw.config import load

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ("data=folder", "image=px64", "image.size=32", *small_network.OVERRIDES, "augment=none", "head=linear")
MORE = ("phase1.epochs=1", "phase2.epochs=1", "phase2.unfreeze=1blocks", "tracking.enabled=false")
STAGES = (prepare, phase1_head, phase2_finetune, evaluate, export)


def configure(*more: str) -> None:
    paths.PARAMS.write_text(load.compose([*OPTIONS, *MORE, *more]), encoding="utf-8", newline="\n")


def kept_by_dvc() -> list[Path]:
    """What the pipeline says DVC keeps in its cache."""
    stages = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return [Path(out) for stage in stages.values() for out in stage["outs"] if isinstance(out, str)]


def link(folder: Path, to: Path) -> dict[Path, str]:
    """Hard links of all files, as DVC's cache has them, each with its hash."""
    links: dict[Path, str] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        links[to / str(len(links))] = records.sha256(path)
        os.link(path, to / str(len(links) - 1))
    return links


def test_a_stage_run_by_hand_leaves_dvcs_cache_as_it_was(
    project: Path, tiny_images: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    configure("export.formats=[keras,saved_model]")
    for stage in STAGES:
        stage.main()
    stale = paths.EXPORTED / paths.KERAS_FILE
    cache, links = tmp_path_factory.mktemp("cache"), dict[Path, str]()
    for number, folder in enumerate(kept_by_dvc()):
        (cache / str(number)).mkdir()
        links |= link(folder, cache / str(number)) if folder.exists() else {}
    assert len(links) > 25

    # Other images in each split, another head, another training and one format less.
    paths.MEMORY.unlink()
    configure("export.formats=[saved_model]", "data.seed=1", "head.pooling=max", "phase1.seed=1", "phase2.seed=1")
    for stage in STAGES:
        stage.main()
    assert [path for path, digest in links.items() if records.sha256(path) != digest] == []
    assert not stale.exists()


def test_the_sample_is_written_anew(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels = sample.digits()
    configure()
    monkeypatch.setattr(sample, "digits", lambda: (pixels[:20], labels[:20]))
    sample.main()
    before = {path: path.read_bytes() for path in paths.SAMPLE.rglob("*.png")}
    for number, path in enumerate(before):
        os.link(path, project / f"{number}.png")
    monkeypatch.setattr(sample, "digits", lambda: (255 - pixels[:15], labels[:15]))
    sample.main()
    assert [(project / f"{number}.png").read_bytes() for number in range(20)] == list(before.values())
    assert len(list(paths.SAMPLE.rglob("*.png"))) == 15


# A file can grow to this size and no further, which is what a full disk is to a writer, and takes no disk to try.
FULL_DISK = """
import os, resource
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from thaw.features import cache
from thaw.config import load, schema
from thaw.exports import write as exports
from thaw import paths, records
from thaw.classifier import model
from thaw.evaluation import pictures

head = schema.Head("avg", [], [], 0.0)
image = schema.Image(32, "squash", "bilinear", antialias=True)
network = schema.Backbone("mobilenet_v2", "random", "", "", "")
classifier = model.build(model.Card(network, "", image, head, ["a", "b"]), weights="random")
figure = Figure((8, 8))
figure.add_subplot().imshow(np.random.default_rng(0).random((300, 300)))
entry = cache.Entry(Path("cache/entry"), (64,))
entry.append(["0" * 64], np.zeros((1, 64), np.float16))
many = [f"{number:064}" for number in range(1, 2001)]
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
WRITERS = {
    "weights": lambda: model.save(Path("models/phase1_head"), classifier),
    "keras": lambda: exports.write(Path("models/export"), classifier, ["keras"]),
    "saved_model": lambda: exports.write(Path("models/export"), classifier, ["saved_model"]),
    "array": lambda: records.write_array(Path("models/rows.npy"), np.zeros(100_000)),
    "table": lambda: records.write_csv(Path("models/rows.csv"), ["a"], [{"a": "x" * 99}] * 2000),
    "picture": lambda: pictures.save(figure, Path("models/picture.png")),
    "activations": lambda: entry.append(many, np.ones((2000, 64), np.float16)),
}
for name, write in WRITERS.items():
    try:
        load.run(write, name)
    except SystemExit as ended:
        print(ended)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of a file's size is that of Linux")
def test_a_full_disk_is_one_line_that_names_the_file_and_nothing_half_written_is_believed(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, "-c", FULL_DISK]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    files = {
        "weights": "models/phase1_head/model.weights.h5",
        "keras": "models/export/model.keras",
        "saved_model": "models/export/saved_model",
        "array": "models/rows.npy",
        "table": "models/rows.csv",
        "picture": "models/picture.png",
        "activations": "cache/entry/rows.f16",
    }
    for line, (name, path) in zip(done.stdout.splitlines(), files.items(), strict=True):
        assert line.startswith(f"{name}: {path}: expected room to write it, received a full disk (")
        assert line.count("expected room") == 1
    # Of the activations the index names what is whole; of a SavedModel, a folder, there may be parts.
    assert (tmp_path / "cache/entry/index.csv").read_text().count("\n") == 1
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    others = {name for name in left if not name.startswith(("models/export/saved_model/", "cache/entry/"))}
    assert others == {"models/export/labels.json"}
