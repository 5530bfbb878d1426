"""The three ways from a file to pixels held together: tf.data's, the exported model's, and the reference's."""

import io
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image
from sklearn import datasets

from thaw import paths
from thaw.catalog import pixel_ranges
from thaw.classifier import model
from thaw.config import schema
from thaw.config.images import FITS, INTERPOLATIONS
from thaw.exports import write
from thaw.images import decoding, header, preprocessing, reference
from thaw.runtime.framework import keras, tf

PHOTOS = {
    **{path.stem: path for path in (Path(datasets.__file__).parent / "images").glob("*.jpg")},
    "hopper": Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg",
    "present": Path(mpl.get_data_path()) / "sample_data" / "Minduka_Present_Blue_Pack.png",
}
DATASETS = os.environ.get("THAW_DATASETS", "")
# Grey levels of 255. In float32 and in TensorFlow's order the same sums come out this near; its bicubic filter without
# antialiasing reads its weights from a table of 1024 places.
EXACT, TABLE = 0.02, 0.2
# A JPEG much larger than the input is decoded at reduced scale, where the decoder's filter does a part of the
# triangle's work: mean over the picture, and at all but a twentieth of it.
REDUCED_MEAN, REDUCED_MOST = 1.5, 6


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photo(name: str = "china", size: tuple[int, int] | None = None) -> Image.Image:
    image = Image.open(PHOTOS[name]).convert("RGB")
    return image.resize(size, Image.Resampling.BICUBIC) if size else image


def turned(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[header.ORIENTATION] = value
    return exif


def odd_files() -> Iterator[tuple[str, bytes]]:
    """Photographs of all the modes and sizes that are odd, small enough that no JPEG of them is decoded in part."""
    small = photo("flower", (61, 43))
    alpha = small.copy()
    alpha.putalpha(Image.linear_gradient("L").resize(small.size))
    yield "grey JPEG", encoded(small.convert("L"), "JPEG", quality=90)
    yield "grey PNG", encoded(small.convert("L"), "PNG")
    yield "one bit", encoded(small.convert("1"), "PNG")
    yield "alpha", encoded(alpha, "PNG")
    yield "grey alpha", encoded(alpha.convert("LA"), "PNG")
    for colours in (2, 4, 16, 60, 256):  # 1 to 8 bits a place
        yield f"palette of {colours}", encoded(small.quantize(colours), "PNG")
        yield f"palette of {colours} with transparency", encoded(small.quantize(colours), "PNG", transparency=1)
        # Of the very alpha that TensorFlow makes up where there is none.
        faint = bytes([min(15, colours - 1)] * colours)
        yield f"faint palette of {colours}", encoded(small.quantize(colours), "PNG", transparency=faint)
    yield "GIF", encoded(small.quantize(200), "GIF")
    yield "CMYK", encoded(small.convert("CMYK"), "JPEG", quality=95)
    yield "sixteen bits", encoded(Image.fromarray(np.asarray(small.convert("L")).astype(np.uint16) * 257), "PNG")
    yield "WebP", encoded(small, "WEBP", quality=80)
    yield "BMP", encoded(small, "BMP")
    yield "TIFF", encoded(small, "TIFF")
    yield "progressive", encoded(small, "JPEG", progressive=True)
    for value in range(2, 9):
        yield f"EXIF {value}", encoded(small, "JPEG", quality=92, exif=turned(value))
    for size in ((1, 97), (97, 1), (1, 1), (48, 48), (49, 48), (47, 90), (95, 96), (300, 20)):
        yield f"{size[0]} x {size[1]}", encoded(photo("hopper", size), "PNG")
    yield "a drawing", PHOTOS["present"].read_bytes()


ODD = dict(odd_files())


def huge() -> dict[str, bytes]:
    large = photo("china", (2560, 1708))
    return {
        "huge JPEG": encoded(large, "JPEG", quality=90),
        "huge JPEG turned": encoded(large, "JPEG", quality=90, exif=turned(6)),
        **{name: path.read_bytes() for name, path in PHOTOS.items() if path.suffix == ".jpg"},
    }


def by_tensorflow(data: bytes, image: schema.Image) -> np.ndarray:
    """What training reads: the file, or the PNG that ``prepare`` has written in its place."""
    return np.asarray(preprocessing.load(image)(tf.constant(decoding.servable(data))))


@pytest.mark.parametrize("name", ODD)
def test_every_odd_file_comes_out_alike(name: str) -> None:
    for fit, antialias in itertools.product(FITS, (True, False)):
        image = schema.Image(48, fit, "bilinear", antialias)
        ours, expected = by_tensorflow(ODD[name], image), reference.load(ODD[name], image)
        assert expected.shape == ours.shape == (48, 48, 3)
        assert np.abs(ours - expected).max() <= EXACT, (fit, antialias)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("antialias", [True, False])
def test_every_way_of_fitting_comes_out_alike(interpolation: str, fit: str, antialias: bool) -> None:
    image = schema.Image(48, fit, interpolation, antialias)
    for size in ((61, 43), (43, 61), (20, 33), (200, 133), (48, 48)):
        data = encoded(photo("flower", size), "PNG")
        off = np.abs(by_tensorflow(data, image) - reference.load(data, image)).max()
        assert off <= (TABLE if interpolation == "bicubic" and not antialias else EXACT), size


@pytest.mark.parametrize("name", huge())
@pytest.mark.parametrize("fit", ["squash", "crop"])
def test_what_is_decoded_at_reduced_scale_is_nearly_what_all_pixels_give(name: str, fit: str) -> None:
    image = schema.Image(96, fit, "bilinear", antialias=True)
    data = huge()[name]
    off = np.abs(by_tensorflow(data, image) - reference.load(data, image))
    assert off.mean() <= REDUCED_MEAN
    assert np.percentile(off, 95) <= REDUCED_MOST


@pytest.mark.skipif(not DATASETS, reason="THAW_DATASETS names no folder of photographs")
def test_photographs_of_other_sets_come_out_alike() -> None:
    files = sorted(path for path in Path(DATASETS).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    assert files
    image = schema.Image(128, "squash", "bilinear", antialias=True)
    for path in files[:: max(1, len(files) // 100)]:
        off = np.abs(by_tensorflow(path.read_bytes(), image) - reference.load(path.read_bytes(), image))
        assert off.mean() <= REDUCED_MEAN, path
        assert np.percentile(off, 95) <= REDUCED_MOST, path


@pytest.mark.parametrize("fit", FITS)
def test_the_exported_model_prepares_its_images_like_the_reference(fit: str, tmp_path: Path) -> None:
    """A classifier whose two logits are the means of red and of blue as the backbone's first layer has made them."""
    image = schema.Image(48, fit, "bilinear", antialias=True)
    pixels = keras.Input((48, 48, 3), name="pixels")
    network = keras.Model(pixels, keras.layers.Rescaling(1 / 127.5, offset=-1, name="range")(pixels), name="network")
    features = keras.Input((3,), name="features")
    head = keras.Model(features, keras.layers.Dense(2, use_bias=False, name="logits")(features), name="head")
    head.set_weights([np.array([[1, 0], [0, 0], [0, 1]], np.float32)])
    settings = schema.Head(pooling="avg", units=[], dropout=[], l2=0)
    card = model.Card(schema.Backbone("mobilenet_v2", "random", "", "", ""), "", image, settings, ["red", "blue"])
    write.write(tmp_path, model.Classifier(network, head, card, {}), ["saved_model"])
    served = tf.saved_model.load(str(tmp_path / paths.SAVED_MODEL)).signatures

    for name, data in ODD.items():
        scaled = pixel_ranges.RANGES["-1..1"](reference.load(data, image))
        red, _, blue = scaled.mean(axis=(0, 1))
        files = tf.constant([decoding.servable(data)])
        upright = reference.decode(data)[None]
        for answer in (served["encoded"](encoded=files), served["images"](images=tf.constant(upright))):
            likelihood = answer["probabilities"].numpy()[0].astype(float)
            # The difference of the two logits, of which a grey level is 1/127.5.
            assert np.log(likelihood[0] / likelihood[1]) == pytest.approx(red - blue, abs=EXACT / 127.5 + 1e-6), name


def test_a_weight_is_the_share_of_a_pixel_by_hand() -> None:
    image = _of_size(2)
    row = np.array([[[0.0], [10], [20], [30]]]).repeat(3, axis=2)
    # Twice as wide a triangle, its peak between the first two pixels: shares 3, 3 and 1 of 7, and 1 beyond the edge.
    fitted = reference.fit(np.tile(row, (4, 1, 1)), image)
    np.testing.assert_allclose(fitted[0, :, 0], [(0 * 3 + 10 * 3 + 20) / 7, (10 + 20 * 3 + 30 * 3) / 7])


def _of_size(size: int) -> schema.Image:
    image = schema.Image(32, "squash", "bilinear", antialias=True)
    image.size = size  # smaller than a user may ask for
    return image


def test_the_reference_needs_no_tensorflow() -> None:
    source = Path(reference.__file__).read_text(encoding="utf-8")
    assert "framework" not in source
    assert "thaw.images.preprocessing" in source  # only named
    assert "import preprocessing" not in source
