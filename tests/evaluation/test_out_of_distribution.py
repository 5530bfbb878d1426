from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf

from thaw.evaluation import out_of_distribution as ood


def embeddings(
    n: int, seed: int, channels: int = 40, classes: int = 3
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Classes about means of their own, with a common covariance that is far from round."""
    means = np.random.default_rng(9).normal(size=(classes, channels)) + 3
    chance = np.random.default_rng(seed)
    labels = chance.integers(classes, size=n)
    return means[labels] + chance.normal(size=(n, channels)) * np.geomspace(1, 0.05, channels), labels


def test_the_distance_is_that_of_the_nearest_mean_with_scikit_learns_shrunk_covariance() -> None:
    rows, labels = embeddings(120, 0)
    asked, _ = embeddings(30, 1)
    unit, other = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (rows, asked))
    means = np.stack([unit[labels == number].mean(axis=0) for number in range(3)])
    oracle = LedoitWolf(assume_centered=True).fit(unit - means[labels])
    offsets = other[:, None] - means
    expected = np.sqrt(np.einsum("ncd,de,nce->nc", offsets, oracle.precision_, offsets).min(axis=1))
    np.testing.assert_allclose(ood.score(asked, ood.fit(rows, labels)), expected, rtol=1e-4)
    within = unit - means[labels]
    assert ood.shrinkage(within, within.T @ within / len(within)) == pytest.approx(oracle.shrinkage_)


def test_it_is_exact_too_where_there_are_more_channels_than_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels = embeddings(20, 0)  # fewer images than axes: beyond them the shrunk covariance is round
    asked, _ = embeddings(30, 1)
    whole = ood.score(asked, ood.fit(rows, labels))
    monkeypatch.setattr(ood, "AXES", 20)
    cut = ood.fit(rows, labels)
    assert cut["axes"].shape == (20, 40) and cut["means"].dtype == np.float32
    np.testing.assert_allclose(ood.score(asked, cut), whole, rtol=1e-4)


def test_images_like_those_of_training_are_flagged_as_rarely_as_is_asked_for_and_others_mostly() -> None:
    parameters = ood.fit(*embeddings(400, 0))
    held, _ = embeddings(1000, 1)
    least = ood.threshold(ood.score(held, parameters), 0.05)
    assert (ood.score(held, parameters) > least).mean() <= 0.05
    fresh, _ = embeddings(2000, 2)
    assert (ood.score(fresh, parameters) > least).mean() == pytest.approx(0.05, abs=0.02)
    foreign = np.random.default_rng(3).normal(size=(200, 40)) + 3  # as large, and of no class
    assert (ood.score(foreign, parameters) > least).mean() > 0.95


def test_what_is_saved_of_each_phase_gives_the_same_score(tmp_path: Path) -> None:
    rows, labels = embeddings(60, 0)
    both = {"phase1": ood.fit(rows, labels), "phase2": ood.fit(rows + 1, labels)}
    ood.save(tmp_path / "u.npz", both, {phase: ood.score(rows, each) for phase, each in both.items()})
    for phase, parameters in both.items():
        loaded = ood.load(tmp_path / "u.npz", phase)
        assert loaded.keys() == parameters.keys()
        np.testing.assert_array_equal(ood.load_scores(tmp_path / "u.npz", phase), ood.score(rows, parameters))
        np.testing.assert_array_equal(ood.score(rows, loaded), ood.score(rows, parameters))
    assert ood.score(rows[:0], both["phase1"]).shape == (0,)
    assert ood.score(rows, both["phase1"]).dtype == np.float32


def test_one_image_a_class_and_images_that_are_all_alike_give_finite_scores() -> None:
    rows, _ = embeddings(3, 0)
    for given, of in (
        (rows, np.arange(3)),
        (np.ones((5, 40)), np.zeros(5, int)),
        (np.zeros((5, 40)), np.zeros(5, int)),
    ):
        assert np.isfinite(ood.score(rows, ood.fit(given, of))).all()
