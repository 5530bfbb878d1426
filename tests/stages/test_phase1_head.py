import shutil

import numpy as np
import pytest

from stages import phase1_head, prepare
from tests.conftest import set_params
from thaw import paths, records
from thaw.catalog import backbones
from thaw.classifier import model
from thaw.images import manifest
from thaw.networks import pretrained


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
