import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from thaw import paths, records
from thaw.config import schema
from thaw.evaluation import baselines, comparison, held_out


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


def test_of_a_larger_problem_a_part_of_the_images_is_fitted_and_below_ten_a_class_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = drawn(400, 0), drawn(150, 1), drawn(200, 2)
    monkeypatch.setattr(baselines, "MOST", 100 * 30 * 4)
    right, about = baselines.logistic_regression(*parts)
    assert about["images"] == 100 and right.mean() > 0.7
    monkeypatch.setattr(baselines, "MOST", 39 * 30 * 4)
    with pytest.raises(baselines.LeftOutError, match="39 of 400 images"):
        baselines.logistic_regression(*parts)
    few = baselines.Embedded(parts[0].rows[:30], parts[0].labels[:30])  # all of them fit
    assert baselines.logistic_regression(few, *parts[1:])[1]["images"] == 30


def test_the_record_has_what_was_left_out_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(baselines, "MOST", 1)
    parts = {"train": drawn(60, 0), "val": drawn(30, 1), "test": drawn(40, 2)}
    splits = {}
    for name, part in parts.items():
        count = len(part.labels)
        splits[name] = held_out.Split(part.labels, np.arange(count), np.zeros(count, bool))
        records.write_arrays(paths.embeddings(paths.PHASE1, name), rows=part.rows, images=np.arange(count))
    options = schema.Evaluate([2], 0.9, 4, 5, True, False, 1, 0.001, 0.01, True, 0.9, [0.5], 0.2, 0.0)
    right = {phase: np.ones(40, bool) for phase in ("phase1", "phase2")}
    comparison.write(right, parts["test"].rows, splits, options, same=False)
    found = records.read_json(paths.VERDICT)
    assert set(found["baselines"]) == {"majority", "knn", "phase1", "phase2"}
    assert list(found["left_out"]) == ["logistic_regression"] and "of 60 images" in found["left_out"].popitem()[1]


def test_the_commonest_neighbour_of_equally_common_ones_is_the_smallest() -> None:
    labels = np.array([[7, 2, 2, 7, 9], [5, 4, 3, 2, 1], [9, 9, 0, 0, 0], [10**6, 1, 10**6, 1, 10**6]])
    assert baselines._votes(labels).tolist() == [2, 1, 0, 10**6]


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
