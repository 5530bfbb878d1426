"""The Python API: predictions from an export, and a project fitted by its stages."""

import doctest
import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

import thaw
from tests.conftest import make_images
from tests.serving import tiny
from thaw import paths, records
from thaw.api import estimator, overrides, runs
from thaw.images import decoding
from thaw.project import pipeline_run
from thaw.serving import predictor

GREEN, RED = np.full((20, 30, 3), (0, 220, 0), np.uint8), np.full((20, 30, 3), (220, 0, 0), np.uint8)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an exported model that tells green from red."""
    folder = tmp_path_factory.mktemp("exported")
    tiny.write(folder / paths.EXPORTED / paths.ONNX_FILE)
    return folder


def as_bytes(pixels: np.ndarray) -> bytes:
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "PNG")
    return held.getvalue()


def test_the_names_of_the_api_are_completed_though_they_are_imported_when_they_are_used_only() -> None:
    code = (
        "import sys, thaw; names = dir(thaw); slow = {'thaw.api.runs', 'thaw.api.estimator', 'importlib.metadata', "
        "'numpy'}; print(*names); print(sorted(slow & set(sys.modules))); from thaw import *; print(thaw.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, imported, told = done.stdout.splitlines()
    assert {*thaw.NAMES, "__version__", "__doc__"} <= set(names.split())
    assert imported == "[]" and told == version("thaw") == thaw.__version__
    assert all(getattr(thaw, name) for name in thaw.NAMES)
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        thaw.fitt  # noqa: B018


@pytest.mark.parametrize("made", [as_bytes, Image.fromarray, lambda pixels: pixels])
def test_a_predictor_takes_images_in_any_form_and_gives_a_row_each(
    project: Path, made: Callable[[np.ndarray], predictor.Picture]
) -> None:
    model = thaw.load(project)
    assert model.labels == tiny.CLASSES
    assert list(model.predict([made(GREEN), made(RED)])) == tiny.CLASSES
    alone = model.predict_proba(made(RED))
    assert alone.shape == (1, 2) and alone.dtype == np.float32 and alone[0, 1] > 0.9


def test_paths_arrays_of_images_iterators_and_more_than_a_batch(project: Path, tmp_path: Path) -> None:
    model = thaw.load(project / paths.EXPORTED)
    (tmp_path / "red.png").write_bytes(as_bytes(RED))
    assert list(model.predict(str(tmp_path / "red.png"))) == ["red"] == list(model.predict(tmp_path / "red.png"))
    assert list(model.predict(np.stack([RED, GREEN]))) == ["red", tiny.CLASSES[0]]
    many = model.predict_proba(RED if number % 2 else GREEN for number in range(70))
    assert many.shape == (70, 2) and np.array_equal(many.argmax(axis=1), np.arange(70) % 2)
    assert model.predict([]).shape == (0,) and model.predict_proba([]).shape == (0, 2)
    assert model.predict_proba(Image.fromarray(RED).convert("RGBA")).shape == (1, 2)


def test_an_opened_image_is_read_as_its_file_is(project: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[274] = 6  # to be turned by a quarter
    for mode, name in (("RGB", "turned.jpg"), ("CMYK", "print.jpg"), ("P", "palette.png"), ("1", "ink.png")):
        Image.fromarray(pixels).convert(mode).save(tmp_path / name, exif=exif)
    model = thaw.load(project)
    for path in sorted(tmp_path.iterdir()):
        with Image.open(path) as image:
            opened = Image.open(io.BytesIO(predictor._file(image)))
            assert opened.size == (20, 30)
            np.testing.assert_array_equal(model.predict_proba(image), model.predict_proba(path))
    for mode in ("YCbCr", "HSV", "LAB", "CMYK", "RGBa", "PA", "LA", "I"):
        assert model.predict_proba(Image.new(mode, (9, 9))).shape == (1, 2)


def deep(numbers: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel in colour, which Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", numbers.shape[1], numbers.shape[0], 16, 2, 0, 0, 0))
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in numbers)
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def seen(given: bytes) -> np.ndarray:
    """What a model sees of a file."""
    return np.asarray(decoding.inspect(decoding.servable(given))[1])


def test_an_opened_image_of_16_bits_has_the_bits_in_use_of_its_file_or_is_refused(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).integers(0, 4096, (12, 16, 3), dtype=np.uint16)
    path = tmp_path / "deep.png"
    path.write_bytes(deep(numbers))
    for image in (Image.open(path), Image.open(io.BytesIO(path.read_bytes()))):
        for _ in range(2):  # before its pixels are loaded and then
            np.testing.assert_array_equal(seen(predictor._file(image)), numbers >> 4)
            image.load()
    touched = Image.open(path)
    touched.putpixel((0, 0), (1, 2, 3))
    gone = Image.open(path)
    gone.load()
    path.unlink()
    for image in (touched, gone):
        with pytest.raises(ValueError, match="dark PNG"):
            predictor._file(image)
        np.testing.assert_array_equal(seen(predictor._file(image, stretch=False)), np.asarray(image))
    bright = Image.open(io.BytesIO(deep(numbers << 4)))
    bright.putpixel((0, 0), (1, 2, 3))
    np.testing.assert_array_equal(seen(predictor._file(bright)), np.asarray(bright))
    night = Image.open(io.BytesIO(as_bytes((numbers >> 8).astype(np.uint8))))
    night.load()
    np.testing.assert_array_equal(seen(predictor._file(night)), numbers >> 8)


def test_an_opened_tiff_in_which_0_is_white_is_no_negative(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).integers(0, 4096, (12, 16), dtype=np.uint16)
    held = io.BytesIO()
    Image.fromarray(numbers).save(held, "TIFF")
    black = struct.pack("<HHII", 262, 3, 1, 1)
    assert held.getvalue().count(black) == 1
    (tmp_path / "grey.tif").write_bytes(held.getvalue().replace(black, struct.pack("<HHII", 262, 3, 1, 0)))
    image = Image.open(tmp_path / "grey.tif")
    expected = np.repeat(255 - (numbers >> 4)[..., None], 3, axis=2)
    np.testing.assert_array_equal(seen(predictor._file(image)), expected)
    image.putpixel((0, 0), 0)
    expected[0, 0] = 255
    np.testing.assert_array_equal(seen(predictor._file(image)), expected)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (b"text", "image 1: no image format"),
        (Path("nowhere.png"), r"image 1 \(nowhere\.png\): "),
        (np.zeros((4, 4, 3)), r"image 1: expected uint8 of .* received float64 of \(4, 4, 3\)"),
        (7, "image 1: expected a path, bytes, a PIL image or an array, received int"),
        (Image.new("F", (4, 4)), "image 1: expected 8 or 16 bits a channel, received an image of mode F"),
    ],
)
def test_what_is_no_image_is_said_with_its_place(project: Path, image: predictor.Picture, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        thaw.load(project).predict([RED, image])


def test_importing_thaw_loads_nothing_that_takes_time() -> None:
    code = (
        "import sys, thaw; slow = {'numpy', 'PIL', 'hydra', 'tensorflow', 'thaw.api.runs'}; "
        "print(*slow & set(sys.modules)); thaw.load"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
    with pytest.raises(AttributeError, match="has no attribute 'nonesuch'"):
        thaw.nonesuch  # noqa: B018
    assert all(hasattr(thaw, name) for name in thaw.NAMES)


def test_choices_are_words_of_the_command_line() -> None:
    choices = {"phase2": {"epochs": 5, "unfreeze": "40", "allow_high_rate": True}, "head": {"units": [8]}}
    assert list(overrides.words({**choices, "backbone": "resnet50"})) == [
        *("backbone=resnet50", "phase2.epochs=5", "phase2.unfreeze='40'", "phase2.allow_high_rate=true"),
        "head.units=[8]",
    ]


def test_choices_may_be_numbers_of_numpy_paths_and_any_text() -> None:
    phase2 = {"epochs": np.int64(5), "learning_rate": np.float32(0.5), "unfreeze": "variables:block_1[56]'\\"}
    words = list(
        overrides.words({"phase2": phase2, "compute": {"cache_dir": Path("a b/c")}, "backbone": np.str_("x")})
    )
    assert words == [
        *("backbone=x", "phase2.epochs=5", "phase2.learning_rate=0.5"),
        *(r"""phase2.unfreeze='variables:block_1[56]\'\\'""", "compute.cache_dir=a b/c"),
    ]
    parsed = OverridesParser.create().parse_override(words[3])
    assert parsed.value() == phase2["unfreeze"]


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"phase2": {"epochs": {1}}}, r"phase2\.epochs: expected a text, a number, .* received \{1\} \(set\)"),
        ({"backbone": 3}, r"backbone: expected the name of an option, or a dict of fields, received 3 \(int\)"),
    ],
)
def test_a_choice_of_another_type_is_one_line(choices: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        thaw.fit("images", **choices)


@pytest.mark.parametrize(("images", "said"), [(["a"], "data: expected the path"), ("", "data: .* an empty word")])
def test_images_that_are_no_path_are_one_line(images: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        thaw.fit(images)


@pytest.mark.parametrize("image", [3, None])
def test_what_is_neither_an_image_nor_several_is_said(project: Path, image: Any) -> None:
    with pytest.raises(ValueError, match=r"images: expected a path, .* received (int|NoneType)"):
        thaw.load(project).predict(image)


def test_fit_makes_a_project_and_runs_it_again_with_what_is_chosen_later(
    tmp_path: Path, tiny_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    ran: list[Path] = []
    monkeypatch.setattr(pipeline_run, "reproduce", lambda folder, **_: ran.append(folder))
    run = thaw.fit("data/raw", phase2={"epochs": 7, "unfreeze": "40"})
    thaw.fit("data/raw", phase2={"epochs": 9})
    params = yaml.safe_load((run.folder / paths.PARAMS).read_text(encoding="utf-8"))
    assert params["phase2"]["epochs"] == 9 and params["phase2"]["unfreeze"] == "40"
    assert params["data"]["raw"] == tiny_images.as_posix()
    assert ran == [tmp_path / "raw-thaw"] * 2 and run.folder == ran[0]
    (tmp_path / "others").mkdir()
    with pytest.raises(ValueError, match="expected a new one, or a project on others, received"):
        thaw.fit("others", folder=run.folder)
    run = thaw.fit("s3://bucket/flowers.csv")
    thaw.fit("s3://bucket/flowers.csv", phase2={"epochs": 9})
    assert run.folder == tmp_path / "flowers-thaw"
    assert yaml.safe_load((run.folder / paths.PARAMS).read_text(encoding="utf-8"))["data"]["raw"].startswith("s3://b")
    with pytest.raises(ValueError, match=r"received .* on those of s3://bucket"):
        thaw.fit("others", folder=run.folder)


def test_home_is_expanded_the_first_time_and_the_second(
    tmp_path: Path, tiny_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline_run, "reproduce", lambda folder, **_: None)
    runs = [thaw.fit("~/data/raw", folder="~/mine") for _ in range(2)]
    assert [run.folder for run in runs] == [tmp_path / "mine"] * 2
    params = yaml.safe_load((tmp_path / "mine" / paths.PARAMS).read_text(encoding="utf-8"))
    assert params["data"]["raw"] == tiny_images.as_posix()
    tiny.write(tmp_path / "mine" / paths.EXPORTED / paths.ONNX_FILE)
    assert thaw.load("~/mine").labels == tiny.CLASSES
    assert len(thaw.load("~/mine").predict("~/data/raw/class_0/00.png")) == 1
    with pytest.raises(ValueError, match=r"found nothing at .*~nobody-of-that-name"):
        thaw.fit("~nobody-of-that-name/flowers")


def test_a_run_has_figures_and_a_report_for_notebooks(tmp_path: Path, project: Path) -> None:
    figures = {"accuracy": 0.5, "accuracy_low": 0.25, "accuracy_high": 0.75, "images": 8}
    records.write_json(tmp_path / paths.metrics("evaluate"), {"phase1": figures, "phase2": figures})
    records.write_text(tmp_path / paths.REPORT, '<p class="a">1 &amp; 2</p>')
    run = thaw.Run(tmp_path)
    assert run.evaluate()["phase2"]["accuracy"] == 0.5
    assert str(run.report) == str(tmp_path / paths.REPORT)
    assert 'srcdoc="<p class=&quot;a&quot;>1 &amp;amp; 2</p>"' in run.report._repr_html_()
    assert list(thaw.Run(project).predict(RED)) == ["red"]


@pytest.fixture
def beside_flowers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the examples of docstrings run: beside a folder of green and of red images, and a new red one."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    made = make_images(tmp_path / "flowers", 2, 16)
    for number, colour in enumerate(("red", "green")):
        (made / f"class_{number}").rename(made / colour)
    (tmp_path / "new.png").write_bytes((made / "red" / "00.png").read_bytes())


def tried() -> tuple[int, int]:
    """How many examples of the docstrings of the API were tried, and how many failed."""
    runner = doctest.DocTestRunner()
    for module in (thaw, runs, overrides, predictor, estimator):
        for test in doctest.DocTestFinder().find(module):
            runner.run(test)
    return runner.tries, runner.failures


@pytest.mark.usefixtures("beside_flowers")
def test_the_examples_in_docstrings_say_what_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_run, "reproduce", tiny.leave)
    count, failed = tried()
    assert count >= 15 and failed == 0


@pytest.mark.slow
@pytest.mark.usefixtures("beside_flowers")
def test_the_examples_in_docstrings_hold_for_networks_that_are_trained() -> None:
    count, failed = tried()
    assert count >= 15 and failed == 0


@pytest.mark.slow
def test_three_lines_from_images_to_a_prediction(
    tmp_path: Path, tiny_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    run = thaw.fit(
        tiny_images, image="px64", phase1={"epochs": 2}, phase2={"epochs": 2, "unfreeze": "block_7a"}, folder="mine"
    )
    assert run.evaluate()["phase2"]["images"] > 0 and run.report.path.is_file()
    labels = run.predict(sorted(tiny_images.rglob("*.png"))[:3])
    assert labels.shape == (3,) and set(labels) <= {"class_0", "class_1", "class_2"}
    assert (run.export("keras") / paths.KERAS_FILE).is_file()
    assert not (run.folder / paths.EXPORTED / paths.SAVED_MODEL).exists()
    assert (run.folder / "mlflow.db").is_file()
