import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stages import phase1_head, phase2_finetune, prepare
from tests.conftest import set_params
from thaw import paths, records
from thaw.catalog import backbones
from thaw.classifier import model
from thaw.features import engines
from thaw.images import manifest
from thaw.networks import pretrained, range_check
from thaw.runtime import devices


@pytest.mark.usefixtures("project", "tiny_images")
def test_the_stage_writes_a_classifier_whose_head_has_learned(capsys: pytest.CaptureFixture[str]) -> None:
    set_params(phase1={"epochs": 5})
    prepare.main()
    capsys.readouterr()
    phase1_head.main()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("phase1_head: epoch ")
    assert line.endswith(f"→ {paths.PHASE1}")

    unseen = {"out_of_sample_train.npy", "out_of_sample_val.npy", paths.AUTO_DEPTH.name}
    unseen |= {"embeddings_train.npz", "embeddings_val.npz"}
    assert {path.name for path in paths.PHASE1.iterdir()} == {model.WEIGHTS, model.CARD, model.PRETRAINED, *unseen}
    figures = records.read_json(paths.metrics("phase1_head"))
    about = {"canary", "weights_sha256"}
    assert set(figures) == about | {
        "best_epoch",
        "epochs",
        "made_from",
        "precision",
        "threads",
        "device",
        "val_accuracy",
        "val_loss",
    }
    assert figures["canary"].startswith("pixel range as pretrained: lite (0.0")
    assert figures["made_from"] == records.made_from([paths.MANIFEST])
    assert len(records.read_csv(paths.history("phase1_head"))) == figures["epochs"]

    # What the figures say of the classifier is true of the one on disk.
    classifier = model.load(paths.PHASE1)
    assert classifier.card.classes == manifest.classes() == ["class_0", "class_1", "class_2"]
    pin = backbones.LITES["efficientnet_lite0"].sha256
    assert classifier.card.weights_sha256 == figures["weights_sha256"] == pin
    (val,) = manifest.read("data/raw", "val")
    (pixels,) = manifest.pixels(classifier.card.image, val.paths, val.hashes, len(val))
    logits = np.asarray(model.whole(classifier)(pixels, training=False), np.float64)
    likelihood = logits[np.arange(len(val)), val.labels] - np.log(np.exp(logits).sum(axis=1))
    assert -likelihood.mean() == pytest.approx(figures["val_loss"], rel=2e-3)  # features were kept in fp16
    assert (logits.argmax(axis=1) == val.labels).mean() == pytest.approx(figures["val_accuracy"])
    assert figures["val_accuracy"] > 0.6

    network = pretrained.build("efficientnet_lite0", "package", 64)
    for weight, kept in zip(classifier.backbone.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, kept)


@pytest.mark.usefixtures("project", "tiny_images")
def test_images_that_have_gone_are_said_in_one_line() -> None:
    prepare.main()
    shutil.move("data/raw", "data/moved")
    with pytest.raises(ValueError, match=r"^data\.raw: expected the folder of images data/raw, found none"):
        phase1_head.main()
    assert not paths.PHASE1.exists()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("stage", [phase1_head, phase2_finetune])
def test_where_a_gpu_is_insisted_on_and_there_is_none_nothing_is_computed(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_params(compute={"device": "gpu"})
    monkeypatch.setattr(devices, "on_gpu", lambda: False)
    with pytest.raises(ValueError, match=r"^compute\.device: expected a GPU that TensorFlow sees, received none"):
        stage.main()
    assert not paths.PHASE1.exists() and not paths.PHASE2.exists()


@pytest.mark.usefixtures("project")
def test_where_workers_are_missing_it_is_said_before_anything_is_computed(
    tiny_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Phase 2 would say so when phase 1 has run for hours."""
    assert tiny_images.is_dir()
    monkeypatch.delenv("TF_CONFIG", raising=False)
    set_params(compute={"workers": 2})
    prepare.main()
    monkeypatch.setattr(engines, "engine", lambda *_: pytest.fail("an image passes the frozen layers"))
    monkeypatch.setattr(range_check, "check", lambda *_: SimpleNamespace(text=""))
    with pytest.raises(ValueError, match=r"^compute\.workers: expected as many as TF_CONFIG names, 1, received 2"):
        phase1_head.main()
    assert not paths.PHASE1.exists()
