import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stages import phase1_head, phase2_finetune, prepare
from tests import small_network
from tests.conftest import ROOT, set_params
from thaw import paths, records
from thaw.classifier import model
from thaw.config.unfreeze import UnfreezeSpec
from thaw.features import engines
from thaw.images import manifest
from thaw.networks import freeze_boundaries
from thaw.runtime.framework import keras

MADE = (
    *(folder / name for folder in paths.PHASES.values() for name in (model.WEIGHTS, model.CARD)),
    *(place(stage) for stage in ("phase1_head", "phase2_finetune") for place in (paths.metrics, paths.history)),
)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first test leaves what phase 1 made, for the others."""
    return tmp_path_factory.mktemp("phase1") / "made"


@pytest.fixture
def phase1(project: Path, tiny_images: Path, kept: Path) -> Path:
    """The project after phase 1."""
    assert tiny_images.is_relative_to(project)
    set_params(phase2={"unfreeze": "40"})
    prepare.main()
    if kept.exists():
        shutil.copytree(kept, project, dirs_exist_ok=True)
        return project
    phase1_head.main()
    for name in (paths.PHASE1, paths.METRICS, Path(".thaw")):
        shutil.copytree(name, kept / name)
    return project


def made() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in MADE}


@pytest.mark.usefixtures("phase1")
def test_the_stage_trains_what_is_thawed_on_what_phase_one_has_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_model: keras.Model, _extractor: str) -> None:
        pytest.fail("phase 1 has kept the activations, nothing is to pass the frozen layers again")

    monkeypatch.setattr(engines, "engine", refuse)
    capsys.readouterr()
    phase2_finetune.main()
    reason, time, line = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"phase2_finetune: activations cached: 0\.00 GB of \d+ GB in compute\.cache_gb", reason)
    assert re.fullmatch(r"phase2_finetune: at most about .*, by what the frozen layers took here", time)
    assert line.startswith("phase2_finetune: 40 layers asked, ")
    assert line.endswith(f"→ {paths.PHASE2}")

    unseen = paths.validation(paths.PHASE2)
    assert {path.name for path in paths.PHASE2.iterdir()} == {
        model.WEIGHTS,
        model.CARD,
        model.PRETRAINED,
        paths.BLOCKS.name,
        unseen.name,
        *(paths.embeddings(paths.PHASE2, split).name for split in ("train", "val")),
    }
    rows = records.read_csv(paths.BLOCKS)
    assert [row["block"] for row in rows if int(row["trained"])] == [
        "block_6b",
        "block_6c",
        "block_6d",
        "block_7a",
        "top",
    ]
    answers = np.load(unseen)
    assert answers.shape == (6, 3) and answers.dtype == np.float32
    right = (answers.argmax(axis=1) == manifest.read("data/raw", "val")[0].labels).mean()
    assert right == pytest.approx(records.read_json(paths.metrics("phase2_finetune"))["val_accuracy"])
    assert (paths.PHASE2 / model.CARD).read_bytes() == (paths.PHASE1 / model.CARD).read_bytes()
    before, after = model.load(paths.PHASE1), model.load(paths.PHASE2)
    cut = freeze_boundaries.find(before.backbone, UnfreezeSpec.parse("40"))
    figures = records.read_json(paths.metrics("phase2_finetune"))
    expected = {"activations", "best_epoch", "boundary", "epochs", "layers", "made_from", "precision"}
    expected |= {"threads", "device", "val_accuracy", "val_loss", "stopped", "ended_too_early", "advice"}
    expected |= {"val_loss_change", "val_loss_low", "val_loss_high", "units"}
    assert set(figures) == expected
    assert (figures["boundary"], figures["layers"]) == (cut.describe(), cut.thawed_layers)
    assert figures["made_from"] == records.made_from([paths.MANIFEST, paths.PHASE1 / model.WEIGHTS])
    assert len(records.read_csv(paths.history("phase2_finetune"))) == figures["epochs"] == 2

    assert figures["best_epoch"] > 0
    for number, (old, new) in enumerate(zip(before.backbone.layers, after.backbone.layers, strict=True)):
        free = number > cut.frozen_layers and not isinstance(old, keras.layers.BatchNormalization)
        for one, two in zip(old.get_weights(), new.get_weights(), strict=True):
            assert np.array_equal(one, two) != free, old.name


@pytest.mark.usefixtures("project", "tiny_images")
def test_the_same_run_in_another_process_and_with_an_empty_cache_gives_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Compare the bytes of both phases, on a small network."""
    set_params(backbone=vars(small_network.BACKBONE), phase2={"unfreeze": "2blocks"})
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # where the other process finds the network's builder
    prepare.main()
    phase1_head.main()
    phase2_finetune.main()
    first = made()
    for folder in (*paths.PHASES.values(), Path(".thaw")):
        shutil.rmtree(folder)
    both = "from stages import phase1_head, phase2_finetune; phase1_head.main(); phase2_finetune.main()"
    done = subprocess.run([sys.executable, "-c", both], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {path for path, data in made().items() if data != first[path]} == set()


@pytest.mark.usefixtures("phase1")
def test_none_is_phase_one_alone_and_an_unknown_block_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    set_params(phase2={"unfreeze": "none"})
    capsys.readouterr()
    phase2_finetune.main()
    assert "the backbone stays frozen; nothing to train, the model stays as it was" in capsys.readouterr().out
    for name in (model.WEIGHTS, model.CARD, model.PRETRAINED):
        assert (paths.PHASE2 / name).read_bytes() == (paths.PHASE1 / name).read_bytes()
    figures = records.read_json(paths.metrics("phase2_finetune"))
    assert (figures["epochs"], figures["best_epoch"], figures["layers"]) == (0, 0, 0)
    assert records.read_csv(paths.history("phase2_finetune")) == []

    # Also where nothing is trained, what was pretrained must be there as it was.
    classifier = model.load(paths.PHASE1)
    whole = (paths.PHASE1 / model.WEIGHTS).read_bytes()
    classifier.backbone.weights[0].assign(classifier.backbone.weights[0] * 1.001)
    model.whole(classifier).save_weights(paths.PHASE1 / model.WEIGHTS)
    with pytest.raises(ValueError, match=r"phase1_head: expected the backbone's pretrained weights, received 1"):
        phase2_finetune.main()
    (paths.PHASE1 / model.WEIGHTS).write_bytes(whole)

    shutil.rmtree(paths.PHASE2)
    set_params(phase2={"unfreeze": "block_99"})
    command = [sys.executable, "-m", "stages.phase2_finetune"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("phase2_finetune: phase2.unfreeze: expected 1 to 141 layers, 1blocks to 18blocks, ")
    assert line.endswith("received 'block_99'")
    assert not paths.PHASE2.exists()


@pytest.mark.usefixtures("project", "tiny_images")
def test_without_phase_one_the_stage_says_what_to_run() -> None:
    prepare.main()
    with pytest.raises(ValueError, match=r"^models/phase1_head: expected model\.json .* run `dvc repro` first"):
        phase2_finetune.main()


@pytest.mark.usefixtures("phase1")
@pytest.mark.parametrize("activations", ["cached", pytest.param("streaming", marks=pytest.mark.slow)])
def test_options_by_depth_and_of_batch_norm_reach_the_model_that_is_written(activations: str) -> None:
    wanted = {"batch_norm": "trainable_affine", "layer_decay": 0.5, "weight_decay": 0.01, "activations": activations}
    set_params(phase2=wanted)
    phase2_finetune.main()
    before, after = model.load(paths.PHASE1), model.load(paths.PHASE2)
    cut = freeze_boundaries.find(before.backbone, UnfreezeSpec.parse("40"))
    assert records.read_json(paths.metrics("phase2_finetune"))["best_epoch"] > 0
    for number, (old, new) in enumerate(zip(before.backbone.layers, after.backbone.layers, strict=True)):
        for one, two in zip(old.variables, new.variables, strict=True):
            is_kept = number <= cut.frozen_layers or one.name in {"moving_mean", "moving_variance"}
            assert np.array_equal(one.numpy(), two.numpy()) == is_kept, one.path


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a project by its path, but for who reads the activation cache."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "users" not in path.parts and "__pycache__" not in path.parts and path.suffix != ".lock"
    }


@pytest.mark.slow
def test_two_workers_leave_what_one_process_leaves_and_only_the_first_writes(
    phase1: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The second works in a copy of the project, in which nothing is another file afterwards."""
    set_params(
        compute={"workers": "all"}, phase2={"unfreeze": "40", "precision": "float32"}, tracking={"enabled": True}
    )
    second = tmp_path_factory.mktemp("second") / "project"
    shutil.copytree(phase1, second, symlinks=True)
    phase2_finetune.main()
    expected = model.load(paths.PHASE2)
    figures = records.read_json(paths.metrics("phase2_finetune"))
    shutil.rmtree(paths.PHASE2)
    doors = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    cluster = {"worker": [f"127.0.0.1:{door.getsockname()[1]}" for door in doors]}
    for door in doors:
        door.close()
    before, processes = tree(second), []
    for number, folder in enumerate((phase1, second)):
        config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": number}})
        command = [sys.executable, "-m", "stages.phase2_finetune"]
        environment = os.environ | {"TF_CONFIG": config}
        processes.append(
            subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        )
    said = [process.communicate(timeout=600)[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert tree(second) == before
    lines = said[1].splitlines()
    assert len(lines) == 2 and lines[1].endswith("all are there"), said[1]
    found = records.read_json(paths.metrics("phase2_finetune"))
    assert found["device"]["count"] == 2 and "count" not in figures["device"]
    for name in ("val_loss", "val_accuracy"):
        assert found[name] == pytest.approx(figures[name], rel=1e-3, abs=1e-3)
    ours = model.load(paths.PHASE2)
    for part in ("backbone", "head"):
        for one, other in zip(getattr(ours, part).get_weights(), getattr(expected, part).get_weights(), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-3)
