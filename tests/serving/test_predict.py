import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thaw import paths
from thaw.classifier import head, model
from thaw.commands import cli
from thaw.config import schema
from thaw.data import folders
from thaw.exports import exported as exported_models
from thaw.exports import formats, write
from thaw.images import decoding
from thaw.runtime.framework import keras
from thaw.serving import files

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ["grün, hell", "red"]
GREEN, RED = np.array([40, 200, 40]), np.array([200, 40, 40])


def classifier() -> model.Classifier:
    """A real model, and small: it knows green from red, because its weights were chosen so."""
    image, linear = schema.Image(32, "squash", "bilinear", antialias=True), schema.Head("avg", [], [], 0.0)
    pixels = keras.Input((32, 32, 3), name="pixels")
    backbone = keras.Model(pixels, keras.layers.Rescaling(1 / 255, name="range")(pixels), name="tiny")
    card = model.Card(schema.Backbone("efficientnet_lite0", "random", "", "", ""), "", image, linear, CLASSES)
    made = model.Classifier(backbone, head.build(linear, 3, 2), card, {})
    made.head.get_layer("logits").kernel.assign([[-5.0, 5.0], [5.0, -5.0], [0.0, 0.0]])
    return made


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `export` writes of the classifier."""
    folder = tmp_path_factory.mktemp("project") / paths.EXPORTED
    write.write(folder, classifier(), ["keras", "saved_model"])
    return folder


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three good images, of three formats and sizes, a broken one and a text, in the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "pictures"
    (folder / "deeper down").mkdir(parents=True)
    for number, (name, colour) in enumerate({"1.png": GREEN, "2.JPG": RED, "deeper down/4.webp": RED}.items()):
        noise = np.random.default_rng(number).integers(-40, 40, (20 + 7 * number, 30, 3))
        Image.fromarray((colour + noise).astype(np.uint8)).save(folder / name)
    (folder / "3.jpg").write_bytes((folder / "2.JPG").read_bytes()[:200])
    (folder / "notes.txt").write_text("no image", encoding="utf-8")
    return folder


NO_IMAGE = "no image by its name and its bytes"
GOOD = {"1.png": "grün, hell", "2.JPG": "red", "deeper down/4.webp": "red"}


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """What `thaw predict` leaves its user with: the message it exits with, empty if all is well."""
    monkeypatch.setattr(sys, "argv", ["thaw", "predict", *words])
    try:
        cli.main()
    except SystemExit as left:
        return str(left.code)
    return ""


# Which files


def test_a_folder_means_the_images_below_it_and_a_file_itself_whatever_its_name(pictures: Path) -> None:
    (pictures / "folder.png").mkdir()
    below = [pictures / name for name in ("1.png", "2.JPG", "3.jpg", "deeper down/4.webp")]
    assert files.find([str(pictures)]) == files.Meant(below, {}, {pictures / "notes.txt": NO_IMAGE})
    meant = files.find([str(pictures / "notes.txt"), "pictures"])
    assert meant.files == [pictures / "notes.txt", *(path.relative_to(pictures.parent) for path in below)]
    assert (meant.wrong, meant.skipped) == ({}, {Path("pictures/notes.txt"): NO_IMAGE})


def test_a_folder_means_what_prepare_would_find_there(pictures: Path, tmp_path: Path) -> None:
    jpeg = (pictures / "2.JPG").read_bytes()
    taken = ("a.jfif", "a.pjpeg", "b", "c.jpg_large", "d.mpo")
    for name in taken:
        (pictures / name).write_bytes(jpeg)
    ignored = ("._1.png", ".hidden/1.png", "__MACOSX/1.png", "Thumbs.db", "@eaDir/1.png")
    for name in ignored:
        (pictures / name).parent.mkdir(exist_ok=True)
        (pictures / name).write_bytes(jpeg)
    (pictures / "sound").write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    (pictures / "empty.jpg").touch()
    (pictures / "dangling.png").symlink_to("nowhere.png")
    (pictures / "again").symlink_to(pictures)
    os.mkfifo(pictures / "pipe")
    meant = files.find([str(pictures)])
    good = {*taken, "1.png", "2.JPG", "3.jpg", "deeper down/4.webp", "empty.jpg"}
    assert {path.relative_to(pictures).as_posix() for path in meant.files} == good
    assert meant.files == sorted(meant.files)
    skipped = {path.name: reason for path, reason in meant.skipped.items()}
    assert skipped.keys() == {"notes.txt", "sound", "dangling.png", "again", "pipe"}
    assert all(skipped.values()) and not meant.wrong
    entries = folders.below(pictures)[0]
    assert set(meant.files) | {pictures / name for name in ("notes.txt", "sound", "pipe")} == set(entries)


@pytest.mark.usefixtures("pictures")
def test_a_path_that_means_nothing_keeps_its_place_and_is_told() -> None:
    Path("empty").mkdir()
    os.mkfifo("pipe.png")  # whoever reads it waits for ever
    names = ["gone.png", "pictures/1.png", "empty", "pipe.png"]
    meant = files.find(names)
    found, wrong = meant.files, meant.wrong
    assert found == [Path(name) for name in names]
    nothing = "expected an image or a folder of images, found nothing there"
    assert wrong.pop(Path("gone.png")) == wrong.pop(Path("pipe.png")) == nothing
    assert wrong.pop(Path("empty")).startswith("expected images (.jpg, ")
    assert not wrong


# Which model


@pytest.mark.parametrize("inside", ["", paths.KERAS_FILE, paths.SAVED_MODEL])
def test_the_folder_and_each_format_in_it_give_the_same_answers(exported: Path, pictures: Path, inside: str) -> None:
    loaded = formats.load(exported / inside)
    assert loaded.classes == CLASSES
    files = [(pictures / name).read_bytes() for name in GOOD]
    rows = loaded.answer(files)
    assert rows.shape == (3, 2)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)
    assert [CLASSES[row.argmax()] for row in rows] == list(GOOD.values())
    # The mean colour is about (200, 40, 40) / 255, so the logits are about ±3.14.
    np.testing.assert_allclose(rows[1, 1], 1 / (1 + np.exp(-2 * 5 * 160 / 255)), atol=2e-3)


def test_a_missing_model_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"expected an exported model \(model\.onnx or .+ or model\.keras.*\), found none"
    ):
        formats.load(tmp_path)
    for name in (paths.SAVED_MODEL, "notes.txt"):
        with pytest.raises(ValueError, match=r"found none; run `dvc repro`, or name the folder that has one"):
            formats.load(tmp_path / name)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(bytes(data))


VARIABLES = f"{paths.SAVED_MODEL}/variables"


@pytest.mark.parametrize(
    ("damage", "where"),
    [
        (shutil.rmtree, VARIABLES),
        (Path.unlink, f"{VARIABLES}/variables.data-00000-of-00001"),
        (_cut, f"{VARIABLES}/variables.data-00000-of-00001"),
        (Path.unlink, f"{paths.SAVED_MODEL}/saved_model.pb"),
        (_cut, f"{paths.SAVED_MODEL}/saved_model.pb"),
        (_cut, paths.KERAS_FILE),
        (_flip, paths.KERAS_FILE),
        (lambda path: path.write_bytes(b""), paths.KERAS_FILE),
    ],
)
def test_a_damaged_model_is_told_from_none(
    exported: Path, tmp_path: Path, damage: Callable[[Path], object], where: str
) -> None:
    form = where.split("/", maxsplit=1)[0]
    if form == paths.SAVED_MODEL:
        shutil.copytree(exported / form, tmp_path / form)
    else:
        shutil.copy(exported / form, tmp_path)
    damage(tmp_path / where)
    for named in (tmp_path, tmp_path / form):
        with pytest.raises(ValueError, match=rf"{form}: expected a whole .* damaged .* run `dvc repro export`"):
            formats.load(named)


def test_a_keras_file_with_layers_of_ones_own_is_not_called_damaged(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / paths.KERAS_FILE
    with zipfile.ZipFile(exported / paths.KERAS_FILE) as whole, zipfile.ZipFile(path, "w") as changed:
        for name in whole.namelist():
            data = whole.read(name)
            changed.writestr(name, data.replace(b'"Softmax"', b'"Sharpmax"') if name == "config.json" else data)
    with pytest.raises(ValueError, match=r"can't be built from the file .*Sharpmax.* set export\.formats="):
        formats.load(path)


def test_a_keras_file_of_someone_else_is_told_from_ours(exported: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(exported / paths.KERAS_FILE) as ours, zipfile.ZipFile(tmp_path / "x.keras", "w") as theirs:
        for name in ours.namelist():
            if name != paths.LABELS:
                theirs.writestr(name, ours.read(name))
    with pytest.raises(ValueError, match=r"expected labels\.json in the file, found none; was it exported by thaw"):
        formats.load(tmp_path / "x.keras")


# Answers


@pytest.mark.parametrize("inside", [paths.KERAS_FILE, paths.SAVED_MODEL])
def test_what_cannot_be_used_takes_nothing_from_the_others(
    exported: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    monkeypatch.setattr(exported_models, "BATCH", 3)
    (pictures / "empty.png").touch()
    files = [
        *(pictures / name for name in ("1.png", "empty.png", "3.jpg", "gone.png", "2.JPG", "gone too.png")),
        pictures,
    ]
    found = list(exported_models.answers(formats.load(exported / inside), files))
    assert [path for path, _ in found] == files
    said = {
        path.name: answer if isinstance(answer, str) else CLASSES[answer.probabilities.argmax()]
        for path, answer in found
    }
    assert said == {
        "1.png": "grün, hell",
        "empty.png": "can't be used: empty, an empty file",
        "3.jpg": "can't be used: truncated, it ends early",
        "gone.png": "can't be used: unreadable, cannot be read: No such file or directory",
        "2.JPG": "red",
        "gone too.png": "can't be used: unreadable, cannot be read: No such file or directory",
        "pictures": "can't be used: unreadable, not a file",
    }


@pytest.mark.parametrize("inside", [paths.KERAS_FILE, paths.SAVED_MODEL])
def test_what_training_read_as_a_png_is_read_as_one_here_too(exported: Path, pictures: Path, inside: str) -> None:
    with Image.open(pictures / "2.JPG") as image:
        image.save(pictures / "scan.tif")
        image.save(pictures / "same.png")
        glass = image.convert("RGBA")
    glass.putalpha(0)
    glass.save(pictures / "glass.webp")
    Image.new("RGB", glass.size, "white").save(pictures / "white.png")
    names = ["scan.tif", "same.png", "glass.webp", "white.png"]
    found = dict(exported_models.answers(formats.load(exported / inside), [pictures / name for name in names]))
    said = [found[pictures / name] for name in names]
    scan, same, clear, white = (each.probabilities for each in said if not isinstance(each, str))
    np.testing.assert_array_equal(scan, same)
    np.testing.assert_array_equal(clear, white)
    assert not isinstance(clear, str)


def test_the_command_answers_line_by_line_and_fails_if_a_file_could_not_be_used(
    exported: Path, pictures: Path
) -> None:
    """In a process of its own, as a person runs it, in the project's folder."""
    words = [sys.executable, "-m", "thaw.commands.cli", "predict", str(pictures)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        words, cwd=exported.parents[1], env=environment, capture_output=True, encoding="utf-8", check=False
    )
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [(path, label) for path, label, _ in rows] == [(str(pictures / name), GOOD[name]) for name in GOOD]
    assert all(50 < float(probability.removesuffix("%")) <= 100 for *_, probability in rows)
    # TensorFlow's decoder has its own word to say of a broken file, which depends on the machine.
    said = [line for line in done.stderr.splitlines() if line.startswith((str(pictures), "thaw", "Traceback"))]
    assert len(said) == 3
    assert said[0] == f"{pictures / 'notes.txt'}: passed over: {NO_IMAGE}"
    assert said[1].startswith(f"{pictures / '3.jpg'}: can't be used: truncated, ")
    assert said[2] == "thaw predict: 1 of 4 files could not be used"
    assert done.returncode == 1


@pytest.mark.usefixtures("pictures")
def test_json_has_every_class_and_every_file(
    exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left = command(monkeypatch, "pictures/1.png", "pictures/3.jpg", "--json", "--model", str(exported))
    assert left == "thaw predict: 1 of 2 files could not be used"
    good, bad = json.loads(capsys.readouterr().out)
    assert (good["path"], good["label"]) == (str(Path("pictures/1.png")), "grün, hell")
    assert set(good["probabilities"]) == set(CLASSES)
    assert good["probability"] == good["probabilities"]["grün, hell"] == max(good["probabilities"].values())
    assert sum(good["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert bad["path"] == str(Path("pictures/3.jpg"))
    assert bad["error"].startswith("can't be used: truncated, it ends early")


@pytest.mark.parametrize("form", ["--json", ""])
@pytest.mark.usefixtures("pictures")
def test_a_path_where_nothing_is_takes_nothing_from_the_others(
    exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    words = ["pictures/1.png", "gone.png", "pictures/2.JPG", "--model", str(exported), *filter(None, [form])]
    assert command(monkeypatch, *words) == "thaw predict: 1 of 3 files could not be used"
    said = capsys.readouterr()
    assert said.err == "gone.png: expected an image or a folder of images, found nothing there\n"
    if form:
        first, gone, last = json.loads(said.out)
        assert (first["label"], last["label"]) == ("grün, hell", "red")
        assert gone == {"path": "gone.png", "error": "expected an image or a folder of images, found nothing there"}
    else:
        assert [line.split("\t")[0] for line in said.out.splitlines()] == ["pictures/1.png", "pictures/2.JPG"]


def test_a_name_with_a_tab_or_an_end_of_line_stays_on_its_line(
    exported: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = "a\tb\nc\\d\u2028.png"
    (pictures / "1.png").rename(pictures / odd)
    assert command(monkeypatch, f"pictures/{odd}", "go\nne", "--model", str(exported))
    said = capsys.readouterr()
    assert said.out.split("\t")[:2] == [r"pictures/a\tb\nc\\d\u2028.png", "grün, hell"]
    assert said.out.count("\n") == said.err.count("\n") == 1
    assert said.err.startswith(r"go\nne: ")
    command(monkeypatch, f"pictures/{odd}", "--json", "--model", str(exported))
    assert json.loads(capsys.readouterr().out)[0]["path"] == f"pictures/{odd}"


@pytest.mark.parametrize("form", ["--json", ""])
def test_an_encoding_without_the_letters_of_a_name_ends_no_answer(exported: Path, pictures: Path, form: str) -> None:
    (pictures / "1.png").rename(pictures / "写真\x1b[31m.png")
    words = ["predict", "写真\x1b[31m.png", "2.JPG", "--model", str(exported), *filter(None, [form])]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "thaw.commands.cli", *words]
    done = subprocess.run(command, cwd=pictures, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    out = done.stdout.decode("ascii")
    if form:
        rows = [(each["path"], each["label"]) for each in json.loads(out)]
        assert rows == [("写真\x1b[31m.png", "grün, hell"), ("2.JPG", "red")]
    else:
        lines = [line.split("\t") for line in out.splitlines()]
        assert [line[:2] for line in lines] == [[r"\u5199\u771f\x1b[31m.png", r"gr\xfcn, hell"], ["2.JPG", "red"]]


@pytest.mark.parametrize("inside", [paths.KERAS_FILE, paths.SAVED_MODEL])
def test_a_model_carries_how_training_read_files(exported: Path, pictures: Path, tmp_path: Path, inside: str) -> None:
    assert formats.load(exported / inside).reading == decoding.USUAL
    reading = decoding.Reading(max_pixels=20 * 30, stretch=False)
    write.write(tmp_path / "other", classifier(), ["keras", "saved_model"], reading)
    other = formats.load(tmp_path / "other" / inside)
    assert other.reading == reading
    Image.fromarray(np.full((20, 30), 4095, np.uint16)).save(pictures / "scan.png")
    files, given = [pictures / "scan.png", pictures / "2.JPG"], list[bytes]()

    def say(contents: Sequence[bytes]) -> list[exported_models.Answer]:
        given.extend(contents)
        return exported_models.answered(np.zeros((len(contents), 2), np.float32))

    for each, last in ((formats.load(exported / inside), ""), (other, "too large, 30 × 27, more than 600 pixels")):
        *_, (_, said) = exported_models.answers(replace(each, say=say), files)
        assert (f"can't be used: {last}" == said) if last else not isinstance(said, str)
    stretched, jpeg, kept = given
    assert Image.open(io.BytesIO(stretched)).getpixel((0, 0)) == (255, 255, 255)
    assert (jpeg, kept) == (files[1].read_bytes(), files[0].read_bytes())


@pytest.mark.usefixtures("pictures")
def test_all_is_well_without_a_broken_image(
    exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "pictures/1.png", "pictures/2.JPG", "--model", str(exported)) == ""
    said = capsys.readouterr()
    assert [line.split("\t")[1] for line in said.out.splitlines()] == ["grün, hell", "red"]
    assert said.err == ""


@pytest.mark.usefixtures("pictures")
def test_a_mistake_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    said = command(monkeypatch, "gone.png")  # and no model is looked for
    assert said == "thaw predict: 1 of 1 files could not be used"
    assert capsys.readouterr().err == "gone.png: expected an image or a folder of images, found nothing there\n"
    said = command(monkeypatch, "pictures")
    assert said.startswith(f"thaw predict: {paths.EXPORTED}: expected an exported model")
    assert "\n" not in said
    assert capsys.readouterr().out == ""


def test_help_does_not_wait_for_tensorflow() -> None:
    code = "import sys, thaw.serving.predict; print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
