"""The figures of the test, checked against scikit-learn and SciPy and at the edges."""

import json
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, stats
from sklearn import metrics as sk

from thaw import metrics


def answers(images: int, classes: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Random probabilities that lean towards their random labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images)
    logits = random.normal(size=(images, classes)) + 2 * np.eye(classes)[labels]
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True), labels


def pair(both: int, only_a: int, only_b: int, neither: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two rows of right and wrong with the given counts."""
    counts = [both, only_a, only_b, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


@pytest.mark.parametrize("classes", [2, 7])
def test_loss_brier_and_top_k_agree_with_scikit_learn(classes: int) -> None:
    probabilities, labels = answers(500, classes, seed=classes)
    every = list(range(classes))
    assert metrics.cross_entropy(probabilities, labels) == pytest.approx(
        sk.log_loss(labels, probabilities, labels=every)
    )
    expected = sk.brier_score_loss(labels, probabilities, labels=every, scale_by_half=False)
    assert metrics.brier(probabilities, labels) == pytest.approx(expected)
    for k in range(1, classes):
        scores = probabilities if classes > 2 else probabilities[:, 1]
        expected = sk.top_k_accuracy_score(labels, scores, k=k, labels=every)
        assert metrics.top_k_accuracy(probabilities, labels, k) == pytest.approx(expected)


def test_a_probability_of_zero_costs_the_floor_and_no_more() -> None:
    loss = metrics.cross_entropy(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([1, 0]))
    assert loss == pytest.approx(-math.log(metrics.FLOOR) / 2)
    small = np.array([[1 - 1e-30, 1e-30]])
    assert metrics.cross_entropy(small, np.array([1])) == pytest.approx(30 * math.log(10))


def test_ties_go_to_the_lower_class_and_top_1_is_the_accuracy_of_argmax() -> None:
    probabilities = np.full((4, 4), 0.25)
    labels = np.array([0, 1, 2, 3])
    assert [metrics.top_k_accuracy(probabilities, labels, k) for k in (1, 2, 3, 4, 9)] == [0.25, 0.5, 0.75, 1, 1]
    assert metrics.top_k_accuracy(probabilities, np.array([3, 3, 3, 3]), 3) == 0
    coarse, labels = answers(300, 5, seed=1)
    coarse = np.round(coarse * 4 + 0.01)
    coarse = (coarse + 1) / (coarse + 1).sum(axis=1, keepdims=True)
    right = (coarse.argmax(axis=1) == labels).mean()
    assert metrics.top_k_accuracy(coarse, labels, 1) == pytest.approx(right)


@pytest.mark.parametrize(
    ("labels", "predicted", "classes"),
    [
        (np.random.default_rng(0).integers(0, 5, 400), np.random.default_rng(1).integers(0, 5, 400), 5),
        (np.array([0, 1, 2, 2]), np.array([0, 1, 1, 1]), 3),  # a class that is never predicted
        (np.array([0, 0, 1]), np.array([0, 2, 1]), 3),  # a class without images
        (np.array([1, 0, 1]), np.array([1, 0, 1]), 2),  # all right
        (np.array([1, 0, 1]), np.array([0, 1, 0]), 2),  # all wrong
        (np.array([1]), np.array([1]), 4),  # one image
    ],
)
def test_confusion_and_the_figures_per_class_agree_with_scikit_learn(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> None:
    every = list(range(classes))
    counts = metrics.confusion(labels, predicted, classes)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, sk.confusion_matrix(labels, predicted, labels=every))

    rows = metrics.per_class(counts)
    expected = sk.precision_recall_fscore_support(labels, predicted, labels=every, zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose([row[name] for row in rows], values, atol=1e-15)

    means = metrics.averages(counts)
    for kind in ("macro", "weighted"):
        scores = sk.precision_recall_fscore_support(labels, predicted, labels=every, average=kind, zero_division=0)
        for name, value in zip(("precision", "recall", "f1"), scores[:3], strict=True):
            assert means[f"{kind}_{name}"] == pytest.approx(value)
    recalls = sk.recall_score(labels, predicted, labels=sorted(set(labels.tolist())), average="macro", zero_division=0)
    assert means["balanced_accuracy"] == pytest.approx(recalls)


def test_rows_of_the_confusion_are_the_actual_class() -> None:
    counts = metrics.confusion(np.array([0, 0, 0]), np.array([1, 1, 0]), 2)
    assert counts.tolist() == [[1, 2], [0, 0]]


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 40), (40, 40), (3, 40), (887, 1000)])
def test_wilson_agrees_with_scipy(successes: int, n: int, confidence: float) -> None:
    expected = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    low, high = metrics.wilson(successes, n, confidence)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= low <= successes / n <= high <= 1


@pytest.mark.parametrize(
    ("only_a", "only_b"),
    [(0, 0), (0, 1), (5, 5), (2, 12), (12, 2), (0, 30), (400, 470), (49_500, 50_500), (0, 100_000)],
)
def test_mcnemar_agrees_with_the_binomial_test_of_scipy(only_a: int, only_b: int) -> None:
    result = metrics.mcnemar(*pair(3, only_a, only_b, 4))
    expected = stats.binomtest(only_a, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
    assert (result["only_a"], result["only_b"]) == (only_a, only_b)
    assert result["p_value"] == pytest.approx(expected, rel=1e-6, abs=1e-300)


def test_difference_gives_the_published_interval() -> None:
    # Fagerland, Lydersen and Laake 2014, airway reactivity of 21 children: Tango's interval is -0.517 to -0.026.
    result = metrics.difference(*pair(1, 7, 1, 12), 0.95)
    assert result["accuracy"] == pytest.approx(-6 / 21)
    assert (result["accuracy_low"], result["accuracy_high"]) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize(("both", "only_a", "only_b", "neither"), [(80, 5, 9, 6), (300, 0, 4, 20), (10, 30, 2, 1)])
def test_the_ends_of_the_difference_lie_where_the_score_test_turns(
    both: int, only_a: int, only_b: int, neither: int
) -> None:
    n = both + only_a + only_b + neither
    result = metrics.difference(*pair(both, only_a, only_b, neither), 0.9)
    for end, sign in ((result["accuracy_low"], 1), (result["accuracy_high"], -1)):
        # The likeliest probabilities of the four cells with the difference held at this end, found numerically.
        def unlikely(lost: float, end: float = end) -> float:
            gained = lost + end
            logs = (only_a * math.log(lost), only_b * math.log(gained), (both + neither) * math.log(1 - lost - gained))
            return -sum(logs)

        bounds = (max(0.0, -end) + 1e-9, (1 - end) / 2 - 1e-9)
        lost = optimize.minimize_scalar(unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
        score = (only_b - only_a - n * end) / math.sqrt(n * (2 * lost + end - end**2))
        assert score == pytest.approx(sign * stats.norm.ppf(0.95), abs=1e-4)


def test_difference_holds_at_the_edges_and_turns_with_its_sides() -> None:
    z2 = stats.norm.ppf(0.975) ** 2
    same = metrics.difference(*pair(5, 0, 0, 5), 0.95)
    assert same["accuracy"] == 0
    assert (same["accuracy_low"], same["accuracy_high"]) == pytest.approx((-z2 / (10 + z2), z2 / (10 + z2)))
    one = metrics.difference(*pair(0, 0, 1, 0), 0.95)
    assert one["accuracy"] == one["accuracy_high"] == 1
    assert -1 < one["accuracy_low"] < 1
    forth = metrics.difference(*pair(50, 3, 11, 6), 0.95)
    back = metrics.difference(*pair(50, 11, 3, 6), 0.95)
    assert (forth["accuracy_low"], forth["accuracy_high"]) == pytest.approx(
        (-back["accuracy_high"], -back["accuracy_low"])
    )


def test_the_interval_of_the_difference_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    cells = np.array([0.85, 0.03, 0.07, 0.05])  # both, only a, only b, neither
    covered = 0
    for counts in random.multinomial(120, cells, size=1000).tolist():
        result = metrics.difference(*pair(*counts), 0.95)
        covered += result["accuracy_low"] <= cells[2] - cells[1] <= result["accuracy_high"]
    assert 930 <= covered <= 970


def test_calibration_is_the_gap_between_confidence_and_accuracy() -> None:
    # 0.9 sure and right three times of four; 0.6 sure and right once of two.
    probabilities = np.array([[0.9, 0.1]] * 4 + [[0.4, 0.6]] * 2)
    labels = np.array([0, 0, 0, 1, 1, 0])
    result = metrics.calibration(probabilities, labels, bins=10)
    assert result["ece"] == pytest.approx((4 * 0.15 + 2 * 0.1) / 6)
    assert [(bin_["images"], bin_["accuracy"]) for bin_ in result["bins"]] == [(2, 0.5), (4, 0.75)]
    assert sum(bin_["images"] for bin_ in result["bins"]) == 6


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    result = metrics.calibration(np.array([[0.75, 0.25], [0.5, 0.5]]), np.array([0, 0]), bins=4)
    assert [(bin_["low"], bin_["high"], bin_["images"]) for bin_ in result["bins"]] == [(0.25, 0.5, 1), (0.5, 0.75, 1)]


def test_calibration_is_zero_for_answers_that_are_sure_and_right_and_counts_every_image() -> None:
    certain = np.eye(3)[[0, 1, 2]]
    assert metrics.calibration(certain, np.array([0, 1, 2]))["ece"] == 0
    assert metrics.calibration(certain, np.array([1, 2, 0]))["ece"] == 1
    probabilities, labels = answers(400, 4, seed=3)
    result = metrics.calibration(probabilities, labels)
    assert sum(bin_["images"] for bin_ in result["bins"]) == 400
    assert all(bin_["low"] < bin_["confidence"] <= bin_["high"] for bin_ in result["bins"])


def test_summary_is_flat_plain_and_says_what_the_parts_say() -> None:
    probabilities, labels = answers(200, 4, seed=5)
    result = metrics.summary(probabilities.astype(np.float32), labels, [1, 2, 9], 0.95)
    assert list(result) == [
        "images", "loss", "accuracy", "accuracy_low", "accuracy_high", "top_2_accuracy", "top_9_accuracy",
        "macro_precision", "macro_recall", "macro_f1", "ece", "brier",
    ]  # fmt: skip
    assert {type(value) for value in result.values()} == {int, float}
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    predicted = probabilities.argmax(axis=1)
    assert result["accuracy"] == pytest.approx(sk.accuracy_score(labels, predicted))
    assert result["macro_f1"] == pytest.approx(sk.f1_score(labels, predicted, average="macro"))
    assert result["top_9_accuracy"] == 1
    assert (result["accuracy_low"], result["accuracy_high"]) == metrics.wilson(
        int((predicted == labels).sum()), 200, 0.95
    )


def test_summary_of_one_image_is_finite() -> None:
    for label in (0, 1):
        result = metrics.summary(np.array([[1.0, 0.0]]), np.array([label]), [], 0.95)
        assert result["accuracy"] == 1 - label
        assert all(math.isfinite(value) for value in result.values())


EVEN = np.full((2, 2), 0.5)


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (np.array([[2.0, -1.0]]), np.array([0]), "softmax"),
        (np.array([[0.5, 0.6]]), np.array([0]), "sum to 1"),
        (np.array([[np.nan, 1.0]]), np.array([0]), "finite"),
        (np.array([0.5, 0.5]), np.array([0]), r"shape \(images, classes\)"),
        (np.empty((0, 2)), np.empty(0, int), r"shape \(images, classes\)"),
        (np.array([[1, 0]]), np.array([0]), "expected float"),
        (EVEN, np.array([0, 2]), "expected 0 to 1, received 0 to 2"),
        (EVEN, np.array([0, -1]), "received -1 to 0"),
        (EVEN, np.array([0.0, 1.0]), "one integer per image"),
        (EVEN, np.array([0, 1, 0]), "each of the 2 images, received 3"),
    ],
)
def test_probabilities_and_labels_that_cannot_be_are_refused(
    probabilities: NDArray[Any], labels: NDArray[Any], message: str
) -> None:
    for figure in (metrics.cross_entropy, metrics.brier, metrics.calibration):
        with pytest.raises(ValueError, match=message):
            figure(probabilities, labels)
    with pytest.raises(ValueError, match=message):
        metrics.top_k_accuracy(probabilities, labels, 1)
    with pytest.raises(ValueError, match=message):
        metrics.summary(probabilities, labels, [], 0.95)


def test_other_arguments_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="k of 1 or more, received 0"):
        metrics.top_k_accuracy(EVEN, np.array([0, 1]), 0)
    with pytest.raises(ValueError, match="bins"):
        metrics.calibration(EVEN, np.array([0, 1]), bins=0)
    with pytest.raises(ValueError, match="as many as the 2 labels, received 1"):
        metrics.confusion(np.array([0, 1]), np.array([0]), 2)
    with pytest.raises(ValueError, match="square"):
        metrics.per_class(np.zeros((2, 3), np.int64))
    with pytest.raises(ValueError, match="at least one image"):
        metrics.averages(np.zeros((2, 2), np.int64))
    for successes, n in ((2, 1), (-1, 3), (0, 0)):
        with pytest.raises(ValueError, match="wilson"):
            metrics.wilson(successes, n, 0.95)
    with pytest.raises(ValueError, match="confidence"):
        metrics.wilson(1, 2, 95)
    with pytest.raises(ValueError, match="one bool for each"):
        metrics.mcnemar(np.array([True]), np.array([True, False]))
    with pytest.raises(ValueError, match="one bool for each"):
        metrics.difference(np.array([1, 0]), np.array([1, 1]), 0.95)
