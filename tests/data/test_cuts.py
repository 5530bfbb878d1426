import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from thaw.data import cuts, fingerprints


def picture(seed: int) -> Image.Image:
    """Smooth noise of all sizes, that falls off as photographs do."""
    chance = np.random.default_rng(seed)
    waves = np.fft.rfft2(chance.standard_normal((160, 160)))
    far = np.hypot(np.fft.fftfreq(160)[:, None], np.fft.rfftfreq(160)[None])
    pixels = np.fft.irfft2(waves / np.maximum(far, 1 / 160), s=(160, 160))
    return Image.fromarray(np.clip(128 + 50 * pixels / pixels.std(), 0, 255).astype(np.uint8)).convert("RGB")


def cropped(image: Image.Image, margins: tuple[float, ...]) -> Image.Image:
    width, height = image.size
    left, top, right, bottom = margins
    return image.crop(
        (round(left * width), round(top * height), *(round((1 - right) * width), round((1 - bottom) * height)))
    )


def prints(images: list[Image.Image]) -> NDArray[np.uint8]:
    return fingerprints.packed([fingerprints.fingerprint(image) for image in images]).block(0, len(images))


def by_all_frequencies(
    levels: fingerprints.Levels, one: NDArray[np.int64], other: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The best correlation of each pair when one is cut, made as a whole for each margin."""
    best = np.full(len(one), -1.0)
    for whole, part in ((one, other), (other, one)):
        for margins in cuts.CUTS:
            left = cuts.without(levels[part], margins)
            lengths = fingerprints.lengths(levels[whole]) * fingerprints.lengths(left)
            best = np.maximum(best, fingerprints.products(levels[whole], left) / lengths)
    return best


@pytest.mark.parametrize("threshold", [0.7, 0.85])
def test_pairs_are_those_that_cutting_as_a_whole_finds(threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(0)
    images = [picture(seed) for seed in range(30)]
    images += [cropped(image, tuple(chance.uniform(0, 0.03, 4))) for image in images]
    packed = prints(images)
    one, other = (side.astype(np.int64) for side in np.triu_indices(len(images), 1))
    expected = by_all_frequencies(fingerprints.parsed(packed), one, other) >= threshold
    assert 10 <= expected.sum() <= 30
    found = cuts.alike(packed, one, other, threshold)
    assert np.array_equal(found, expected)
    assert np.array_equal(cuts.alike(packed, other, one, threshold), expected), "either may be the cut one"
    monkeypatch.setattr(cuts, "BLOCK", 7)
    assert np.array_equal(cuts.alike(packed, one, other, threshold), expected), "blocks are memory, not results"


def test_each_margin_is_recognised_and_no_pairs_are_none() -> None:
    for margins in cuts.CUTS:
        image = picture(7)
        packed = prints([image, cropped(image, margins)])
        assert cuts.alike(packed, np.array([0]), np.array([1]), 0.7).all(), margins
    assert len(cuts.alike(packed, np.empty(0, np.int64), np.empty(0, np.int64), 0.85)) == 0
