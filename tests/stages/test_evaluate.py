import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from stages import evaluate, prepare
from tests import small_network
from tests.conftest import ROOT, copied
from thaw import paths as project_paths
from thaw import records
from thaw.classifier import model
from thaw.config import load, schema
from thaw.evaluation import predictions
from thaw.images import columns, manifest, preprocessing
from thaw.runtime.framework import keras, tf
from thaw.tracking import unfinished

CLASSES = ["class_0", "class_1", "class_2"]
OPTIONS = ("data=folder", "image=px64", "image.size=32", *small_network.OVERRIDES, "tracking.enabled=false")
COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
BATCH = 4


@pytest.fixture(scope="module")
def trained(fresh_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after both phases: two classifiers that differ in their weights, and what else they leave."""
    image, linear = schema.Image(32, "squash", "bilinear", antialias=True), schema.Head("avg", [], [], 0.0)
    card = model.Card(small_network.BACKBONE, "", image, linear, CLASSES)
    phases = zip(("phase1_head", "phase2_finetune"), project_paths.PHASES.values(), strict=True)
    with copied(fresh_project, tmp_path_factory.mktemp("trained")) as folder:
        text = load.compose([*OPTIONS, f"evaluate.batch_size={BATCH}", "evaluate.robustness=3"])
        project_paths.PARAMS.write_text(text, encoding="utf-8", newline="\n")
        prepare.main()
        for seed, (stage, where) in enumerate(phases):
            keras.utils.set_random_seed(seed)
            classifier = model.build(card, weights="random")
            model.save(where, classifier)
            rows = [dict.fromkeys(COLUMNS, 1 / epoch) | {"epoch": epoch} for epoch in (1, 2)]
            records.write_csv(project_paths.history(stage), COLUMNS, rows)
            records.write_json(project_paths.metrics(stage), {"layers": 1, "epochs": 2, "best_epoch": 2})
        records.write_csv(project_paths.BLOCKS, model.BLOCKS, model.blocks(classifier, classifier.head))
        for split in ("train", "val"):
            labels = manifest.read("data/raw", split)[0].labels
            labels[:1] = 2  # the first image, of class 0, is said to be of class 2
            said = np.eye(3, dtype=np.float32)[labels] * 0.85 + 0.05
            np.save(project_paths.out_of_sample(split), said)
            shape = (len(labels), small_network.CHANNELS)
            for where in project_paths.PHASES.values():
                embeddings = np.random.default_rng(0).normal(size=shape).astype(np.float16)
                records.write_arrays(
                    project_paths.embeddings(where, split), rows=embeddings, images=np.arange(len(labels))
                )
        np.save(project_paths.validation(project_paths.PHASE2), said)
    return folder


@pytest.fixture
def ready(project: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project when it is the turn of evaluate."""
    shutil.copytree(trained, project, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # where a process of its own finds the network's builder
    return project


def made(project: Path) -> dict[str, bytes]:
    """All that evaluate writes."""
    folders = [project / project_paths.EVALUATION, project / project_paths.METRICS]
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    others = ("prepare", "phase1_head", "phase2_finetune")
    return {path.name: path.read_bytes() for path in paths if not path.name.startswith(others)}


@pytest.mark.usefixtures("ready")
def test_every_test_image_is_answered_once_in_the_manifests_order() -> None:
    columns._read.cache_clear()
    evaluate.main()
    assert columns._read.cache_info().misses == 1, "the manifest is read once"
    test = [row for row in records.read_csv(project_paths.MANIFEST) if row["split"] == "test"]
    assert len(test) % BATCH, "a batch size that divides the images could not show a lost remainder"
    load = preprocessing.load(model.load(project_paths.PHASE1).card.image)
    answers = []
    for phase, folder in (("phase1", project_paths.PHASE1), ("phase2", project_paths.PHASE2)):
        whole = model.whole(model.load(folder))
        rows = records.read_csv(project_paths.predictions(phase))
        assert [(row["path"], row["label"]) for row in rows] == [(row["path"], row["label"]) for row in test]
        assert all(row["path"].startswith(row["label"]) for row in rows)
        probabilities = np.load(project_paths.probabilities(phase), allow_pickle=False)
        for row, received in zip(rows, probabilities, strict=True):
            pixels = load(tf.io.read_file(f"data/raw/{row['path']}"))
            wanted = np.asarray(keras.ops.softmax(whole(pixels[None], training=False)))[0]
            np.testing.assert_allclose(received, wanted, atol=1e-5)
            assert row["predicted"] == CLASSES[wanted.argmax()]
        figures = records.read_json(project_paths.metrics("evaluate"))[phase]
        assert figures["images"] == len(test)
        assert figures["accuracy"] == np.mean([row["predicted"] == row["label"] for row in rows])
        answers.append(probabilities)
    assert np.abs(answers[0] - answers[1]).max() > 1e-3
    suspects = records.read_csv(project_paths.SUSPECTS)
    assert {row["split"] for row in suspects} == {"train", "val"}
    assert all((row["label"], row["suggested"]) == ("class_0", "class_2") for row in suspects)


def test_a_second_run_in_another_process_gives_the_same_bytes(ready: Path) -> None:
    evaluate.main()
    first = made(ready)
    assert set(first) == {
        *("predictions_phase1.csv", "predictions_phase2.csv", "probabilities_phase1.npy", "probabilities_phase2.npy"),
        *("confusion_phase1.png", "confusion_phase2.png", "curves.png", "report.html", "data.html"),
        *("evaluate.json", "verdict.json", "provenance.json", "per_class.csv", "suspects.csv"),
        *("calibration.json", "robustness.csv", "slices.csv", "embeddings.npy", "unfamiliar.npz"),
        *("mistakes.csv", "pictures.json", "embedding_map.json", "configuration.json", "model_card.md"),
        *("roc.csv", "pr.csv", "reliability.csv", "coverage.csv"),
    }
    shutil.rmtree(project_paths.EVALUATION)
    done = subprocess.run(
        [sys.executable, "-m", "stages.evaluate"], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("evaluate: test accuracy ")
    assert {name for name, data in made(ready).items() if data != first[name]} == set()


def test_what_was_interrupted_goes_on_from_what_is_done_to_the_same_bytes(
    ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, asked = predictions.predictor, list[int]()

    def predictor(most: int, *parts: Any) -> predictions.Predictor:
        run = make(*parts)

        def predict(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            if len(asked) >= most:
                raise KeyboardInterrupt
            asked.append(len(pixels))
            return run(pixels)

        return predict

    def ask(most: int) -> int:
        """Ask the models for so many batches at most."""
        asked.clear()
        monkeypatch.setattr(predictions, "predictor", lambda *parts: predictor(most, *parts))
        try:
            evaluate.main()
        except KeyboardInterrupt:
            assert len(asked) == most
        return len(asked)

    monkeypatch.setattr(unfinished, "SECONDS", 0.0)
    whole = ask(1000)
    first, test = made(ready), len(manifest.read("data/raw", "test")[0])
    assert whole == 2 * (-(-test // BATCH) + -(-3 * test // BATCH)) and not list(project_paths.CHECKPOINTS.iterdir())
    shutil.rmtree(project_paths.EVALUATION)
    # Of the batch that phase 1 has answered and phase 2 has not, nothing is kept.
    assert [ask(1), ask(5), ask(1000)] == [1, 5, whole - 4]
    assert {name for name, data in made(ready).items() if data != first[name]} == set()
    assert not list(project_paths.CHECKPOINTS.iterdir())

    ask(5)
    (old,) = project_paths.CHECKPOINTS.iterdir()
    text = load.compose([*OPTIONS, f"evaluate.batch_size={BATCH}", "evaluate.robustness=3", "evaluate.confidence=0.9"])
    project_paths.PARAMS.write_text(text, encoding="utf-8", newline="\n")
    assert ask(1) == 1 and not old.exists()


@pytest.mark.usefixtures("ready")
@pytest.mark.filterwarnings("default")  # MLflow's own
def test_the_verdict_is_a_tag_of_the_run_in_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri := f"sqlite:///{Path('mlflow.db').resolve()}")
    off = ("evaluate.robustness=0", "evaluate.baselines=false", "evaluate.calibration=false", "evaluate.unfamiliar=0")
    text = load.compose([*OPTIONS, *off, "tracking.enabled=true"])
    project_paths.PARAMS.write_text(text, encoding="utf-8", newline="\n")
    evaluate.main()
    client = MlflowClient(uri)
    (run,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert run.data.tags["thaw.verdict"] == records.read_json(project_paths.VERDICT)["text"]


@pytest.mark.usefixtures("ready")
def test_without_a_model_it_says_what_to_run() -> None:
    shutil.rmtree(project_paths.PHASE2)
    with pytest.raises(SystemExit) as left:
        load.run(evaluate.main, "evaluate")
    assert str(left.value.code).startswith(
        f"evaluate: {project_paths.PHASE2}: expected model.json and model.weights.h5"
    )
    assert not project_paths.metrics("evaluate").exists()


@pytest.mark.usefixtures("ready")
def test_pictures_that_were_exchanged_are_not_tested_on() -> None:
    first, *_, last = manifest.read("data/raw", "test")[0].paths
    whole = Path(first).read_bytes()
    Path(first).write_bytes(Path(last).read_bytes())
    Path(last).write_bytes(whole)
    with pytest.raises(ValueError, match=r"\.png: expected the image that was prepared, but it holds other bytes"):
        evaluate.main()
    assert not project_paths.metrics("evaluate").exists()


@pytest.mark.usefixtures("ready")
def test_where_phase_2_kept_its_start_the_one_model_is_loaded_and_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copyfile(project_paths.PHASE1 / model.WEIGHTS, project_paths.PHASE2 / model.WEIGHTS)
    kept = {
        "layers": 1,
        "epochs": 2,
        "best_epoch": 0,
        "val_loss_change": 0.2,
        "val_loss_low": 0.1,
        "val_loss_high": 0.3,
    }
    records.write_json(project_paths.metrics("phase2_finetune"), kept)
    made, batches, predictor = list[str](), list[int](), predictions.predictor

    def counted(classifier: model.Classifier, *parts: Any) -> predictions.Predictor:
        made.append(classifier.card.backbone.name)
        run = predictor(classifier, *parts)

        def asked(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            batches.append(len(pixels))
            return run(pixels)

        return asked

    monkeypatch.setattr(predictions, "predictor", counted)
    evaluate.main()
    images = len(records.read_csv(project_paths.predictions("phase1")))
    corrupted = records.read_json(project_paths.metrics("evaluate"))["robustness"]["images"]
    assert len(made) == 1 and sum(batches) == images + corrupted
    first, second = (project_paths.probabilities(phase).read_bytes() for phase in project_paths.PHASES)
    assert first == second
    calibration = records.read_json(project_paths.CALIBRATION)
    assert calibration["phase1"] == calibration["phase2"]
    assert records.read_json(project_paths.VERDICT)["helped"] == "no"


@pytest.mark.usefixtures("ready")
def test_training_from_scratch_is_a_baseline_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("evaluate.scratch=true", "evaluate.scratch_epochs=2", "evaluate.baselines=false", "evaluate.unfamiliar=0")
    elsewhere = "compute.devices=64"  # phase 2 was trained on another machine
    text = load.compose([*OPTIONS, *asked, elsewhere, "evaluate.robustness=0", "evaluate.calibration=false"])
    project_paths.PARAMS.write_text(text, encoding="utf-8", newline="\n")
    evaluate.main()
    found = records.read_json(project_paths.VERDICT)
    scratch, (train,) = found["baselines"]["scratch"], manifest.read("data/raw", "train")
    assert scratch["epochs"] == 2 and scratch["images_to_best"] == scratch["best_epoch"] * len(train)
    rows = records.read_csv(project_paths.FROM_SCRATCH)
    assert len(rows) == 2 and float(rows[1]["learning_rate"]) > 0
    losses = [float(row["val_loss"]) for row in rows]
    assert scratch["best_epoch"] in (0, 1 + losses.index(min(losses)))  # 0: random weights say as much
    assert float(rows[0]["loss"]) != float(rows[1]["loss"])
    assert "From scratch" in found["text"] and "seconds" not in scratch
    assert "s of training" in "".join(capsys.readouterr())
    assert not list(project_paths.CHECKPOINTS.glob("evaluate-*"))
