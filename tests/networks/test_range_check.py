"""The canary against planted mistakes.

Pretrained weights with a record are at hand for EfficientNet-Lite only. For the other families the record is made here
as training makes it: a random network of the family is shown real photographs, rightly preprocessed, with its
BatchNorm in training mode. Then the range is planted wrong.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image
from sklearn import datasets

from thaw.catalog.pixel_ranges import DEVIATION, MEAN, RANGES
from thaw.networks import pretrained, range_check
from thaw.runtime.framework import keras

SIZE = 128
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
SAME = "-1..1 or -1..0.99 or lite"  # no network would tell one from another
# The range that each family was pretrained in.
FAMILIES = {
    "MobileNetV2": "-1..1",
    "MobileNetV3Small": "-1..1",
    "InceptionV3": "-1..1",
    "ResNet50": "caffe",
    "DenseNet121": "imagenet",
    "EfficientNetV2B0": "imagenet",
}
PLANTED = [
    (family, wrong)
    for family, right in FAMILIES.items()
    for wrong in RANGES
    if not RANGES[wrong].is_near(RANGES[right])
]


def photographs() -> np.ndarray:
    """(n, SIZE, SIZE, 3) pieces of the photographs in installed packages, as bright and as colourful as ImageNet's."""
    files = [*(Path(datasets.__file__).parent / "images").glob("*.jpg")]
    files.append(Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg")
    pieces = []
    for file in sorted(files):
        pixels = np.asarray(Image.open(file).convert("RGB").reduce(2), np.float64)
        for top in range(0, pixels.shape[0] - SIZE, 70):
            pieces += [pixels[top : top + SIZE, left : left + SIZE] for left in range(0, pixels.shape[1] - SIZE, 70)]
    whole = np.stack(pieces)
    whole = (whole - whole.mean((0, 1, 2))) / whole.std((0, 1, 2)) * DEVIATION + MEAN
    return np.asarray(255 * whole, np.float32)


PHOTOGRAPHS = photographs()


def called(family: str) -> str:
    """A family's range in a complaint."""
    return SAME if FAMILIES[family] in SAME else FAMILIES[family]


def scaled(pixels: Any, name: str) -> Any:
    """The layers that bring pixels into a range."""
    known = RANGES[name]
    values = keras.ops.flip(pixels, axis=-1) if known.matrix[0, 0] == 0 else pixels
    factors = [float(factor) for factor in known.matrix.sum(axis=1)]
    return keras.layers.Rescaling(factors, offset=[float(each) for each in known.offset], name="range")(values)


@pytest.fixture(scope="module")
def trunks() -> dict[str, list[keras.layers.Layer]]:
    """The layers of each family's network up to its first BatchNorm, with the record that photographs leave there."""
    found = {}
    for family, name in FAMILIES.items():
        keras.utils.set_random_seed(0)
        options = {"include_preprocessing": False} if family in ("MobileNetV3Small", "EfficientNetV2B0") else {}
        whole = getattr(keras.applications, family)(
            include_top=False, weights=None, input_shape=(SIZE, SIZE, 3), **options
        )
        place = next(
            number for number, layer in enumerate(whole.layers) if isinstance(layer, keras.layers.BatchNormalization)
        )
        *before, norm = found[family] = whole.layers[1 : place + 1]
        norm.momentum = 0.0
        norm(network(family, name, before)(PHOTOGRAPHS, training=False), training=True)
    return found


def network(family: str, name: str, layers: list[keras.layers.Layer]) -> keras.Model:
    """The layers on pixels of a range."""
    pixels = keras.Input((SIZE, SIZE, 3))
    values = scaled(pixels, name)
    for layer in layers:
        values = layer(values)
    return keras.Model(pixels, values, name=family.lower())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_right_range_passes(family: str, trunks: dict[str, list[keras.layers.Layer]]) -> None:
    verdict = range_check.check(network(family, FAMILIES[family], trunks[family]), IMAGES)
    assert verdict.judged, verdict.text
    assert verdict.text.startswith(f"pixel range as pretrained: {FAMILIES[family]} (")
    assert verdict.distance is not None and verdict.distance < range_check.FITS


@pytest.mark.parametrize(("family", "wrong"), PLANTED)
def test_every_wrong_range_is_caught(family: str, wrong: str, trunks: dict[str, list[keras.layers.Layer]]) -> None:
    with pytest.raises(ValueError, match=rf"by its first BatchNorm {called(family)} \(.* received ") as error:
        range_check.check(network(family, wrong, trunks[family]), IMAGES)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_scaling_twice_is_caught(family: str, trunks: dict[str, list[keras.layers.Layer]]) -> None:
    model = network(family, FAMILIES[family], trunks[family])
    layer = model.get_layer("range")
    scale, offset = np.array(layer.scale), np.array(layer.offset)
    layer.scale, layer.offset = (scale * scale).tolist(), (scale * offset + offset).tolist()
    if family == "ResNet50":  # whose scale is 1: only the mean is taken off twice
        layer.scale = (scale / 255).tolist()
    with pytest.raises(ValueError, match=rf"by its first BatchNorm {called(family)} \("):
        range_check.check(model, IMAGES)


@pytest.mark.parametrize("family", FAMILIES)
def test_red_for_blue_is_caught(family: str, trunks: dict[str, list[keras.layers.Layer]]) -> None:
    pixels = keras.Input((SIZE, SIZE, 3))
    values = scaled(keras.ops.flip(pixels, axis=-1), FAMILIES[family])
    for layer in trunks[family]:
        values = layer(values)
    with pytest.raises(ValueError, match=rf"by its first BatchNorm {called(family)} \(.* red and blue exchanged \("):
        range_check.check(keras.Model(pixels, values, name=family.lower()), IMAGES)


# Real weights


@pytest.fixture
def lite0() -> keras.Model:
    return pretrained.build("efficientnet_lite0", "package", 224)


def test_real_weights_are_judged_alike_whatever_the_images_are(lite0: keras.Model) -> None:
    dark = IMAGES * 0.1
    digits = np.zeros((3, 32, 32, 3), np.float32)
    digits[:, 8:24, 14:18] = 255
    grey = np.repeat(IMAGES.mean(axis=-1, keepdims=True), 3, axis=-1)
    rays = np.repeat(np.linspace(0, 160, 32, dtype=np.float32)[None, :, None, None], 3, axis=3).repeat(32, axis=2)
    bright = 255 - dark
    kinds = (
        IMAGES,
        dark,
        digits,
        255 - digits,
        grey,
        rays,
        bright,
        IMAGES[:1],
        np.zeros_like(IMAGES),
        PHOTOGRAPHS,
    )
    verdicts = [range_check.check(lite0, images) for images in kinds]
    assert verdicts[0].judged
    assert verdicts[0].text.startswith("pixel range as pretrained: lite (0.0")
    assert verdicts == [verdicts[0]] * len(kinds)


@pytest.mark.parametrize(
    ("scale", "offset"),
    [(1, 0), (1 / 255, 0), (1 / 128**2, -127 / 128 - 127 / 128**2), (1 / (255 * 0.226), -0.449 / 0.226)],
    ids=["raw", "divided by 255", "twice", "ImageNet's"],
)
def test_with_real_weights_a_planted_range_is_caught(lite0: keras.Model, scale: float, offset: float) -> None:
    layer = lite0.get_layer("stem_range")
    layer.scale, layer.offset = scale, offset
    with pytest.raises(
        ValueError, match=r"by its first BatchNorm -1\.\.1 or -1\.\.0\.99 or lite \(0\.0\d+ from its record\)"
    ):
        range_check.check(lite0, IMAGES)


def test_with_real_weights_red_for_blue_is_caught(lite0: keras.Model) -> None:
    kernel = lite0.get_layer("stem_conv").kernel
    kernel.assign(kernel.numpy()[:, :, ::-1])
    with pytest.raises(ValueError, match=r"by its first BatchNorm .*lite, red and blue exchanged \(0\.00"):
        range_check.check(lite0, IMAGES)


# What it cannot judge


def made_of(*layers: keras.layers.Layer) -> keras.Model:
    pixels = values = keras.Input((32, 32, 3))
    for layer in layers:
        values = layer(values)
    return keras.Model(pixels, values, name="made")


def with_record() -> keras.layers.Layer:
    norm = keras.layers.BatchNormalization(name="record")
    norm.build((None, 32, 32, 4))
    norm.moving_mean.assign([9.0, -9, 9, -9])
    return norm


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (lambda: pretrained.build("mobilenet_v2", "random", 32), "the weights are random, or it was folded"),
        (
            lambda: made_of(keras.layers.Conv2D(4, 3), keras.layers.LayerNormalization()),
            "has no BatchNorm that keeps a record",
        ),
        (
            lambda: made_of(keras.layers.ReLU(100.0), keras.layers.Conv2D(4, 1), with_record()),
            "do more to the pixels than scale them",
        ),
        (
            lambda: made_of(keras.layers.Reshape((16, 16, 12)), keras.layers.Conv2D(4, 1), with_record()),
            "do more to the pixels than scale them",
        ),
        (lambda: made_of(keras.layers.Conv2D(4, 1), with_record()), "photographs fit record in no known"),
    ],
    ids=["random or folded", "no BatchNorm", "clipped", "folded pixels", "no range fits"],
)
def test_what_cannot_be_judged_is_said_and_passes(model: Callable[[], keras.Model], why: str) -> None:
    verdict = range_check.check(model(), IMAGES)
    assert not verdict.judged
    assert verdict.text.startswith("pixel range not judged: ")
    assert why in verdict.text


@pytest.mark.parametrize("images", [IMAGES / 255, IMAGES / 127.5 - 1, IMAGES * 2], ids=["0..1", "-1..1", "beyond"])
def test_images_that_were_scaled_before_are_refused(lite0: keras.Model, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"^images: expected pixels from 0 to 255 before the backbone, received "):
        range_check.check(lite0, images)


def test_a_warning_is_enough_where_it_is_asked_for(lite0: keras.Model, capsys: pytest.CaptureFixture[str]) -> None:
    lite0.get_layer("stem_range").scale = 1
    verdict = range_check.check(lite0, IMAGES, "warn")
    assert not verdict.judged
    assert verdict.text.startswith("backbone: expected pixels in the range that efficientnet_lite0 was pretrained in")
    assert "phase1.canary=warn" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(ValueError, match="expected pixels from 0 to 255"):
        range_check.check(lite0, IMAGES / 255, "warn")


# Its images


@pytest.mark.parametrize("size", [32, 96, 224])
def test_the_images_it_draws_have_the_statistics_of_imagenet(size: int) -> None:
    images = range_check.photographs(size)
    assert images.shape == (range_check.IMAGES, size, size, 3)
    flat = images.reshape(-1, 3)
    np.testing.assert_allclose(flat.mean(axis=0), 255 * MEAN, rtol=1e-9)
    np.testing.assert_allclose(flat.std(axis=0), 255 * DEVIATION, rtol=1e-9)
    np.testing.assert_allclose(np.corrcoef(flat.T), range_check.CORRELATION, atol=1e-9)
    np.testing.assert_array_equal(images, range_check.photographs(size))


def test_detail_falls_with_its_frequency_as_it_does_in_photographs() -> None:
    def fall(images: np.ndarray) -> float:
        """Slope of the logarithm of the amplitude over that of the frequency."""
        grey = images.mean(axis=-1) - images.mean()
        window = np.hanning(images.shape[1])
        power = (np.abs(np.fft.fft2(grey * window * window[:, None])) ** 2).mean(axis=0)
        axis = np.fft.fftfreq(images.shape[1]) * images.shape[1]
        frequency = np.hypot(axis[:, None], axis)
        inside = (frequency > 3) & (frequency < images.shape[1] / 3)
        return -float(np.polyfit(np.log(frequency[inside]), np.log(power[inside]) / 2, 1)[0])

    assert fall(range_check.photographs(SIZE)) == pytest.approx(range_check.FALL, abs=0.05)
    assert fall(PHOTOGRAPHS) == pytest.approx(range_check.FALL, abs=0.3)
