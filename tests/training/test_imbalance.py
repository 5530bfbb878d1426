import numpy as np
import pytest

from thaw.images import manifest
from thaw.training import imbalance

LABELS = np.array([0] * 60 + [1] * 30 + [2] * 10)


def test_balanced_weights_give_each_class_the_same_say_and_are_one_in_the_mean() -> None:
    weights = imbalance.weights(LABELS, "balanced")
    assert weights is not None
    assert weights.dtype == np.float32
    sums = np.bincount(LABELS, weights)
    np.testing.assert_allclose(sums, 100 / 3, rtol=1e-6)
    assert weights.mean() == pytest.approx(1)


def test_without_balance_nothing_is_weighed_or_drawn() -> None:
    assert imbalance.weights(LABELS, "none") is None
    assert imbalance.chances(LABELS, "shuffle") is None


@pytest.mark.parametrize("scale", [1, 1e-6, 1e6])
def test_given_weights_count_by_how_they_stand_to_each_other(scale: float) -> None:
    given = np.linspace(0.5, 2, 100, dtype=np.float32)
    kept = imbalance.weights(LABELS, "none", given * np.float32(scale))
    assert kept is not None and kept.dtype == np.float32
    np.testing.assert_allclose(kept, given / given.mean(), rtol=1e-6)


def test_with_given_weights_each_class_has_the_same_say_and_what_weighs_nothing_is_not_drawn() -> None:
    given = np.linspace(0.5, 2, 100, dtype=np.float32)
    given[:54] = 0
    both = imbalance.weights(LABELS, "balanced", given)
    assert both is not None and both.dtype == np.float32
    np.testing.assert_allclose(np.bincount(LABELS, both), 100 / 3, rtol=1e-6)
    np.testing.assert_allclose(both[60:90] / both[60], given[60:90] / given[60], rtol=1e-6)
    chances = imbalance.chances(LABELS, "balanced", given)
    assert chances is not None and not chances[:54].any()
    np.testing.assert_allclose(np.bincount(LABELS, chances * given), 100 / 3, rtol=1e-6)


def test_a_class_that_no_image_has_changes_nothing() -> None:
    gap = np.where(LABELS == 1, 5, LABELS)
    np.testing.assert_array_equal(imbalance.weights(gap, "balanced"), imbalance.weights(LABELS, "balanced"))


def test_balanced_draws_bring_each_class_as_often_as_the_others() -> None:
    def source(indices: np.ndarray, _views: np.ndarray) -> np.ndarray:
        return indices[:, None].astype(np.float32)

    train = manifest.Batches(source, LABELS, 32, seed=0, chances=imbalance.chances(LABELS, "balanced"))
    drawn = np.zeros(3)
    for _ in range(60):
        labels = np.concatenate([train[number][1] for number in range(len(train))])
        assert len(labels) == 100  # an epoch is as long as without
        drawn += np.bincount(labels, minlength=3)
        train.on_epoch_end()
    # 6,000 draws: a share of a third is off by 0.6 points in one of three cases.
    np.testing.assert_allclose(drawn / drawn.sum(), 1 / 3, atol=0.03)


@pytest.mark.parametrize("views", [2, 3, 8])
def test_an_image_that_is_drawn_again_shows_its_next_view(views: int) -> None:
    def source(indices: np.ndarray, views: np.ndarray) -> np.ndarray:
        return np.stack([indices, views], axis=1)

    train = manifest.Batches(source, LABELS, 32, views, seed=0, chances=imbalance.chances(LABELS, "balanced"))
    seen: dict[int, list[int]] = {}
    for _ in range(4):
        for number in range(len(train)):
            for index, view in train[number][0].tolist():
                seen.setdefault(index, []).append(view)
        train.on_epoch_end()
    assert max(map(len, seen.values())) > 8  # of the small class
    for drawn in seen.values():
        assert drawn == [(drawn[0] + number) % views for number in range(len(drawn))]
    assert len({drawn[0] for drawn in seen.values()}) == views
