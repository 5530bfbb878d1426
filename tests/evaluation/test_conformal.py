import numpy as np
import pytest
from numpy.typing import NDArray

from thaw.evaluation import calibration, conformal, intervals


def drawn(chance: np.random.Generator, n: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Images of a model that is too sure of itself: the sets must not depend on its being right."""
    logits = chance.normal(size=(n, 5)) * 1.5
    weights = np.exp(logits)
    weights /= weights.sum(axis=1, keepdims=True)
    labels = (weights.cumsum(axis=1) < chance.random(n)[:, None]).sum(axis=1)
    sharper = weights**2
    return sharper / sharper.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_fresh_draws_are_covered_as_often_as_is_asked_for(level: float) -> None:
    """Temperature and threshold from the same 200 images, as in the pipeline; the coverage of 300 fresh ones each."""
    chance, covered = np.random.default_rng(0), []
    for _ in range(300):
        held, fresh = drawn(chance, 200), drawn(chance, 300)
        heat = calibration.temperature(*held)
        least = conformal.threshold(calibration.scaled(held[0], heat), held[1], level)
        covered.append(conformal.measured(calibration.scaled(fresh[0], heat), fresh[1], least, 0.95)["coverage"])
    assert level - 0.005 < np.mean(covered) < level + 0.012


def test_fresh_units_are_covered_where_images_come_in_groups() -> None:
    """Groups of 1 or 30 images with one fate: what counts images alone is far off, what counts units is not."""
    chance = np.random.default_rng(1)
    by_unit: list[float] = []
    by_image: list[float] = []
    for _ in range(300):
        sizes = np.where(chance.random(60) < 0.2, 30, 1)
        units = np.repeat(np.arange(60), sizes)
        own = np.where(sizes == 30, chance.uniform(0, 0.3, 60), chance.uniform(0.3, 1, 60))[units]
        rows, labels = np.stack([own, 1 - own], axis=1), np.zeros(len(own), int)
        fresh = chance.uniform(0, 0.3, 2000) if chance.random() < 0.2 else chance.uniform(0.3, 1, 2000)
        for found, given in ((by_unit, units), (by_image, None)):
            found.append((fresh >= conformal.threshold(rows, labels, 0.9, given)).mean())
    assert 0.87 < np.mean(by_unit) < 0.94
    assert np.mean(by_image) > 0.96  # as wide as the groups want it, for whom few units stand


def test_the_threshold_is_the_quantile_of_the_finite_sample() -> None:
    own = np.linspace(0.05, 0.95, 19)
    rows, labels = np.stack([own, 1 - own], axis=1), np.zeros(19, int)
    # Of 19 images and one more, 18 must be covered: the second smallest stays out.
    assert conformal.threshold(rows, labels, 0.9) == own[1]
    assert conformal.threshold(rows, labels, 0.95) == own[0]
    assert conformal.threshold(rows, labels, 0.96) == 0.0  # too few images for that
    assert conformal.threshold(rows, labels, 0.9, np.arange(19) * 7) == own[1]
    with pytest.raises(ValueError, match="received 1"):
        conformal.threshold(rows, labels, 1.0)


@pytest.mark.parametrize("level", [0.6, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("count", [19, 20, 57, 200, 1001])
def test_sets_are_those_of_numpys_quantile_of_the_scores(count: int, level: float) -> None:
    """The rule as libraries of conformal prediction write it: 1 less the label's probability, its quantile, sets.

    MAPIE 1.6.0, which is no dependency, gave the same sets of these draws at levels of 0.6, 0.9 and 0.95, where it
    accepts as few images.
    """
    chance = np.random.default_rng(count)
    held, labels = drawn(chance, count)
    fresh, _ = drawn(chance, 500)
    rank = int(np.ceil((count + 1) * level))
    if rank <= count:
        score = 1 - held[np.arange(count), labels]
        sets = 1 - fresh <= np.quantile(score, rank / count, method="inverted_cdf")
    else:
        sets = np.ones_like(fresh, bool)
    np.testing.assert_array_equal(fresh >= conformal.threshold(held, labels, level), sets)
    assert sets.all() == (rank > count)


def test_what_is_measured_of_the_sets_of_a_case_by_hand() -> None:
    rows = np.array([[0.6, 0.3, 0.1], [0.4, 0.35, 0.25], [0.45, 0.35, 0.2], [0.34, 0.33, 0.33]])
    labels = np.array([0, 1, 2, 0])
    found = conformal.measured(rows, labels, 0.35, 0.95)
    assert (found["coverage"], found["mean_size"], found["single"], found["empty"]) == (0.5, 5 / 4, 0.25, 0.25)
    assert (found["low"], found["high"]) == intervals.accuracy(np.array([True, True, False, False]), 0.95)
