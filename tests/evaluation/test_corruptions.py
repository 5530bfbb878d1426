import numpy as np
import pytest

from thaw.evaluation import corruptions

# Softly shaded, with detail of a few pixels, as photographs are; nothing near black or white.
GRID = np.linspace(0, 1, 64)
SHADE = 128 + 60 * np.sin(6 * np.pi * GRID)[:, None, None] * np.cos(4 * np.pi * GRID)[None, :, None]
PICTURE = (SHADE * np.array([1.0, 0.9, 0.8]) + 8 * (np.indices((64, 64)).sum(axis=0) % 7 == 0)[..., None]).astype(
    np.float32
)


@pytest.mark.parametrize("name", corruptions.CORRUPTIONS)
def test_each_spoils_an_image_more_with_each_severity_the_same_each_time_and_another_way_for_another(
    name: str,
) -> None:
    given = PICTURE.copy()
    spoilt = [corruptions.corrupt(given, name, severity, "image") for severity in corruptions.SEVERITIES]
    np.testing.assert_array_equal(given, PICTURE)
    assert all(each.shape == PICTURE.shape and each.dtype == np.float32 for each in spoilt)
    assert all(each.min() >= 0 and each.max() <= 255 for each in spoilt)
    errors = [float(((each - PICTURE) ** 2).mean()) for each in spoilt]
    assert 0.5 < errors[0] < errors[1] < errors[2]
    np.testing.assert_array_equal(corruptions.corrupt(PICTURE, name, 2, "image"), spoilt[1])
    others = [corruptions.corrupt(PICTURE, name, 2, f"other {n}") for n in range(6)]
    drawn = name in ("gaussian_noise", "shot_noise", "motion_blur", "colour_cast")
    assert any((other != spoilt[1]).any() for other in others) == drawn


def test_there_are_ten() -> None:
    assert len(corruptions.CORRUPTIONS) == 10 and corruptions.SEVERITIES == (1, 2, 3)


def test_what_they_do_is_what_they_are_called() -> None:
    def spoilt(name: str) -> np.ndarray:
        return corruptions.corrupt(PICTURE, name, 2, "image")

    assert (spoilt("gaussian_noise") - PICTURE).std() == pytest.approx(0.15 * 255, rel=0.05)
    assert spoilt("dark").mean() == pytest.approx(0.4 * PICTURE.mean(), rel=1e-4)
    assert spoilt("bright").mean() > 1.3 * PICTURE.mean()
    assert spoilt("contrast").std(axis=(0, 1))[0] == pytest.approx(0.3 * PICTURE.std(axis=(0, 1))[0], rel=1e-3)
    assert len(np.unique(spoilt("pixelate").reshape(-1, 3), axis=0)) <= 16 * 16
    grain = 128 + 20 * np.random.default_rng(0).standard_normal((64, 64, 3), np.float32)
    for name in ("blur", "motion_blur"):
        assert corruptions.corrupt(grain, name, 2, "image").std() < 0.6 * grain.std()
        assert corruptions.corrupt(grain, name, 2, "image").mean() == pytest.approx(grain.mean(), rel=0.02)
    cast = spoilt("colour_cast").mean(axis=(0, 1)) / PICTURE.mean(axis=(0, 1))
    assert abs(cast[0] - cast[2]) > 0.4 and cast[1] == pytest.approx(1)
    grey = corruptions.corrupt(np.full((64, 64, 3), 128, np.float32), "shot_noise", 1, "image")
    # Of so many photons the count has the variance of its mean.
    assert grey.mean() == pytest.approx(128, rel=0.02)
    assert grey.std() == pytest.approx(255 * np.sqrt(60 * 128 / 255) / 60, rel=0.05)
