import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from thaw.evaluation import baselines


def drawn(n: int, seed: int, noise: float = 2.0, classes: int = 4) -> baselines.Embedded:
    means = np.random.default_rng(9).normal(size=(classes, 30))
    chance = np.random.default_rng(seed)
    labels = chance.integers(classes, size=n)
    return baselines.Embedded((means[labels] + noise * chance.normal(size=(n, 30))).astype(np.float16), labels)


def test_the_majority_is_the_commonest_class_of_training() -> None:
    assert baselines.majority(np.array([2, 0, 2, 1, 0]), np.array([0, 2, 0])).tolist() == [True, False, True]


@pytest.mark.parametrize("fit", baselines.FITS.values(), ids=list(baselines.FITS))
def test_what_the_embeddings_tell_is_found_and_what_they_do_not_tell_is_not(fit: object) -> None:
    assert callable(fit)
    right, about = fit(drawn(300, 0), drawn(100, 1), drawn(200, 2))
    assert right.shape == (200,) and right.mean() > 0.75 and about["images"] == 300
    shuffled = drawn(300, 0)
    shuffled.labels = np.random.default_rng(0).permutation(shuffled.labels)
    assert fit(shuffled, drawn(100, 1), drawn(200, 2))[0].mean() < 0.45


def test_logistic_regression_is_scikit_learns_with_the_penalty_that_validation_likes_best() -> None:
    train, val, test = drawn(300, 0), drawn(150, 1), drawn(200, 2)
    right, about = baselines.logistic_regression(train, val, test)
    scaler = StandardScaler().fit(train.rows.astype(np.float32))
    features = [scaler.transform(part.rows.astype(np.float32)) for part in (train, val, test)]
    models = {c: LogisticRegression(C=c, max_iter=1000).fit(features[0], train.labels) for c in baselines.PENALTIES}
    scores = {c: float((model.predict(features[1]) == val.labels).mean()) for c, model in models.items()}
    assert scores[about["C"]] == max(scores.values())
    expected = models[about["C"]].predict(features[2]) == test.labels
    assert (right == expected).mean() > 0.98


def test_of_a_large_problem_one_penalty_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = drawn(300, 0), drawn(150, 1), drawn(200, 2)
    tried = baselines.logistic_regression(*parts)
    monkeypatch.setattr(baselines, "LARGE", 300 * 30 * 4 - 1)
    right, about = baselines.logistic_regression(*parts)
    assert about["C"] == baselines.ONE_PENALTY[0] != tried[1]["C"]
    assert right.mean() > 0.75


def test_k_is_the_number_of_neighbours_that_validation_likes_best() -> None:
    noisy = [drawn(300, seed, noise=3.0) for seed in range(3)]
    assert baselines.knn(*noisy)[1]["k"] == 20
    # Few images of each class, so that many neighbours are of others.
    assert baselines.knn(drawn(8, 0, noise=0.2), drawn(50, 1, noise=0.2), drawn(50, 2, noise=0.2))[1]["k"] == 1


def test_one_class_and_fewer_images_than_neighbours_are_answered_without_a_warning() -> None:
    one = baselines.Embedded(np.ones((3, 4), np.float16), np.zeros(3, int))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fit in baselines.FITS.values():
            assert fit(one, one, one)[0].all()
