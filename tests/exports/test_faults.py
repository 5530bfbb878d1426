"""Planted faults: each is what deployed classifiers really get wrong, and all are caught."""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated
from onnx import numpy_helper
from PIL import Image

from thaw import paths as project_paths
from thaw.catalog import pixel_ranges
from thaw.classifier import head, model
from thaw.config import schema
from thaw.exports import causes, formats, gate, odd_photos, parity, write
from thaw.exports import resize as resizes
from thaw.exports.exported import Deployed
from thaw.images import decoding, header, preprocessing
from thaw.runtime.framework import keras, tf

CLASSES = ["a", "b", "c"]
OPTIONS = schema.Export(list(schema.FORMATS), 1e-4, 1.0, 0.9, 16, 100, latency=False, model="phase2")
IMAGES = 48


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Pictures of one colour each, with structures; as JPEG files, some of which lie on their side."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number in range(IMAGES):
        colour, size = random.uniform(0, 255, 3), (40 + number, 90 - number)
        coarse = random.uniform(-60, 60, (4, 5, 3))
        pixels = Image.fromarray(np.clip(colour + coarse, 0, 255).astype(np.uint8)).resize(size[::-1])
        exif = Image.Exif()
        exif[header.ORIENTATION] = 6 if number % 3 == 0 else 1
        pixels.save(folder / f"{number:02}.jpg", quality=95, exif=exif)
    return sorted(map(str, folder.iterdir()))


@pytest.fixture(scope="module")
def classifier(files: list[str]) -> model.Classifier:
    """A network in whose answers colour, contrast and place count, so that no fault stays unseen."""
    keras.utils.set_random_seed(3)
    image, linear = schema.Image(32, "squash", "bilinear", antialias=True), schema.Head("avg", [], [], 0.0)
    pixels = keras.Input((32, 32, 3), name="pixels")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1, name="range")(pixels)
    features = keras.layers.Conv2D(16, 5, strides=3, activation="relu", name="first")(scaled)
    features = keras.layers.Conv2D(32, 3, strides=2, activation="relu", name="second")(features)
    backbone = keras.Model(pixels, features, name="tiny")
    card = model.Card(schema.Backbone("efficientnet_lite0", "random", "", "", ""), "", image, linear, CLASSES)
    made = model.Classifier(backbone, head.build(linear, 32, 3), card, {})
    logits = made.head.get_layer("logits")
    logits.kernel.assign(logits.kernel * 12)
    load = preprocessing.load(image)
    said = model.whole(made)(tf.stack([load(tf.io.read_file(file)) for file in files]))
    logits.bias.assign(-tf.reduce_mean(said, axis=0))  # so that each class is answered
    return made


@pytest.fixture(scope="module")
def probes(classifier: model.Classifier, files: list[str]) -> parity.Probes:
    answer = causes.evaluated(classifier, 1.0)
    expected = answer([Path(file).read_bytes() for file in files])
    assert set(expected.argmax(axis=1)) == {0, 1, 2}, "each class must be answered, or labels could change unseen"
    photos = odd_photos.photos(decoding.USUAL)
    odd = {name: (data, row) for (name, data), row in zip(photos.items(), answer(list(photos.values())), strict=True)}
    return parity.Probes(files, expected, expected.argmax(axis=1), None, odd)


def exported(folder: Path, classifier: model.Classifier, files: list[str], *names: str) -> Deployed:
    def pictures() -> Iterator[np.ndarray]:
        for file in files:
            yield np.asarray(opened(file))

    return write.write(folder, classifier, names, calibration=pictures)


def opened(file: str) -> Image.Image:
    return Image.open(io.BytesIO(Path(file).read_bytes()))


def refusal(folder: Path, probes: parity.Probes, deployed: Deployed) -> str:
    with pytest.raises(ValueError, match=r"^the exported model \(") as error:
        parity.check(folder, probes, CLASSES, OPTIONS, gate.explain(deployed))
    assert "\n" not in str(error.value)
    return str(error.value)


def named_causes(said: str) -> list[str]:
    """Several where answers that are all 0 or 1 don't tell the ranges apart."""
    return said.rpartition("likely cause: ")[2].split(" or ")


def test_what_is_right_passes_in_every_format(
    classifier: model.Classifier, files: list[str], probes: parity.Probes, tmp_path: Path
) -> None:
    names = [name for name in formats.FORMATS if formats.FORMATS[name].about.runtime != "tensorflow"]
    exported(tmp_path, classifier, files, *names)
    found = parity.check(tmp_path, probes, CLASSES, OPTIONS)
    assert list(found) == names
    for name, figures in found.items():
        if formats.FORMATS[name].about.exact:
            assert figures.keys() == {"largest_difference"} and figures["largest_difference"] < 2e-5
        else:
            assert figures["agreement_low"] <= figures["agreement"] <= figures["agreement_high"]
            assert figures["agreement"] == figures["accuracy"] >= 0.9, "the labels are the evaluated answers"
            assert figures["accuracy_change_low"] <= figures["accuracy_change"] <= figures["accuracy_change_high"]
    assert found["litert_float16"]["largest_difference"] < found["litert_int8"]["largest_difference"]


def _without_antialiasing(images: tf.Tensor, image: schema.Image) -> tf.Tensor:
    return FITTED(images, replace(image, antialias=False))


def _cropped(images: tf.Tensor, image: schema.Image) -> tf.Tensor:
    return FITTED(images, replace(image, fit="crop"))


def _exchanged(images: tf.Tensor, image: schema.Image) -> tf.Tensor:
    return tf.reverse(FITTED(images, image), [-1])


def _out_of_range(images: tf.Tensor, image: schema.Image) -> tf.Tensor:
    """Undoes what the network's first layer does, so that it gets plain pixels."""
    return (FITTED(images, image) + 1) * 127.5


def _rounded(images: tf.Tensor, image: schema.Image) -> tf.Tensor:
    return tf.round(FITTED(images, image))


FITTED = resizes.fitted


@pytest.mark.parametrize(
    ("name", "fault", "cause"),
    [
        ("litert", _without_antialiasing, "resize, as by squash, bilinear, without antialiasing"),
        ("onnx", _cropped, "resize, as by crop, bilinear, with antialiasing"),
        ("onnx", _exchanged, "channels, red and blue exchanged"),
        ("onnx", _out_of_range, "range, -1..1 forgotten"),
        ("litert", _rounded, "rounding, of the fitted pixels to whole numbers"),
    ],
)
def test_pixels_that_are_prepared_otherwise_are_caught_and_named(
    name: str,
    fault: Callable[[tf.Tensor, schema.Image], tf.Tensor],
    cause: str,
    classifier: model.Classifier,
    files: list[str],
    probes: parity.Probes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(resizes, "fitted", fault)
        deployed = exported(tmp_path, classifier, files, name)
    said = refusal(tmp_path, probes, deployed)
    assert said.startswith(f"the exported model ({name}) differs from the evaluated one by ")
    assert cause in named_causes(said)


def test_a_photo_that_is_not_turned_upright_is_caught_and_named(
    classifier: model.Classifier, files: list[str], probes: parity.Probes, tmp_path: Path
) -> None:
    deployed = exported(tmp_path, classifier, files, "onnx")
    run = formats.load(tmp_path).run
    assert run is not None
    turned = [Path(file).read_bytes() for file in files if opened(file).getexif().get(header.ORIENTATION) == 6]
    lying = np.stack([run(np.asarray(Image.open(io.BytesIO(data)))[None])[0].probabilities for data in turned])
    assert gate.explain(deployed)(turned, lying, True) == "EXIF orientation ignored"
    # The gate has such photographs, though no test image lies on its side.
    upright = [n for n, file in enumerate(files) if opened(file).getexif().get(header.ORIENTATION) == 1]
    odd = dict(probes.odd)
    data, _ = odd["EXIF orientation 6"]
    odd["EXIF orientation 6"] = (data, run(np.asarray(Image.open(io.BytesIO(data)))[None])[0].probabilities)
    few = parity.Probes([files[n] for n in upright], probes.expected[upright], None, None, odd)
    with pytest.raises(ValueError, match=r"\(onnx\) differs .* in a probability of EXIF orientation 6, "):
        parity.check(tmp_path, few, CLASSES, OPTIONS)


@pytest.mark.parametrize(("order", "cause"), [([2, 0, 1], "off by one (+1)"), ([1, 0, 2], "in another order")])
def test_probabilities_in_another_order_are_caught_and_named(
    order: list[int],
    cause: str,
    classifier: model.Classifier,
    files: list[str],
    probes: parity.Probes,
    tmp_path: Path,
) -> None:
    logits = classifier.head.get_layer("logits")
    kept = [logits.kernel.numpy(), logits.bias.numpy()]
    logits.kernel.assign(kept[0][:, order])
    logits.bias.assign(kept[1][order])
    try:
        exported(tmp_path, classifier, files, "litert")
    finally:
        logits.kernel.assign(kept[0])
        logits.bias.assign(kept[1])
    deployed = exported(tmp_path / "other", classifier, files, "onnx")
    assert refusal(tmp_path, probes, deployed).endswith(f"likely cause: labels, {cause}")


def _changed(path: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    content = onnx.load(path)
    change(content)
    path.write_bytes(content.SerializeToString())
    (path.parent / project_paths.HASHES).unlink(missing_ok=True)


def test_the_label_output_and_the_labels_in_the_file_are_compared_too(
    classifier: model.Classifier, files: list[str], probes: parity.Probes, tmp_path: Path
) -> None:
    exported(tmp_path, classifier, files, "onnx")
    path = tmp_path / project_paths.ONNX_FILE
    whole = path.read_bytes()

    def shuffle_output(content: onnx.ModelProto) -> None:
        (names,) = (part for part in content.graph.initializer if part.data_type == onnx.TensorProto.STRING)
        names.string_data[:] = [b"b", b"a", b"c"]

    _changed(path, shuffle_output)
    with pytest.raises(ValueError, match=r"\(onnx\) gives \d+ of 60 images another label than its probabilities say"):
        parity.check(tmp_path, probes, CLASSES, OPTIONS)

    def shuffle_metadata(content: onnx.ModelProto) -> None:
        (entry,) = content.metadata_props
        entry.value = entry.value.replace('["a", "b", "c"]', '["b", "c", "a"]')

    path.write_bytes(whole)
    _changed(path, shuffle_metadata)
    with pytest.raises(ValueError, match=r"^metadata of model.onnx of the exported model: expected class 0 to be a, "):
        parity.check(tmp_path, probes, CLASSES, OPTIONS)


def test_int8_with_a_wrong_scale_is_caught(
    classifier: model.Classifier, files: list[str], probes: parity.Probes, tmp_path: Path
) -> None:
    deployed = exported(tmp_path, classifier, files, "onnx_int8")

    def widen(content: onnx.ModelProto) -> None:
        """Sets the scale of the first activations to a 40th, so that nearly all of them are cut off."""
        scale = next(node.input[1] for node in content.graph.node if node.op_type == "QuantizeLinear")
        (part,) = (part for part in content.graph.initializer if part.name == scale)
        part.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(part) / 40, scale))

    _changed(tmp_path / project_paths.ONNX_INT8_FILE, widen)
    said = refusal(tmp_path, probes, deployed)
    assert said.startswith("the exported model (onnx_int8) gives ") and "export.agreement is 90%" in said
    assert said.endswith(f"likely cause: {parity.SCALE}")


def _behind(fault: Callable[[tf.Tensor], tf.Tensor], classifier: model.Classifier) -> model.Classifier:
    """The classifier, whose network gets other pixels than were fitted."""
    given = keras.Input((32, 32, 3), name="pixels")
    layer = keras.layers.Activation(fault) if fault is tf.round else fault
    return replace(classifier, backbone=keras.Model(given, classifier.backbone(layer(given)), name="tiny"))


def _with_order(order: list[int], classifier: model.Classifier) -> model.Classifier:
    """The classifier with the logits in another order, whose names stay where they are."""
    logits = classifier.head.get_layer("logits")
    made = head.build(classifier.card.head, 32, 3)
    made.get_layer("logits").set_weights([logits.kernel.numpy()[:, order], logits.bias.numpy()[order]])
    return replace(classifier, head=made)


def _with_image(classifier: model.Classifier, **how: Any) -> model.Classifier:
    return replace(classifier, card=replace(classifier.card, image=replace(classifier.card.image, **how)))


# What is wrong with a whole export, and the cause that is named.
PLANTED: dict[str, Callable[[model.Classifier], model.Classifier]] = {
    "resize, as by crop, bilinear, with antialiasing": lambda it: _with_image(it, fit="crop"),
    "channels, red and blue exchanged": lambda it: _behind(lambda pixels: pixels[..., ::-1], it),
    "range, -1..1 forgotten": lambda it: _behind(lambda pixels: (pixels + 1) * 127.5, it),
    "labels, off by one (+1)": lambda it: _with_order([2, 0, 1], it),
    "labels, in another order": lambda it: _with_order([1, 0, 2], it),
}


@pytest.mark.slow
@pytest.mark.parametrize("cause", PLANTED)
def test_what_is_wrong_with_an_export_is_caught_and_named_in_each_format(
    cause: str,
    classifier: model.Classifier,
    files: list[str],
    probes: parity.Probes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = replace(probes, odd={})  # of which one has 12 megapixels
    names = list(formats.FORMATS)
    exported(tmp_path / "wrong", PLANTED[cause](classifier), files, *names)
    deployed = exported(tmp_path / "right", classifier, files)
    (tmp_path / "kept").mkdir()
    found, scores, named = parity._asked(tmp_path / "wrong", files, tmp_path, tmp_path / "kept")
    assert list(found) == [way for name in names for way in formats.FORMATS[name].ways(name)]
    told = {}
    for way, rows in found.items():  # each by itself, of the answers that it gave
        alone = {way: rows}, scores, {"classes": named["classes"], "labels": {}}
        monkeypatch.setattr(parity, "_asked", lambda *_, alone=alone: alone)
        told[way] = refusal(tmp_path / "wrong", few, deployed)
    print(f"\n{cause}", *(f"{way}: {said.rpartition('likely cause: ')[2]}" for way, said in told.items()), sep="\n  ")
    assert [way for way, said in told.items() if cause not in named_causes(said)] == []
    assert all(said.startswith(f"the exported model ({way}) ") for way, said in told.items())


def test_a_savedmodel_that_ignores_exif_is_caught_and_named(
    classifier: model.Classifier, files: list[str], probes: parity.Probes, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It decodes by itself; what takes pixels is given upright ones."""
    with monkeypatch.context() as patch:
        patch.setattr(preprocessing, "orientation", lambda _: tf.constant(1))
        exported(tmp_path / "wrong", classifier, files, "saved_model")
    deployed = exported(tmp_path / "right", classifier, files)
    said = refusal(tmp_path / "wrong", probes, deployed)
    assert said.startswith("the exported model (saved_model) differs")
    assert said.endswith("likely cause: EXIF orientation ignored")


def test_litert_int8_with_a_wrong_scale_is_caught_and_named(
    classifier: model.Classifier, files: list[str], probes: parity.Probes, tmp_path: Path
) -> None:
    deployed = exported(tmp_path, classifier, files, "litert_int8")
    path = tmp_path / project_paths.LITERT_INT8_FILE
    content = schema_py_generated.ModelT.InitFromObj(schema_py_generated.Model.GetRootAs(path.read_bytes(), 0))
    tensors = content.subgraphs[0].tensors
    scaled = [each for each in tensors if each.quantization is not None and each.quantization.scale is not None]
    activations = [each for each in scaled if len(each.shape) == 4 and len(each.quantization.scale) == 1]
    activations[0].quantization.scale = activations[0].quantization.scale / 40
    builder = flatbuffers.Builder(0)
    builder.Finish(content.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    (tmp_path / project_paths.HASHES).unlink()
    said = refusal(tmp_path, probes, deployed)
    assert said.startswith("the exported model (litert_int8) gives ")
    assert said.endswith(f"likely cause: {parity.SCALE}")


def test_what_a_range_applied_twice_and_a_missing_image_look_like(
    classifier: model.Classifier, files: list[str], probes: parity.Probes, tmp_path: Path
) -> None:
    deployed = exported(tmp_path, classifier, files, "onnx")
    explain = gate.explain(deployed)
    few = [Path(file).read_bytes() for file in files[1:3]]
    scale = pixel_ranges.RANGES["-1..1"]
    fitted = [
        resizes.fitted(
            tf.constant(decoding.pixels(data, decoding.USUAL, classifier.card.image)[None]), classifier.card.image
        )[0]
        for data in few
    ]
    logits = model.whole(classifier)(scale(np.stack(fitted)).astype(np.float32))
    assert explain(few, keras.ops.convert_to_numpy(keras.ops.softmax(logits)), True) == "range, -1..1 applied twice"
    assert explain([b"no image"], probes.expected[:1], True) == "images that it can't read"
    assert explain(few, np.full((2, 3), np.nan, np.float32), True) == "images that it can't read"
    assert explain(few, probes.expected[1:3, :2], True) == "labels, another number of classes"
