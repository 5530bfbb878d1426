import dataclasses
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import export, prepare
from tests import small_network
from tests.conftest import ROOT, copied
from thaw import paths, records
from thaw.classifier import model
from thaw.config import load, schema
from thaw.evaluation import evaluate
from thaw.exports import formats
from thaw.images import decoding, manifest
from thaw.runtime.framework import keras
from thaw.tracking import registry

CLASSES = ["class_0", "class_1", "class_2"]
OPTIONS = ("data=folder", "image=px64", "image.size=32", *small_network.OVERRIDES, "tracking.enabled=false")


@pytest.fixture(scope="module")
def ready(fresh_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project when it is the turn of export: two classifiers of other weights, evaluated."""
    image, linear = schema.Image(32, "squash", "bilinear", antialias=True), schema.Head("avg", [8], [0.5], 0.0)
    card = model.Card(small_network.BACKBONE, "", image, linear, CLASSES)
    keras.utils.set_random_seed(0)
    with copied(fresh_project, tmp_path_factory.mktemp("evaluated")) as folder:
        configure("export.formats=[onnx]")
        prepare.main()
        (test,) = manifest.read("data/raw", "test")
        classifiers = [model.build(card, weights="random") for _ in paths.PHASES]
        found = evaluate.probabilities(classifiers, test, batch_size=4)
        paths.EVALUATION.mkdir(parents=True)
        for phase, classifier, rows in zip(paths.PHASES, classifiers, found, strict=True):
            model.save(paths.PHASES[phase], classifier)
            np.save(paths.probabilities(phase), rows, allow_pickle=False)
        records.write_json(paths.VERDICT, {"ship": "phase2"})
    return folder


@pytest.fixture
def evaluated(project: Path, ready: Path, monkeypatch: pytest.MonkeyPatch) -> manifest.Images:
    """The images that were evaluated, in the project when it is the turn of export: one ONNX file is wanted."""
    shutil.copytree(ready, project, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # where a process of its own finds the network's builder
    return manifest.read("data/raw", "test")[0]


def configure(*more: str) -> None:
    paths.PARAMS.write_text(load.compose([*OPTIONS, *more]), encoding="utf-8", newline="\n")


def test_all_formats_are_written_and_proven_equal_to_what_was_evaluated(
    evaluated: manifest.Images, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("export.formats=[keras,saved_model]")
    export.main()
    assert capsys.readouterr().out.splitlines()[-1].startswith("export: keras, saved_model, saved_model_images ")
    figures = records.read_json(paths.metrics("export"))
    assert figures["compared_images"] == len(evaluated) > 0
    assert 0 <= figures["largest_difference"] < 1e-5
    inputs = [paths.PHASE2 / model.WEIGHTS, paths.probabilities("phase2")]
    assert figures["made_from"] == records.made_from(inputs)

    exported = formats.load(paths.EXPORTED)
    assert exported.classes == CLASSES
    answers = exported.answer([Path(path).read_bytes() for path in evaluated.paths])
    np.testing.assert_allclose(answers, np.load(paths.probabilities("phase2")), atol=1e-5)


def exported() -> dict[str, bytes]:
    """All that the stage leaves."""
    files = [*(path for path in paths.EXPORTED.rglob("*") if path.is_file()), paths.metrics("export")]
    return {path.as_posix(): path.read_bytes() for path in files}


@pytest.mark.usefixtures("evaluated")
def test_what_was_interrupted_goes_on_from_what_is_written_and_proven_to_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure("export.formats=[keras,onnx,litert]")
    export.main()
    first, done = exported(), list[str]()
    assert not list(paths.CHECKPOINTS.iterdir())
    written = {name: form.write for name, form in formats.FORMATS.items()}
    run = subprocess.run

    def interrupted(at: str) -> None:
        """Run until something is to be done, and leave what a kill leaves in the middle of it."""
        done.clear()

        def do(name: str) -> None:
            done.append(name)
            if name == at:
                for folder in paths.CHECKPOINTS.glob("export-*"):
                    (folder / paths.EXPORTED.name / ".half.keras").write_bytes(b"half")
                raise KeyboardInterrupt

        def write(name: str, path: Path, deployed: Any) -> None:
            if name == at:
                path.write_bytes(b"half")
            do(name)
            written[name](path, deployed)

        def ask(words: list[str], **how: Any) -> Any:
            if "thaw.exports.probe" in words:
                do(words[3])
            return run(words, **how)

        for name, form in formats.FORMATS.items():
            monkeypatch.setitem(formats.FORMATS, name, dataclasses.replace(form, write=functools.partial(write, name)))
        monkeypatch.setattr(subprocess, "run", ask)
        try:
            export.main()
        except KeyboardInterrupt:
            assert at in done

    shutil.rmtree(paths.EXPORTED)
    for at, expected in (
        ("keras", ["keras"]),
        ("litert", ["keras", "onnx", "litert"]),
    ):
        interrupted(at)
        assert done == expected and not paths.EXPORTED.exists()
    # Runtimes are asked side by side, so of the others none, one or two have answered by then.
    interrupted("onnxruntime")
    assert done[0] == "litert" and not paths.EXPORTED.exists()
    interrupted("")
    assert done[0] == "onnxruntime" and set(done) <= {"onnxruntime", "tensorflow", "litert"}
    assert {name for name, data in exported().items() if data != first[name]} == set() != set(first)
    assert exported().keys() == first.keys() and not list(paths.CHECKPOINTS.iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("evaluated")
def test_what_was_killed_outright_again_and_again_ends_with_the_same_bytes() -> None:
    configure("export.formats=[saved_model,onnx]")
    words = [sys.executable, "-m", "stages.export"]
    subprocess.run(words, check=True, capture_output=True)
    first = exported()
    shutil.rmtree(paths.EXPORTED)
    # Each is killed once there is: a part of a SavedModel, a whole one, an ONNX file, the answers of one runtime.
    for begun in (f"export/{paths.SAVED_MODEL}", f"export/{paths.HASHES}", f"export/{paths.ONNX_FILE}", "*.npz"):
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            while process.poll() is None and not list(paths.CHECKPOINTS.glob(f"export-*/{begun}")):
                time.sleep(0.01)
            process.kill()
        assert process.returncode == -signal.SIGKILL and not paths.EXPORTED.exists()
    subprocess.run(words, check=True, capture_output=True)
    assert {name for name, data in exported().items() if data != first[name]} == set()
    assert exported().keys() == first.keys() and not list(paths.CHECKPOINTS.iterdir())


@pytest.mark.usefixtures("evaluated")
@pytest.mark.parametrize(("wanted", "ship"), [("verdict", "phase1"), ("phase1", "phase2"), ("phase2", "phase1")])
def test_the_phase_that_is_asked_for_is_exported_or_the_one_that_the_verdict_ships(wanted: str, ship: str) -> None:
    configure("export.formats=[onnx]", f"export.model={wanted}")
    records.write_json(paths.VERDICT, {"ship": ship})
    export.main()
    phase = ship if wanted == "verdict" else wanted
    made_from = records.read_json(paths.metrics("export"))["made_from"]
    assert made_from == records.made_from([paths.PHASES[phase] / model.WEIGHTS, paths.probabilities(phase)])
    first, second = (np.load(paths.probabilities(each)) for each in paths.PHASES)
    assert np.abs(first - second).max() > 1e-3, "the gate must not let the other phase pass"


def test_tensorflow_does_not_greet() -> None:
    """In a process of its own, without what the tests set so that it is quiet."""
    loud = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    command = [sys.executable, "-c", "import stages.export"]
    root = Path(export.__file__).parents[1]
    done = subprocess.run(command, cwd=root, env=loud, capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.usefixtures("evaluated")
def test_what_is_not_what_was_evaluated_is_not_exported() -> None:
    rows = np.load(paths.probabilities("phase2"))
    rows[-1, :2] += np.array([0.01, -0.01], np.float32)
    np.save(paths.probabilities("phase2"), rows)
    with pytest.raises(ValueError, match=r"the exported model \(onnx\) differs from the evaluated one by 1\.0e-02"):
        export.main()
    assert not paths.metrics("export").exists()
    # What is refused can be looked at, and nobody takes it for an export.
    assert not paths.EXPORTED.exists() and (paths.REFUSED / paths.ONNX_FILE).is_file()
    configure("export.formats=[onnx]", "export.tolerance=0.02")
    export.main()
    assert records.read_json(paths.metrics("export"))["largest_difference"] == pytest.approx(0.01, abs=1e-4)
    assert not (paths.EXPORTED / paths.SAVED_MODEL).exists()


def test_other_images_than_were_evaluated_are_not_blamed_on_the_model(evaluated: manifest.Images) -> None:
    first, *_, last = evaluated.paths
    Path(first).write_bytes(Path(last).read_bytes())
    with pytest.raises(ValueError, match=r"\.png: expected the image that was prepared, but it holds other bytes"):
        export.main()


@pytest.mark.usefixtures("evaluated")
def test_the_model_carries_the_limit_and_the_policy_by_which_training_read_files() -> None:
    configure("export.formats=[onnx]", "data.max_pixels=200000000", "data.policy.unused_bits=keep")
    export.main()
    assert formats.load(paths.EXPORTED).reading == decoding.Reading(max_pixels=200_000_000, stretch=False)
    # The gate reads by the model's limit, too: by one that is below the images' 1600 pixels it finds none to compare.
    configure("export.formats=[onnx]", "data.max_pixels=1599")
    with pytest.raises(ValueError, match=r"the exported model \(onnx\) differs"):
        export.main()


@pytest.mark.usefixtures("evaluated")
def test_every_format_says_what_it_is_and_timings_stay_out_of_what_is_hashed(project: Path) -> None:
    """Of int8 one format, since its ranges are found on the training images, whose paths are relative."""
    records.write_json(paths.CALIBRATION, {"phase": "phase2", "temperature": 3.0, "phase2": {"temperature": 2.0}})
    configure("export.formats=[onnx,onnx_int8]", "export.latency=true", "export.agreement=0", "export.probe=4")
    export.main()
    figures = records.read_json(paths.metrics("export"))
    assert figures["compared_images"] == 4 and figures["odd_photos"] == 12
    assert set(figures["formats"]) == {"onnx", "onnx_int8"}
    assert figures["largest_difference"] == figures["formats"]["onnx"]["largest_difference"] < 1e-5
    assert figures["formats"]["onnx_int8"].keys() >= {"agreement", "accuracy", "p_value"}
    found = records.read_json(paths.LATENCY)
    assert set(found) == {"onnx", "onnx_int8"}
    assert not any(each.keys() & found["onnx"].keys() for each in figures["formats"].values())
    about = formats.load(paths.EXPORTED).about
    assert about["temperature"] == 2.0
    assert about["provenance"]["weights"] == records.sha256(paths.PHASE2 / model.WEIGHTS)
    assert str(project) not in json.dumps(about)


def test_an_export_is_registered_with_what_it_said_of_the_test_images(
    evaluated: manifest.Images, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("export.formats=[onnx]", "tracking.enabled=true")
    export.main()
    assert "export: version 1 of thaw; now champion: the first champion\n" in capsys.readouterr().out
    client, name = registry.settings()
    (version,) = registry.versions(client, name)
    figures = client.download_artifacts(str(version.run_id), f"{version.tags[registry.FOLDER]}/{registry.TEST}")
    rows = records.read_csv(Path(figures))
    assert [row["sha256"] for row in rows] == evaluated.hashes
    right = [row["label"] == row["predicted"] for row in rows]
    assert float(version.tags["thaw.test_accuracy"]) == pytest.approx(sum(right) / len(right), abs=1e-6)
