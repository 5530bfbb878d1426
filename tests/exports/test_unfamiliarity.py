"""The score of images unlike the training images: as evaluated in each format that holds it, and none where off."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from PIL import Image

from thaw import paths, records
from thaw.catalog import export_formats
from thaw.classifier import head, model
from thaw.config import schema
from thaw.evaluation import out_of_distribution
from thaw.exports import causes, formats, parity, unfamiliarity, write
from thaw.runtime.framework import keras

CLASSES = ["a", "b", "c"]
OPTIONS = schema.Export(list(schema.FORMATS), 1e-4, 1.0, 0.9, 16, 100, latency=False, model="phase2")
IMAGE = schema.Image(32, "squash", "bilinear", antialias=True)
SCORED = [name for name, form in export_formats.FORMATS.items() if form.scores]
CHANNELS = 300  # more than the axes that are kept, so that both parts of the score count


def pictures(count: int, seed: int, spread: float = 40.0) -> list[NDArray[np.uint8]]:
    chance = np.random.default_rng(seed)
    coarse = [chance.uniform(-spread, spread, (4, 5, 3)) + chance.uniform(60, 190, 3) for _ in range(count)]
    return [
        np.asarray(Image.fromarray(each.clip(0, 255).astype(np.uint8)).resize((50, 40), Image.Resampling.BILINEAR))
        for each in coarse
    ]


@pytest.fixture(scope="module")
def classifier() -> model.Classifier:
    keras.utils.set_random_seed(1)
    pixels = keras.Input((32, 32, 3), name="pixels")
    values = keras.layers.Rescaling(1 / 127.5, offset=-1, name="range")(pixels)
    values = keras.layers.Conv2D(8, 5, strides=3, activation="relu", name="first")(values)
    values = keras.layers.Conv2D(CHANNELS, 3, strides=2, activation="relu", name="second")(values)
    linear = schema.Head("avg", [], [], 0.0)
    card = model.Card(schema.Backbone("efficientnet_lite0", "random", "", "", ""), "", IMAGE, linear, CLASSES)
    return model.Classifier(keras.Model(pixels, values, name="tiny"), head.build(linear, CHANNELS, 3), card, {})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Images like those of training, and at the end foreign ones."""
    folder = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(5).integers(0, 256, (8, 40, 50, 3), dtype=np.uint8)
    every = [*pictures(60, 1), *noise]
    for number, each in enumerate(every):
        Image.fromarray(each).save(folder / f"{number:03}.png")
    return sorted(map(str, folder.iterdir()))


@pytest.fixture(scope="module")
def fitted(classifier: model.Classifier, tmp_path_factory: pytest.TempPathFactory) -> unfamiliarity.Unfamiliarity:
    """As `evaluate` fits and writes it, read as `export` reads it."""
    folder = tmp_path_factory.mktemp("fit")
    embed = causes.embedded(classifier)

    def embedded(given: list[NDArray[np.uint8]]) -> NDArray[np.float16]:
        names = [folder / f"{number}.png" for number in range(len(given))]
        for name, each in zip(names, given, strict=True):
            Image.fromarray(each).save(name)
        return embed([name.read_bytes() for name in names]).astype(np.float16)

    parameters = out_of_distribution.fit(embedded(pictures(240, 3)), np.arange(240) % 3)
    assert parameters["rest"] > 0 and len(parameters["axes"]) < CHANNELS
    held = out_of_distribution.score(embedded(pictures(100, 4)), parameters)
    least = out_of_distribution.threshold(held, 0.05)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert unfamiliarity.read("phase2") is None, "evaluate.unfamiliar=0"
        paths.EVALUATION.mkdir(parents=True)
        out_of_distribution.save(paths.UNFAMILIAR, {"phase2": parameters}, {"phase2": held})
        record = {"threshold": least, "share": 0.05}
        records.write_json(paths.CALIBRATION, {"phase": "phase2", "phase2": {"unfamiliar": record}})
        found = unfamiliarity.read("phase2")
        assert found is not None
        np.testing.assert_allclose(unfamiliarity.tested("phase2", found), held / least, rtol=1e-6)
        assert (unfamiliarity.tested("phase2", found) > 1).sum() in (4, 5)
        records.write_json(paths.CALIBRATION, {"phase2": {"unfamiliar": {"threshold": 0.0, "share": 0.05}}})
        assert unfamiliarity.read("phase2") is None, "a score of which none is a measure"
    return found


def write_all(
    folder: Path, classifier: model.Classifier, fitted: unfamiliarity.Unfamiliarity | None, *names: str
) -> None:
    write.write(folder, classifier, names, calibration=lambda: iter(pictures(30, 3)), unfamiliarity=fitted)


@pytest.fixture(scope="module")
def folder(
    classifier: model.Classifier, fitted: unfamiliarity.Unfamiliarity, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    made = tmp_path_factory.mktemp("export") / "export"
    write_all(made, classifier, fitted, *schema.FORMATS)
    return made


@pytest.fixture(scope="module")
def probes(classifier: model.Classifier, fitted: unfamiliarity.Unfamiliarity, files: list[str]) -> parity.Probes:
    contents = [Path(file).read_bytes() for file in files]
    expected = causes.evaluated(classifier, 1.0)(contents)
    scores = fitted.score(causes.embedded(classifier)(contents))
    return parity.Probes(files, expected, None, None, {}, scores)


def test_each_format_that_holds_it_gives_the_evaluated_score_and_the_gate_compares_it(
    folder: Path, probes: parity.Probes
) -> None:
    scores = probes.unfamiliarity
    assert scores is not None
    assert (scores[:60] > 1).mean() < 0.2 and scores[60:].min() > 2, "foreign ones must be, or all would be alike"
    for name in (paths.LITERT_FILE, paths.LITERT_FLOAT16_FILE):  # by whose place the guide's Kotlin and Swift ask
        outputs = Interpreter(model_path=str(folder / name)).get_output_details()
        assert [each["name"] for each in outputs] == ["probabilities", "unfamiliarity"]
    found = parity.check(folder, probes, CLASSES, OPTIONS)
    for name, form in formats.FORMATS.items():
        for way in form.ways(name):
            if form.about.scores:
                assert found[way]["unfamiliarity_difference"] < (1e-4 if form.about.exact else 0.01)
            else:
                assert "unfamiliarity_difference" not in found[way]


def test_a_file_says_what_is_1_in_it_and_one_without_the_score_loads_as_before(
    folder: Path, classifier: model.Classifier, fitted: unfamiliarity.Unfamiliarity, files: list[str], tmp_path: Path
) -> None:
    assert records.read_json(folder / paths.LABELS)["unfamiliar"] == {"threshold": fitted.threshold, "share": 0.05}
    write_all(tmp_path / "off", classifier, None, "onnx", "litert", "saved_model")
    assert "unfamiliar" not in records.read_json(tmp_path / "off" / paths.LABELS)
    data = [Path(files[0]).read_bytes(), Path(files[-1]).read_bytes()]
    for name in ("onnx", "litert", "saved_model"):
        on, off = formats.load(folder, name), formats.load(tmp_path / "off", name)
        assert on.scores and not off.scores
        assert [each.unfamiliarity for each in off.say(data)] == [None, None]
        np.testing.assert_allclose(on.answer(data), off.answer(data), atol=1e-6)
    for name in set(formats.FORMATS) - set(SCORED):
        loaded = formats.load(folder, name)
        assert not loaded.scores and "unfamiliar" not in loaded.about
        assert [each.unfamiliarity for each in loaded.say(data)] == [None, None]


@pytest.mark.parametrize("spread", [0.3, 0.01, 0.001])
def test_images_that_are_nearly_one_cost_the_score_and_not_the_export(
    spread: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compare scores of embeddings that are rounded to float16, as evaluated, with those that are not, as exported."""
    chance = np.random.default_rng(0)
    classes, ways = chance.gamma(0.5, 1, (3, 1280)), chance.normal(size=(10, 1280))

    def draw(count: int) -> NDArray[np.float64]:
        along = chance.normal(size=(count, 10)) @ ways / 10**0.5 + 0.02 * chance.random((count, 1280))
        return np.maximum(classes[np.arange(count) % 3] * (1 + spread * along), 0)

    parameters = out_of_distribution.fit(draw(60).astype(np.float16), np.arange(60) % 3)
    least = out_of_distribution.threshold(out_of_distribution.score(draw(30).astype(np.float16), parameters), 0.05)
    monkeypatch.chdir(tmp_path)
    paths.EVALUATION.mkdir(parents=True)
    out_of_distribution.save(paths.UNFAMILIAR, {"phase2": parameters})
    records.write_json(paths.CALIBRATION, {"phase2": {"unfamiliar": {"threshold": least, "share": 0.05}}})
    read, tested = unfamiliarity.read("phase2"), draw(100)
    fitted = unfamiliarity.Unfamiliarity(parameters, least, 0.05)
    assert (read is None) == (spread < 0.01) and (fitted.rounding < 1e-4) == (spread > 0.1)
    expected, received = fitted.score(tested.astype(np.float16)), fitted.score(tested.astype(np.float32))
    names = [str(number) for number in range(100)]
    if read:
        unfamiliarity.compared("onnx", expected, received, unfamiliarity.TOLERANCE + read.rounding, names)
    if spread < 0.1:
        with pytest.raises(ValueError, match="expected the evaluated scores"):
            unfamiliarity.compared("onnx", expected, received, unfamiliarity.TOLERANCE, names)


def test_the_axes_are_in_each_file_once(folder: Path, classifier: model.Classifier, tmp_path: Path) -> None:
    axes = CHANNELS * out_of_distribution.AXES
    content = onnx.load(folder / paths.ONNX_FILE)
    sizes = [int(np.prod(part.dims)) for part in content.graph.initializer]
    assert sizes.count(axes) == 1
    write_all(tmp_path / "off", classifier, None, "litert", "litert_float16")
    for file, bits in ((paths.LITERT_FILE, 32), (paths.LITERT_FLOAT16_FILE, 16)):
        more = (folder / file).stat().st_size - (tmp_path / "off" / file).stat().st_size
        assert 1 < more / (axes * bits // 8) < 1.3


@pytest.mark.parametrize("name", ["onnx", "litert_float16"])
def test_a_score_that_is_another_is_refused(
    name: str, folder: Path, classifier: model.Classifier, fitted: unfamiliarity.Unfamiliarity,
    probes: parity.Probes, tmp_path: Path,
) -> None:  # fmt: skip
    write_all(tmp_path, classifier, replace(fitted, threshold=4 * fitted.threshold), name)
    with pytest.raises(ValueError, match=rf"^the exported model \({name}\): expected .* evaluated") as error:
        parity.check(tmp_path, probes, CLASSES, OPTIONS)
    assert "evaluate.unfamiliar=0" in str(error.value) and "\n" not in str(error.value)
    write_all(tmp_path, classifier, None, name)
    with pytest.raises(ValueError, match="expected a score of unlike images for each, received none"):
        parity.check(tmp_path, probes, CLASSES, OPTIONS)


REPEAT = """\
import numpy as np, runpy, sys
from pathlib import Path
from thaw.exports import unfamiliarity
tests = runpy.run_path(sys.argv[1])
with np.load(sys.argv[2]) as kept:
    parameters = dict(kept)
fitted = unfamiliarity.Unfamiliarity(parameters, float(sys.argv[3]), 0.05)
build = tests["classifier"].__wrapped__
tests["write_all"](Path(sys.argv[4]), build(), fitted, "onnx", "litert", "onnx_int8", "litert_int8", "saved_model")
"""


@pytest.mark.slow
def test_equal_models_with_a_score_are_equal_files_in_each_process(
    fitted: unfamiliarity.Unfamiliarity, tmp_path: Path
) -> None:
    np.savez(tmp_path / "fitted.npz", allow_pickle=False, **fitted.parameters)
    for out in ("one", "two"):
        words = [str(Path(__file__)), str(tmp_path / "fitted.npz"), repr(fitted.threshold), str(tmp_path / out)]
        done = subprocess.run(
            [sys.executable, "-c", REPEAT, *words], cwd=Path(__file__).parents[2], capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "one" / paths.HASHES).read_bytes() == (tmp_path / "two" / paths.HASHES).read_bytes()
