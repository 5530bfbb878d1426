import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize

from thaw.evaluation import calibration, intervals, metrics, probabilities


def drawn(n: int, heat: float, seed: int, classes: int = 4) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities of a model whose logits are ``heat`` times too large, and labels drawn from the true ones."""
    chance = np.random.default_rng(seed)
    logits = chance.normal(size=(n, classes)) * 2
    labels = np.array([chance.choice(classes, p=row) for row in softmax(logits)])
    return softmax(logits * heat), labels


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("heat", [0.4, 1.0, 3.0])
def test_the_temperature_is_that_of_the_labels_and_mends_what_the_model_is_too_sure_of(heat: float) -> None:
    held, tested = drawn(4000, heat, 0), drawn(4000, heat, 1)
    found = calibration.temperature(*held)
    assert found == pytest.approx(heat, rel=0.08)

    def loss(logarithm: float) -> float:
        logs = np.log(held[0]) / np.exp(logarithm)
        logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
        return float(-logs[np.arange(4000), held[1]].sum() - logs.mean())  # with the one image more

    best = optimize.minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-8})
    assert found == pytest.approx(np.exp(best.x), rel=1e-4)
    after = calibration.scaled(tested[0], found)
    assert metrics.calibration_error(after, tested[1]) < 0.03
    if heat != 1:
        assert metrics.calibration_error(tested[0], tested[1]) > 0.08
        assert metrics.cross_entropy(after, tested[1]) < metrics.cross_entropy(*tested)
    np.testing.assert_array_equal(after.argmax(axis=1), tested[0].argmax(axis=1))


def test_scaled_probabilities_are_those_of_the_divided_logits() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 5)) * 5
    np.testing.assert_allclose(calibration.scaled(softmax(logits), 2.5), softmax(logits / 2.5), rtol=1e-9)
    rounded = np.array([[1.0, 0.0, 0.0]], np.float32)
    assert np.isfinite(calibration.scaled(rounded, 0.05)).all()


def test_few_images_that_are_all_right_do_not_make_the_model_certain() -> None:
    rows = np.full((20, 4), 0.1)
    rows[:, 0] = 0.7
    sure = calibration.scaled(rows, calibration.temperature(rows, np.zeros(20, int))).max()
    assert 0.9 < sure < 1 - 1 / 50
    assert calibration.temperature(np.full((9, 3), 1 / 3), np.zeros(9, int)) > 0  # nothing to learn from


def test_the_reliability_diagram_adds_up_to_the_calibration_error() -> None:
    rows, labels = drawn(600, 2.0, 3)
    found = calibration.reliability(probabilities.read(rows, labels))
    assert len(found) == calibration.BINS and sum(row["count"] for row in found) == 600
    full = [row for row in found if row["count"]]
    error = sum(row["count"] * abs(row["accuracy"] - row["confidence"]) for row in full) / 600
    assert error == pytest.approx(metrics.calibration_error(rows, labels))
    assert all(row["low"] < row["confidence"] <= row["high"] for row in full)
    assert {row["accuracy"] for row in found if not row["count"]} <= {None}
    three = probabilities.read(np.array([[0.6, 0.4], [0.7, 0.3], [0.9, 0.1]]), np.array([0, 1, 0]))
    by_hand = calibration.reliability(three, bins=2)
    assert by_hand[1] == {"low": 0.5, "high": 1.0, "count": 3, "confidence": pytest.approx(2.2 / 3), "accuracy": 2 / 3}


def test_accuracy_against_coverage_of_a_case_by_hand() -> None:
    sure = np.array([0.9, 0.8, 0.8, 0.6])
    right = np.array([True, False, True, False])
    found = calibration.coverage(sure, right, 0.95)
    assert [(row["threshold"], row["coverage"], row["accuracy"]) for row in found] == [
        (0.9, 0.25, 1.0),
        (0.8, 0.75, 2 / 3),
        (0.6, 1.0, 0.5),
    ]
    assert (found[1]["low"], found[1]["high"]) == intervals.accuracy(right[:3], 0.95)


def test_the_threshold_for_a_precision_is_the_smallest_that_gives_it() -> None:
    sure = np.array([0.9, 0.8, 0.7, 0.7, 0.6])
    right = np.array([True, True, True, False, False])
    assert calibration.threshold(sure, right, 0.9) == 0.8  # of the two at 0.7 one is wrong
    assert calibration.threshold(sure, right, 0.75) == 0.7
    assert calibration.threshold(sure, right, 0.6) == 0.0
    assert calibration.threshold(sure, ~right, 0.9) is None


def test_abstention_is_measured_on_other_images_than_its_threshold_comes_from() -> None:
    held, tested = drawn(3000, 1.0, 5), drawn(3000, 1.0, 6)
    answers = [(rows.max(axis=1), rows.argmax(axis=1) == labels) for rows, labels in (held, tested)]
    found = calibration.abstention(answers[0], answers[1], 0.9, 0.95)
    assert found["precision"] == pytest.approx(0.9, abs=0.03) and 0.2 < (found["coverage"] or 0) < 0.9
    chosen = answers[1][0] >= (found["threshold"] or 0)
    assert (found["low"], found["high"]) == intervals.accuracy(answers[1][1][chosen], 0.95)
    none = calibration.abstention((answers[0][0], np.zeros(3000, bool)), answers[1], 0.9, 0.95)
    assert none == {"wanted": 0.9, **dict.fromkeys(("threshold", "coverage", "precision", "low", "high"))}
