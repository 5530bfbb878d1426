"""ONNX and LiteRT files: asked without TensorFlow, known by their metadata, and the same bytes twice."""

import json
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

from thaw import paths, records
from thaw.classifier import head, model
from thaw.config import schema
from thaw.exports import causes, flatbuffer, formats, hashes, latency, litert_file, onnx_file, write
from thaw.exports.exported import ForeignError
from thaw.images import header
from thaw.images.integrity import Unusable
from thaw.runtime.framework import keras, numbered_from_the_start

HERE = Path.cwd()
ROOT = Path(__file__).resolve().parents[2]
CLASSES = ["Häschen, klein", "dog", "猫"]
PORTABLE = [name for name, form in formats.FORMATS.items() if form.about.runtime != "tensorflow"]
SQUARE = schema.Image(32, "pad", "bicubic", antialias=True)
TEMPERATURE = 1.7
PROVENANCE = {"thaw": "1", "weights": "ab", "data": "cd"}


def build() -> model.Classifier:
    """A classifier with a residual block and BatchNorm, whose weights are the same each time."""
    keras.utils.set_random_seed(0)
    with numbered_from_the_start():
        pixels = keras.Input((32, 32, 3), name="pixels")
        values = keras.layers.Rescaling(1 / 127.5, offset=-1)(pixels)
        values = keras.layers.Conv2D(8, 3, strides=2)(values)
        for _ in range(2):
            branch = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)(values)
            branch = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(branch))
            values = keras.layers.Add()([values, keras.layers.Conv2D(8, 1)(branch)])
        backbone = keras.Model(pixels, values, name="tiny")
    linear = schema.Head("avg", [4], [0.5], 0.0)
    card = model.Card(schema.Backbone("efficientnet_lite0", "random", "", "", ""), "", SQUARE, linear, CLASSES)
    return model.Classifier(backbone, head.build(linear, 8, 3), card, {})


def calibration() -> Iterator[np.ndarray]:
    assert Path.cwd() == HERE, "the paths of images are relative to the project"
    random = np.random.default_rng(1)
    for side in range(30, 46):
        yield random.integers(0, 256, (side, 40, 3), dtype=np.uint8)


def export(folder: Path, names: list[str]) -> None:
    """Also called by another process."""
    options = {"temperature": TEMPERATURE, "provenance": PROVENANCE, "calibration": calibration}
    write.write(folder, build(), names, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "new"
    export(path, ["keras", *PORTABLE])
    return path


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A picture as it lies, one on its side, one of grey and one of a single pixel."""
    made, random = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    exif = Image.Exif()
    exif[header.ORIENTATION] = 6
    pixels = Image.fromarray(random.integers(0, 256, (50, 80, 3), dtype=np.uint8))
    pixels.save(made / "plain.png")
    pixels.save(made / "turned.jpg", exif=exif, quality=95)
    pixels.convert("L").save(made / "grey.png")
    pixels.resize((1, 1)).save(made / "pixel.png")
    return sorted(made.iterdir())


# What a user of the files has: a runtime, NumPy and Pillow; neither this project nor TensorFlow.
ELSEWHERE = """\
import json, sys
for name in ("thaw", "tensorflow", "keras", "onnx", "tf2onnx"):
    sys.modules[name] = None  # so that importing it fails
import numpy as np
from PIL import Image
pixels = np.asarray(Image.open(sys.argv[2]).convert("RGB"))[None]
if sys.argv[1].endswith(".onnx"):
    import onnxruntime
    session = onnxruntime.InferenceSession(sys.argv[1])
    rows, labels = session.run(["probabilities", "label"], {"images": np.repeat(pixels, 3, axis=0)})
    assert rows.shape[0] == 3 and len(set(labels)) == 1, labels
    print(json.dumps([rows[2].tolist(), labels[2]]))
else:
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(sys.argv[1])
    (given,), (out,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(given["index"], pixels.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], pixels)
    interpreter.invoke()
    row = interpreter.get_tensor(out["index"])[0]
    print(json.dumps([row.tolist(), json.loads(sys.argv[3])[row.argmax()]]))
"""


@pytest.mark.parametrize("name", PORTABLE)
def test_a_file_needs_only_its_runtime(name: str, folder: Path, photographs: list[Path], tmp_path: Path) -> None:
    file = tmp_path / formats.FORMATS[name].about.file
    file.write_bytes((folder / file.name).read_bytes())
    plain = next(path for path in photographs if path.name == "plain.png")
    command = [sys.executable, "-I", "-X", "utf8", "-c", ELSEWHERE, str(file), str(plain), json.dumps(CLASSES)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    row, label = json.loads(done.stdout)
    (expected,) = causes.evaluated(build(), TEMPERATURE)([plain.read_bytes()])
    near = 1e-5 if formats.FORMATS[name].about.exact else 0.1
    np.testing.assert_allclose(row, expected, atol=near)
    assert label == CLASSES[int(np.argmax(row))]


@pytest.mark.parametrize("name", ["onnx", "litert", "keras"])
def test_files_are_decoded_as_training_decoded_them(name: str, folder: Path, photographs: list[Path]) -> None:
    loaded = formats.load(folder, name)
    assert loaded.classes == CLASSES
    files = [path.read_bytes() for path in photographs]
    expected = causes.evaluated(build(), TEMPERATURE)(files)
    assert np.ptp(expected, axis=0).max() > 1e-3, "the pictures must differ, or this test could not fail"
    np.testing.assert_allclose(loaded.answer(files * 8), np.concatenate([expected] * 8), atol=1e-5)
    if loaded.decode and loaded.run:
        pixels = loaded.decode(files[-1])
        assert pixels.shape == (80, 50, 3), "turned upright"
        for answer in loaded.run(np.stack([pixels, pixels])):
            np.testing.assert_allclose(answer.probabilities, expected[-1], atol=1e-5)
            assert answer.label == (CLASSES[expected[-1].argmax()] if name == "onnx" else "")
            assert answer.unfamiliarity is None, "evaluate.unfamiliar=0"
        with pytest.raises(Unusable):
            loaded.decode(b"no image")


@pytest.mark.parametrize("name", PORTABLE)
def test_a_file_says_what_it_is(name: str, folder: Path) -> None:
    about = formats.load(folder, name).about
    beside = records.read_json(folder / paths.LABELS)
    assert about == beside | {"format": name}
    assert about["classes"] == CLASSES
    assert about["image"] == {"size": 32, "fit": "pad", "interpolation": "bicubic", "antialias": True}
    assert about["pixels"] == "lite"
    assert about["temperature"] == TEMPERATURE and about["provenance"] == PROVENANCE
    assert about["limits"] == {"max_pixels": 89478485, "max_bytes": 512 * 2**20}


def test_onnx_has_the_interface_that_is_documented(folder: Path) -> None:
    for name in (paths.ONNX_FILE, paths.ONNX_INT8_FILE):
        content = onnx.load(folder / name)
        onnx.checker.check_model(content, full_check=True)
        assert [(each.domain, each.version) for each in content.opset_import] == [("", 17)]
        assert content.ir_version == 8
        session = onnxruntime.InferenceSession(folder / name)
        given, out = session.get_inputs(), session.get_outputs()
        assert [(each.name, each.type, each.shape) for each in given] == [
            ("images", "tensor(uint8)", ["batch", "height", "width", 3])
        ]
        assert [(each.name, each.type, each.shape) for each in out] == [
            ("probabilities", "tensor(float)", ["batch", 3]),
            ("label", "tensor(string)", ["batch"]),
        ]


def test_litert_has_builtin_operations_alone_and_aligned_weights(folder: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema_  # noqa: PLC0415

    for name in (paths.LITERT_FILE, paths.LITERT_INT8_FILE, paths.LITERT_FLOAT16_FILE):
        content = (folder / name).read_bytes()
        (given,), (out,) = (
            Interpreter(model_content=content).get_input_details(),
            Interpreter(model_content=content).get_output_details(),
        )
        assert (given["name"], given["dtype"], list(given["shape_signature"])) == ("images", np.uint8, [1, -1, -1, 3])
        assert (out["name"], out["dtype"], list(out["shape"])) == ("probabilities", np.float32, [1, 3])
        flat = schema_.Model.GetRootAs(content, 0)
        assert {flat.OperatorCodes(n).CustomCode() for n in range(flat.OperatorCodesLength())} == {None}
        for number in range(flat.BuffersLength()):
            buffer = flat.Buffers(number)
            if not buffer.DataIsNone():
                weights = buffer.DataAsNumpy()
                assert (weights.ctypes.data - np.frombuffer(content, np.uint8).ctypes.data) % flatbuffer.ALIGNED == 0


def test_only_the_network_is_in_int8(folder: Path) -> None:
    content = onnx.load(folder / paths.ONNX_INT8_FILE)
    maker = {output: node for node in content.graph.node for output in node.output}
    softmax = next(node for node in content.graph.node if node.op_type == "Softmax")
    assert maker[softmax.input[0]].op_type in ("DequantizeLinear", "Add", "Gemm", "Div", "Mul")
    first = content.graph.node[[node.op_type for node in content.graph.node].index("QuantizeLinear")]
    before = content.graph.node[: list(content.graph.node).index(first)]
    products = [node for node in before if node.op_type == "MatMul"]
    assert len(products) == 2, "the resize, in float32, before anything is rounded"


def test_the_ranges_of_litert_int8_hold_each_calibration_image_in_whatever_order(tmp_path: Path) -> None:
    """A bright image among dark ones, which a moving average would cut off, the more the later it comes."""
    random = np.random.default_rng(2)
    dark = [random.integers(0, 40, (32, 32, 3), dtype=np.uint8) for _ in range(12)]
    bright = random.integers(200, 256, (32, 32, 3), dtype=np.uint8)
    of, said = build(), []
    for name, images in (("last", [*dark, bright]), ("first", [bright, *dark])):
        write.write(tmp_path / name, of, ["litert_int8"], calibration=lambda images=images: iter(images))  # type: ignore[misc]
        said.append((tmp_path / name / paths.LITERT_INT8_FILE).read_bytes())
    assert said[0] == said[1]
    write.write(tmp_path / "float", of, ["litert"])
    run, exact = formats.load(tmp_path / "last").run, formats.load(tmp_path / "float").run
    assert run is not None and exact is not None
    for picture in (dark[0], bright):
        (rounded,), (expected,) = run(picture[None]), exact(picture[None])
        np.testing.assert_allclose(rounded.probabilities, expected.probabilities, atol=0.02)


REPEAT = """\
import runpy, sys
from pathlib import Path
runpy.run_path(sys.argv[1])["export"](Path(sys.argv[2]), sys.argv[3:])
"""


def test_equal_models_are_equal_files_in_each_process(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", REPEAT, str(Path(__file__)), str(tmp_path / "again"), *PORTABLE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", ""), "converters talk"
    for name in PORTABLE:
        file = formats.FORMATS[name].about.file
        assert (tmp_path / "again" / file).read_bytes() == (folder / file).read_bytes(), name


WITHOUT = """\
import sys
from pathlib import Path
from thaw.exports import formats
loaded = formats.load(Path(sys.argv[1]), sys.argv[2])
loaded.answer([Path(sys.argv[3]).read_bytes()])
heavy = "tensorflow keras onnx tf2onnx mlflow hydra omegaconf yaml scipy ai_edge_quantizer".split()
print(sorted(set(heavy) & set(sys.modules)))
"""


@pytest.mark.parametrize("name", ["onnx", "litert"])
def test_asking_loads_nothing_that_takes_seconds_and_says_nothing(
    name: str, folder: Path, photographs: list[Path]
) -> None:
    command = [sys.executable, "-c", WITHOUT, str(folder), name, str(photographs[0])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_the_fast_exact_format_is_asked_where_several_are_there(folder: Path, tmp_path: Path) -> None:
    assert set(formats.PREFERRED) == set(formats.FORMATS)
    assert formats.load(folder).about["format"] == "onnx"
    for name, file in (("litert", paths.LITERT_FILE), ("onnx_int8", paths.ONNX_INT8_FILE)):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
        assert formats.load(tmp_path / file).about["format"] == name
    assert formats.load(tmp_path).about["format"] == "litert"
    with pytest.raises(ValueError, match=r"expected a format of keras, .* received 'tensorrt'"):
        formats.load(folder, "tensorrt")
    with pytest.raises(ValueError, match=r"expected format onnx \(model\.onnx\), found litert, onnx_int8; ask for"):
        formats.load(tmp_path, "onnx")


# Nothing dangerous loads


@pytest.mark.parametrize("name", ["keras", *PORTABLE])
def test_a_model_with_another_hash_than_was_recorded_is_refused(name: str, folder: Path, tmp_path: Path) -> None:
    file = formats.FORMATS[name].about.file
    content = (folder / file).read_bytes()
    (tmp_path / file).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (tmp_path / paths.HASHES).write_bytes((folder / paths.HASHES).read_bytes())
    with pytest.raises(ValueError, match=r"expected the model that was exported \(sha256 .* received another one"):
        formats.load(tmp_path, name)
    (tmp_path / file).write_bytes(content)
    assert formats.load(tmp_path, name).classes == CLASSES


def test_a_folder_is_known_by_all_that_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "export/saved_model/variables").mkdir(parents=True)
    inside = tmp_path / "export/saved_model/variables/variables.index"
    inside.write_bytes(b"1")
    hashes.write(tmp_path / "export")
    hashes.check(tmp_path / "export/saved_model")
    inside.write_bytes(b"2")
    with pytest.raises(ValueError, match="another one"):
        hashes.check(tmp_path / "export/saved_model")


def test_a_model_that_is_larger_than_any_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "MAX_BYTES", 10)
    (tmp_path / paths.ONNX_FILE).write_bytes(bytes(11))
    with pytest.raises(ValueError, match="expected a model of at most 10 bytes, received 11"):
        formats.load(tmp_path)


def test_what_thaw_did_not_export_is_not_taken_for_it(folder: Path, tmp_path: Path) -> None:
    content = onnx.load(folder / paths.ONNX_FILE)
    del content.metadata_props[:]
    (tmp_path / "foreign.onnx").write_bytes(content.SerializeToString())
    with pytest.raises(ForeignError, match=r"foreign.onnx: expected metadata `thaw` in the file, found none"):
        formats.load(tmp_path / "foreign.onnx")
    for file in (paths.ONNX_FILE, paths.LITERT_FILE):
        cut = (folder / file).read_bytes()[:1000]
        (tmp_path / file).write_bytes(cut)
        with pytest.raises(ValueError, match="damaged"):
            formats.load(tmp_path / file)


def test_weights_in_other_files_are_not_read(folder: Path, tmp_path: Path) -> None:
    """The file says of a tensor that it lies elsewhere, by a path of its own choice."""
    content = onnx.load(folder / paths.ONNX_FILE)
    part = next(part for part in content.graph.initializer if len(part.raw_data) > 16)
    (tmp_path / "secret").write_bytes(part.raw_data)
    part.ClearField("raw_data")
    part.data_location = onnx.TensorProto.EXTERNAL
    part.external_data.add(key="location", value="secret")
    (tmp_path / paths.ONNX_FILE).write_bytes(content.SerializeToString())
    with pytest.raises(ForeignError, match="expected all weights in the file"):
        onnx_file.load(tmp_path / paths.ONNX_FILE)


def test_code_in_a_keras_file_is_not_run(folder: Path, tmp_path: Path) -> None:
    pixels = keras.Input((None, None, 3), dtype="uint8")
    keras.Model(pixels, keras.layers.Lambda(lambda tensor: tensor)(pixels)).save(tmp_path / paths.KERAS_FILE)
    with (
        zipfile.ZipFile(folder / paths.KERAS_FILE) as whole,
        zipfile.ZipFile(tmp_path / paths.KERAS_FILE, "a") as file,
    ):
        file.writestr(paths.LABELS, whole.read(paths.LABELS))
    with pytest.raises(ValueError, match=r"expected a whole exported model|expected a model of Keras's own layers"):
        formats.load(tmp_path / paths.KERAS_FILE)


def test_keras_unpacks_a_file_to_a_folder_that_goes_and_nothing_in_it_leads_out_of_that(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does so where a zip has more than three parts, as those have in which labels.json is."""
    scratch = tmp_path / "temporary" / "deep"
    unpacked: set[str] = set()
    scratch.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    extractall = zipfile.ZipFile.extractall

    def watched(self: zipfile.ZipFile, *words: Any, **options: Any) -> None:
        extractall(self, *words, **options)
        unpacked.update(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())

    monkeypatch.setattr(zipfile.ZipFile, "extractall", watched)
    file = tmp_path / paths.KERAS_FILE
    file.write_bytes((folder / paths.KERAS_FILE).read_bytes())
    leading_out = ("../out", "../../out", "assets/../../../out", f"{tmp_path}/out")
    with zipfile.ZipFile(file, "a") as archive:
        for name in ("assets/within", *leading_out):
            archive.writestr(name, b"")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert formats.load(file).classes == CLASSES
    skipped = [str(each.message) for each in said if "Skipping invalid path" in str(each.message)]
    assert len(skipped) == len(leading_out)
    assert {name.rpartition("/")[2] for name in unpacked} > {paths.LABELS, "within"} and "out" not in unpacked
    assert all(name == file.name or name.startswith("temporary/deep/") for name in unpacked), unpacked
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", file.name, "temporary"]


def test_metadata_is_read_without_flatbuffers_and_of_no_other_file(folder: Path) -> None:
    content = (folder / paths.LITERT_FILE).read_bytes()
    said = flatbuffer.metadata(content)
    assert said is not None and json.loads(said)["format"] == "litert"
    nameless = content.replace(b"\x04\0\0\0thaw\0", b"\x04\0\0\0more\0")
    assert nameless != content and flatbuffer.metadata(nameless) is None


def test_interpreters_are_shared_by_threads_and_dropped_where_they_fail(folder: Path) -> None:
    run = litert_file.Interpreters((folder / paths.LITERT_FILE).read_bytes())
    assert run.idle.qsize() == 1
    with pytest.raises(ValueError, match="type"):
        run.answer(np.zeros((1, 4, 4, 3), np.float32))
    assert run.idle.qsize() == 0
    found = run.answer(np.zeros((2, 4, 4, 3), np.uint8))
    assert [each.probabilities.shape for each in found] == [(3,)] * 2 and run.idle.qsize() == 1


def test_what_a_format_costs_is_measured_in_a_process_of_its_own(folder: Path, photographs: list[Path]) -> None:
    cost = latency.measure(folder, "litert", list(map(str, photographs)))
    assert cost.bytes == (folder / paths.LITERT_FILE).stat().st_size
    assert 0 < cost.p50 <= cost.p95 < 1000 * cost.cold_start
    assert cost.throughput > 1
    assert 0 < cost.processor < 1000 and 0 < cost.processor_start < 60
    assert 20e6 < cost.memory < 500e6, "a runtime and a small model, and not this process with TensorFlow"
    assert latency.table({"litert": cost})["litert"]["p95"] == cost.p95
    with pytest.raises(ValueError, match="expected format saved_model to answer"):
        latency.measure(folder, "saved_model", list(map(str, photographs)))
