import errno
import io
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import small_network
from thaw import paths as project_paths
from thaw import records
from thaw.classifier import model
from thaw.config import schema
from thaw.config.images import FITS
from thaw.evaluation import evaluate
from thaw.exports import formats, provenance, write
from thaw.images import manifest, preprocessing
from thaw.runtime.framework import keras, tf

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ["Häschen, klein", "dog", "猫"]
SQUARE = schema.Image(32, "squash", "bilinear", antialias=True)
RANDOM = np.random.default_rng(0)
# Portrait, landscape and square; larger and smaller than the input.
PICTURES = [RANDOM.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((50, 30), (20, 61), (32, 32), (9, 17))]


def build(backbone: schema.Backbone = small_network.BACKBONE, image: schema.Image = SQUARE) -> model.Classifier:
    """A classifier whose weights are random, and the same each time."""
    keras.utils.set_random_seed(0)
    head = schema.Head("avg", [16], [0.5], 0.0)
    card = model.Card(backbone, "", image, head, CLASSES)
    return model.build(card, weights="random")


@pytest.fixture(scope="module")
def classifier() -> model.Classifier:
    return build(schema.Backbone("efficientnet_lite0", "random", "", "", ""))


@pytest.fixture(scope="module")
def folder(classifier: model.Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "new"
    write.write(path, classifier, ["keras", "saved_model"])
    return path


def expected(classifier: model.Classifier, pixels: np.ndarray) -> np.ndarray:
    """(batch, height, width, 3) uint8 → (batch, classes): the probabilities of what was trained."""
    fitted = preprocessing.resizer(classifier.card.image)(pixels.astype(np.float32))
    logits = model.whole(classifier)(fitted, training=False)
    return np.asarray(keras.ops.softmax(logits))


def close(received: np.ndarray, wanted: np.ndarray) -> None:
    assert received.dtype == np.float32
    np.testing.assert_allclose(received, wanted, atol=1e-5)


# What a user of the .keras file has: Keras, and not this project.
ELSEWHERE = """\
import os, sys
os.environ["KERAS_BACKEND"] = "tensorflow"
sys.modules["thaw"] = None  # so that importing it fails
import keras, numpy as np
deployed = keras.saving.load_model("model.keras")
batches = np.load("batches.npz")
answers = {name: deployed.predict(batches[name], verbose=0) for name in batches.files}
called = {f"{name} called": np.asarray(deployed(batches[name])) for name in batches.files}
np.savez("answers.npz", **answers, **called)
"""


def test_the_keras_file_needs_only_keras_and_takes_batches_of_any_size(
    classifier: model.Classifier, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / project_paths.KERAS_FILE).write_bytes((folder / project_paths.KERAS_FILE).read_bytes())
    batches = {f"batch_{number}": np.stack([each] * (number + 1)) for number, each in enumerate(PICTURES)}
    np.savez(tmp_path / "batches.npz", **batches)  # type: ignore[arg-type]  # NumPy takes them for its options
    command = [sys.executable, "-I", "-c", ELSEWHERE]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "answers.npz") as answers:
        assert len(answers.files) == 2 * len(batches)
        for name, pixels in batches.items():
            close(answers[name], expected(classifier, pixels))
            close(answers[f"{name} called"], answers[name])


def test_both_formats_name_their_classes(folder: Path) -> None:
    about = {
        "classes": CLASSES,
        "image": {"size": 32, "fit": "squash", "interpolation": "bilinear", "antialias": True},
        "files": {"max_pixels": 89478485, "stretch": True},
        "limits": {"max_bytes": 512 * 2**20, "max_pixels": 89478485},
        "temperature": 1.0,
        "provenance": {},
    }
    with zipfile.ZipFile(folder / project_paths.KERAS_FILE) as archive:
        assert json.loads(archive.read(project_paths.LABELS)) == about
    assert records.read_json(folder / project_paths.LABELS) == about
    assert formats.load(folder, "saved_model").about == about | {"format": "saved_model"}
    names = tf.saved_model.load(str(folder / project_paths.SAVED_MODEL)).signatures["classes"]()["classes"].numpy()
    assert [name.decode() for name in names] == CLASSES


def photographs(folder: Path) -> list[str]:
    """The pictures as JPEG files, each with another EXIF orientation, and as PNG."""
    paths = []
    for orientation, pixels in zip((6, 1, 8, 3), PICTURES, strict=True):
        exif = Image.Exif()
        exif[0x0112] = orientation
        paths.append(folder / f"turned_{orientation}.jpg")
        Image.fromarray(pixels).save(paths[-1], exif=exif, quality=95)
        paths.append(folder / f"plain_{orientation}.png")
        Image.fromarray(pixels).save(paths[-1])
    return [str(path) for path in paths]


def test_the_saved_model_says_of_encoded_files_what_the_evaluation_says(
    classifier: model.Classifier, folder: Path, tmp_path: Path
) -> None:
    paths = photographs(tmp_path)
    split = manifest.Images(
        paths, paths, [records.sha256(Path(path)) for path in paths], np.zeros(len(paths), np.int64)
    )
    (wanted,) = evaluate.probabilities([classifier], split, batch_size=3)
    assert wanted.std(axis=0).min() > 1e-4, "the pictures must differ, or this test could not fail"
    loaded = tf.saved_model.load(str(folder / project_paths.SAVED_MODEL))
    files = tf.constant([Path(path).read_bytes() for path in paths])
    for signature in ("encoded", "serving_default"):
        answer = loaded.signatures[signature](encoded=files)
        close(answer["probabilities"].numpy(), wanted)
        assert [name.decode() for name in answer["label"].numpy()] == [CLASSES[row.argmax()] for row in wanted]


def test_the_saved_model_takes_pixels_too(classifier: model.Classifier, folder: Path) -> None:
    run = tf.saved_model.load(str(folder / project_paths.SAVED_MODEL)).signatures["images"]
    for count, pixels in enumerate(PICTURES, start=1):
        batch = np.stack([pixels, pixels[::-1], pixels[:, ::-1]])[:count]
        close(run(images=tf.constant(batch))["probabilities"].numpy(), expected(classifier, batch))


@pytest.mark.parametrize("fit", FITS)
def test_the_exported_model_fits_images_as_training_did(fit: str) -> None:
    classifier = build(image=schema.Image(32, fit, "bicubic", antialias=False))
    deployed = write.serving(classifier)
    compiled = tf.function(deployed, reduce_retracing=True)
    load, whole = preprocessing.load(classifier.card.image), model.whole(classifier)
    answers = []
    for pixels in PICTURES:
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "PNG")
        wanted = keras.ops.softmax(whole(load(tf.constant(encoded.getvalue()))[None], training=False))
        answers.append(np.asarray(wanted))
        # Keras's layers for images work differently when they are called at once and when they are compiled.
        close(np.asarray(compiled(tf.constant(pixels[None]))), answers[-1])
        close(np.asarray(deployed(pixels[None])), answers[-1])
    assert np.std(answers, axis=0).min() > 1e-4


REPEAT = """\
import runpy, sys
from pathlib import Path
from thaw.exports import write as exporting
exporting.write(Path(sys.argv[2]), runpy.run_path(sys.argv[1])["build"](), sys.argv[3:])
"""


def test_equal_models_are_equal_files_also_from_another_process(tmp_path: Path) -> None:
    write.write(tmp_path / "first", build(), ["keras"])
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])  # counts up the names that Keras gives
    write.write(tmp_path / "second", build(), ["keras"])
    command = [sys.executable, "-c", REPEAT, str(Path(__file__)), str(tmp_path / "third"), "keras"]
    subprocess.run(command, cwd=ROOT, check=True)
    first, second, third = (
        (tmp_path / name / project_paths.KERAS_FILE).read_bytes() for name in ("first", "second", "third")
    )
    assert first == second
    assert first == third
    other = build()
    other.head.get_layer("logits").bias.assign([1.0, 0.0, 0.0])
    write.write(tmp_path / "other", other, ["keras"])
    assert (tmp_path / "other" / project_paths.KERAS_FILE).read_bytes() != first


def test_equal_models_are_equal_saved_models_in_each_process(tmp_path: Path) -> None:
    found = []
    for name in ("first", "second"):
        command = [sys.executable, "-c", REPEAT, str(Path(__file__)), str(tmp_path / name), "saved_model"]
        subprocess.run(command, cwd=ROOT, check=True)
        folder = tmp_path / name / project_paths.SAVED_MODEL
        found.append({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert len(found[0]) == 5
    assert found[0] == found[1]
    kept = tf.train.list_variables(str(tmp_path / "first" / project_paths.SAVED_MODEL / "variables" / "variables"))
    weights = write.serving(build()).weights  # and no state of Dropout, which differs in each process
    assert sum(name.startswith("model_variables/") for name, _ in kept) == len(weights)


def test_only_what_is_asked_for_is_written(tmp_path: Path) -> None:
    write.write(tmp_path, build(), ["keras"])
    assert {path.name for path in tmp_path.iterdir()} == {
        project_paths.KERAS_FILE,
        project_paths.HASHES,
        project_paths.LABELS,
    }


class Untold(keras.layers.Layer):  # type: ignore[misc]
    """Needs what it does not say, as Keras finds out when it writes a file."""

    def __init__(self, scale: Callable[[tf.Tensor], tf.Tensor]) -> None:
        super().__init__()
        self.scale = scale

    def call(self, tensor: tf.Tensor) -> tf.Tensor:
        return self.scale(tensor)


class Untracked(keras.layers.Layer):  # type: ignore[misc]
    """Has a state in a place where TensorFlow does not look."""

    def __init__(self) -> None:
        super().__init__()
        hidden = tf.Variable(2.0)
        self.find = lambda: hidden

    def call(self, tensor: tf.Tensor) -> tf.Tensor:
        return tensor * self.find()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("layer", "asked", "kind", "instead"),
    [
        (Untold(lambda tensor: tensor * 2), "keras", r"a \.keras file", "saved_model"),
        (Untracked(), "saved_model", "a SavedModel", "keras"),
    ],
)
def test_what_a_format_cannot_hold_is_said_with_the_other_one(
    classifier: model.Classifier, tmp_path: Path, layer: keras.layers.Layer, asked: str, kind: str, instead: str
) -> None:
    given = keras.Input((32, 32, 3))
    backbone = keras.Model(given, layer(classifier.backbone(given)))
    wrapped = model.Classifier(backbone, classifier.head, classifier.card, {})
    with pytest.raises(ValueError, match=rf"^export\.formats: expected a network that {kind} can hold, .*") as error:
        write.write(tmp_path, wrapped, [asked])
    assert str(error.value).endswith(f"set export.formats=[{instead}]") and "\n" not in str(error.value)


def test_without_calibration_the_probabilities_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert provenance.temperature("phase2") == 1
    # evaluate.calibration=false, while images unlike the training images are scored all the same.
    records.write_json(project_paths.CALIBRATION, {"phase": "phase2", "phase2": {"unfamiliar": {"threshold": 3.0}}})
    assert provenance.temperature("phase2") == 1
    records.write_json(
        project_paths.CALIBRATION, {"phase": "phase2", "temperature": 3.0, "phase2": {"temperature": 2.0}}
    )
    assert [provenance.temperature(phase) for phase in ("phase1", "phase2")] == [3, 2]


class _Killed(BaseException):
    """Stands for a kill, which no handler of errors sees."""


@pytest.mark.parametrize("step", ["copytree", "rename 1", "rename 2", "rmtree"])
def test_a_kill_while_an_export_is_put_in_place_loses_neither_the_old_one_nor_the_new_one(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exported, kept = project_paths.EXPORTED, tmp_path / "kept"
    for folder, content in ((exported, "old"), (kept, "new")):
        for name in ("a", "b"):
            records.write_text(folder / name, content)

    def whole() -> set[str]:
        found = [{path.name: path.read_text() for path in folder.iterdir()} for folder in exported.parent.iterdir()]
        return {texts["a"] for texts in found if texts.keys() == {"a", "b"} and texts["a"] == texts["b"]}

    def killed_at(function: Callable[..., object], number: int) -> Callable[..., object]:
        def called(*words: object, **named: object) -> object:
            calls.append(step)
            if len(calls) < number:
                return function(*words, **named)
            if step == "copytree":
                records.write_text(Path(str(words[1])) / "a", "half")
            raise _Killed

        return called

    calls: list[str] = []
    with monkeypatch.context() as here:
        if step.startswith("rename"):
            here.setattr(Path, "rename", killed_at(Path.rename, int(step[-1])))
        else:
            here.setattr(shutil, step, killed_at(getattr(shutil, step), 3 if step == "rmtree" else 1))
        with pytest.raises(_Killed):
            write.put_in_place(kept)
    assert whole() >= ({"new"} if step == "rmtree" else {"old"}), step
    write.put_in_place(kept)
    assert whole() == {"new"} and [path.name for path in exported.parent.iterdir()] == [exported.name]


def test_an_export_that_finds_no_room_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, content in ((project_paths.EXPORTED, "old"), (tmp_path / "kept", "new")):
        records.write_text(folder / "a", content)

    def full(_: Path, folder: Path) -> None:
        records.write_text(folder / "a", "half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(OSError, match=r"models/export: expected room to write it, received a full disk"):
        write.put_in_place(tmp_path / "kept")
    assert {path.name: (path / "a").read_text() for path in Path("models").iterdir()} == {"export": "old"}
