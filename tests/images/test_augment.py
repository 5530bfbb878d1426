from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from thaw.config import schema
from thaw.images import augment
from thaw.runtime.framework import tf

CONF = Path(__file__).resolve().parents[2] / "conf" / "augment"
OPTIONS = {
    path.stem: schema.Augment(**yaml.safe_load(path.read_text(encoding="utf-8")))
    for path in sorted(CONF.glob("*.yaml"))
}
CHANGES = {
    **dict.fromkeys(("horizontal_flip", "vertical_flip", "quarter_turns"), True),
    "rotation": 5,
    "zoom": 0.1,
    "translation": 0.1,
    "brightness": 0.1,
    "contrast": 0.1,
}
RANDOM = np.random.default_rng(0)
NOISE = RANDOM.uniform(0, 255, (7, 32, 32, 3)).astype(np.float32)
HASHES = [f"{number:064x}" for number in range(7)]
# Odd and even sides have their middle on and between pixels.
SIDES = (32, 33)


def only(**settings: float) -> schema.Augment:
    """Nothing but these."""
    return replace(OPTIONS["none"], views=8, **settings)  # type: ignore[arg-type]  # bool is an int


def views(settings: schema.Augment, image: np.ndarray, count: int) -> np.ndarray:
    """Views 1 to ``count`` of one image."""
    seeds = augment.view_seeds(settings, [HASHES[0]] * count, range(1, count + 1))
    return np.asarray(augment.view(settings)(np.repeat(image[None], count, axis=0), seeds))


def spot(side: int, x: float, y: float) -> np.ndarray:
    """A round spot, (x, y) pixels from the middle of a black image."""
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    bright = 250 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8)
    return np.repeat(bright[..., None], 3, axis=2).astype(np.float32)


def places(images: np.ndarray) -> np.ndarray:
    """Where the spot lies in each image: (n, 2), x and y from the middle."""
    rows, columns = np.mgrid[: images.shape[1], : images.shape[2]] - (images.shape[1] - 1) / 2
    weights = images[..., 0] / images[..., 0].sum(axis=(1, 2), keepdims=True)
    return np.stack([(weights * columns).sum(axis=(1, 2)), (weights * rows).sum(axis=(1, 2))], axis=1)


def test_the_options_are_valid_and_only_none_changes_nothing() -> None:
    assert set(OPTIONS) == {"article", "digits", "light", "none", "strong"}
    assert [name for name, settings in OPTIONS.items() if settings.is_clean] == ["none"]
    for name, value in CHANGES.items():
        assert not only(**{name: value}).is_clean, name
    np.testing.assert_array_equal(views(OPTIONS["none"], NOISE[0], 3), NOISE[[0, 0, 0]])


@pytest.mark.parametrize("name", OPTIONS)
def test_a_view_depends_on_its_image_number_and_seed_alone(name: str) -> None:
    settings, numbers = OPTIONS[name], [1, 2, 3, 1, 5, 60, 2**31 - 1]
    seeds = augment.view_seeds(settings, HASHES, numbers)
    make = augment.view(settings)
    together = np.asarray(make(NOISE, seeds))
    np.testing.assert_array_equal(make(NOISE, seeds), together)
    np.testing.assert_array_equal(make(NOISE[::-1], seeds[::-1])[::-1], together)
    for position in range(len(NOISE)):
        alone = make(NOISE[position : position + 1], seeds[position : position + 1])
        np.testing.assert_array_equal(alone[0], together[position])
    tf.random.set_seed(1234)
    np.testing.assert_array_equal(augment.view(settings)(NOISE, seeds), together)
    # Nor on what it is part of: in a graph of its own it is made with the same bits.
    graph = tf.function(augment.view(settings), reduce_retracing=True)
    for size in (7, 1, 3, 7):
        np.testing.assert_array_equal(graph(NOISE[:size], seeds[:size]), together[:size])


def test_a_view_of_a_large_image_is_the_same_alone_and_in_a_large_batch() -> None:
    # Where TensorFlow shares the work of a batch among threads, and its vector instructions come into play.
    hashes = [f"{number:064x}" for number in range(33)]
    large = RANDOM.uniform(0, 255, (33, 299, 299, 3)).astype(np.float32)
    seeds = augment.view_seeds(OPTIONS["strong"], hashes, range(1, 34))
    make = augment.view(OPTIONS["strong"])
    together = np.asarray(make(large, seeds))
    for first, last in ((0, 1), (5, 6), (9, 10), (20, 21), (24, 26), (30, 33)):
        np.testing.assert_array_equal(make(large[first:last], seeds[first:last]), together[first:last])


@pytest.mark.parametrize("name", OPTIONS)
def test_a_view_keeps_shape_type_and_range(name: str) -> None:
    extreme = RANDOM.choice([0.0, 255.0], (32, 32, 3)).astype(np.float32)
    made = views(OPTIONS[name], extreme, 50)
    assert made.dtype == np.float32
    assert made.shape == (50, 32, 32, 3)
    assert made.min() >= 0
    assert made.max() <= 255


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "none"])
def test_views_of_an_image_differ(name: str) -> None:
    # article alone has few: 2 flips, 4 turns, and a brightness of its own for each
    made = views(OPTIONS[name], NOISE[0], 30)
    assert len(np.unique(made.reshape(30, -1), axis=0)) == 30


def test_the_seed_of_a_view_follows_content_number_and_setting_only() -> None:
    light = OPTIONS["light"]
    seeds = augment.view_seeds(light, HASHES, [1] * 7)
    assert seeds.dtype == np.int32
    assert seeds.shape == (7, 2)
    assert len(np.unique(seeds, axis=0)) == 7
    np.testing.assert_array_equal(augment.view_seeds(light, HASHES[::-1], [1] * 7), seeds[::-1])
    np.testing.assert_array_equal(augment.view_seeds(light, HASHES[3:4], [1]), seeds[3:4])
    np.testing.assert_array_equal(augment.view_seeds(replace(light, views=64, zoom=0), HASHES, [1] * 7), seeds)
    for other in (
        augment.view_seeds(light, HASHES, [2] * 7),
        augment.view_seeds(replace(light, seed=1), HASHES, [1] * 7),
    ):
        assert not (other == seeds).all(axis=1).any()
    assert augment.view_seeds(light, [], []).shape == (0, 2)


@pytest.mark.parametrize("side", SIDES)
def test_flips_and_quarter_turns_move_whole_pixels(side: int) -> None:
    image = RANDOM.uniform(0, 255, (side, side, 3)).astype(np.float32)
    turns = [np.rot90(image, turn) for turn in range(4)]
    cases = {
        ("horizontal_flip",): [image, image[:, ::-1]],
        ("vertical_flip",): [image, image[::-1]],
        ("quarter_turns",): turns,
        ("horizontal_flip", "quarter_turns"): [*turns, *(turn[:, ::-1] for turn in turns)],
    }
    for names, moves in cases.items():
        made = views(only(**dict.fromkeys(names, True)), image, 80)
        exact = np.array([[np.array_equal(view, move) for move in moves] for view in made])
        assert (exact.sum(axis=1) == 1).all(), names
        assert exact.any(axis=0).all(), names
        # Each move as often as any other: 80 draws, five standard deviations.
        share = 1 / len(moves)
        assert (np.abs(exact.sum(axis=0) - 80 * share) < 5 * np.sqrt(80 * share * (1 - share))).all(), names


def test_the_articles_views_are_exact_moves_but_for_brightness() -> None:
    image = RANDOM.uniform(60, 190, (32, 32, 3)).astype(np.float32)
    moves = [np.rot90(mirrored, turn) for mirrored in (image, image[:, ::-1]) for turn in range(4)]
    found = set()
    for view in views(OPTIONS["article"], image, 60):
        shifts = [view - move for move in moves]
        best = int(np.argmin([np.ptp(shift) for shift in shifts]))
        assert np.ptp(shifts[best]) < 1e-3
        assert np.abs(shifts[best].mean()) <= 25.5
        found.add(best)
    assert found == set(range(8))


@pytest.mark.parametrize("side", SIDES)
def test_rotation_stays_in_its_range_and_uses_it(side: int) -> None:
    x, y = places(views(only(rotation=25), spot(side, 9, 0), 200)).T
    angles = np.degrees(np.arctan2(y, x))
    assert np.abs(angles).max() <= 25.2
    assert angles.min() < -22
    assert angles.max() > 22
    np.testing.assert_allclose(np.hypot(x, y), 9, atol=0.1)


def test_zoom_stays_in_its_range_and_uses_it() -> None:
    x, y = places(views(only(zoom=0.2), spot(64, 12, 0), 200)).T
    assert (x / 12).min() == pytest.approx(0.8, abs=0.02)
    assert (x / 12).max() == pytest.approx(1.2, abs=0.02)
    assert np.abs(y).max() < 0.1


def test_translation_stays_in_its_range_and_uses_it() -> None:
    moved = places(views(only(translation=0.1), spot(64, 0, 0), 200))
    assert np.abs(moved).max() <= 6.45
    assert (moved.min(axis=0) < -5.8).all()
    assert (moved.max(axis=0) > 5.8).all()
    assert np.abs(np.corrcoef(moved.T)[0, 1]) < 0.3  # the two directions are drawn apart


def test_brightness_stays_in_its_range_and_uses_it() -> None:
    image = RANDOM.uniform(100, 150, (32, 32, 3)).astype(np.float32)
    shifts = views(only(brightness=0.1), image, 200) - image
    assert np.ptp(shifts, axis=(1, 2, 3)).max() < 1e-3
    means = shifts.mean(axis=(1, 2, 3))
    assert means.min() == pytest.approx(-25.5, abs=1.5)
    assert means.max() == pytest.approx(25.5, abs=1.5)
    assert np.abs(shifts).max() <= 25.5 + 1e-3


def test_contrast_stretches_around_the_mean_within_its_range() -> None:
    image = RANDOM.uniform(80, 170, (32, 32, 3)).astype(np.float32)
    made = views(only(contrast=0.3), image, 200)
    np.testing.assert_allclose(made.mean(axis=(1, 2, 3)), image.mean(), atol=1e-2)
    factors = made.std(axis=(1, 2, 3)) / image.std()
    assert factors.min() == pytest.approx(0.7, abs=0.03)
    assert factors.max() == pytest.approx(1.3, abs=0.03)


def test_what_geometry_uncovers_is_filled_with_the_image() -> None:
    flat = np.full((32, 32, 3), 200, np.float32)
    settings = replace(OPTIONS["strong"], brightness=0, contrast=0, translation=0.5, rotation=180)
    np.testing.assert_allclose(views(settings, flat, 60), 200, atol=1e-2)


def test_digits_are_never_mirrored_or_turned_over() -> None:
    # A ramp that climbs twice as fast to the right as to the bottom: none of its eight flips and turns is another.
    rows, columns = np.mgrid[:48, :48]
    ramp = np.repeat((columns * 2 + rows)[..., None], 3, axis=2).astype(np.float32)
    wrong = [np.rot90(move, turn) for move in (ramp, ramp[:, ::-1]) for turn in range(4)][1:]
    for view in views(OPTIONS["digits"], ramp, 200):
        distance = np.square(view - ramp).sum()
        assert all(np.square(view - move).sum() > distance for move in wrong)
