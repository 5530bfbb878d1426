"""The figures of the test, checked against scikit-learn and SciPy and at the edges."""

import json
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import calibration
from sklearn import metrics as sk

from thaw.evaluation import intervals, metrics


def answers(images: int, classes: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Random probabilities that lean towards their random labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images)
    logits = random.normal(size=(images, classes)) + 2 * np.eye(classes)[labels]
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True), labels


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
    ("labels", "predicted", "counts", "precision", "recall", "f1"),
    [
        ([0, 0, 0, 1, 1], [0, 0, 1, 1, 0], [[2, 1], [1, 1]], [2 / 3, 1 / 2], [2 / 3, 1 / 2], [2 / 3, 1 / 2]),
        # The last class is never predicted.
        ([0, 1, 2, 2], [0, 1, 1, 1], [[1, 0, 0], [0, 1, 0], [0, 2, 0]], [1, 1 / 3, 0], [1, 1, 0], [1, 1 / 2, 0]),
        ([1, 0, 1], [1, 0, 1], [[1, 0], [0, 2]], [1, 1], [1, 1], [1, 1]),
        ([1, 0, 1], [0, 1, 0], [[0, 1], [2, 0]], [0, 0], [0, 0], [0, 0]),
        # Classes without images were not tested: they have no figures and count in no mean, also if they are answered.
        ([0, 0, 1], [0, 2, 1], [[1, 0, 1], [0, 1, 0], [0] * 3], [1, 1, None], [1 / 2, 1, None], [2 / 3, 1, None]),
        ([1], [1], [[0, 0, 0], [0, 1, 0], [0, 0, 0]], [None, 1, None], [None, 1, None], [None, 1, None]),
    ],
)
def test_figures_per_class_and_their_means_are_those_counted_by_hand(
    labels: list[int],
    predicted: list[int],
    counts: list[list[int]],
    precision: list[float | None],
    recall: list[float | None],
    f1: list[float | None],
) -> None:
    given, classes = (np.array(labels), np.array(predicted)), len(counts)
    found = metrics.confusion(*given, classes)
    assert found.tolist() == counts and found.dtype == np.int64
    rows = metrics.per_class(*given, classes)
    assert [row["support"] for row in rows] == [sum(row) for row in counts]
    assert {type(value) for row in rows for value in row.values()} <= {float, int, type(None)}
    means = metrics.macro(*given)
    assert list(means) == ["macro_precision", "macro_recall", "macro_f1"]
    for name, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
        assert [row[name] for row in rows] == pytest.approx(expected)
        assert means[f"macro_{name}"] == pytest.approx(np.mean([value for value in expected if value is not None]))


def test_rows_of_the_confusion_are_the_actual_class() -> None:
    counts = metrics.confusion(np.array([0, 0, 0]), np.array([1, 1, 0]), 2)
    assert counts.tolist() == [[1, 2], [0, 0]]


def test_calibration_is_the_gap_between_confidence_and_accuracy() -> None:
    # 0.9 sure and right three times of four; 0.6 sure and right once of two.
    probabilities = np.array([[0.9, 0.1]] * 4 + [[0.4, 0.6]] * 2)
    labels = np.array([0, 0, 0, 1, 1, 0])
    assert metrics.calibration_error(probabilities, labels, bins=10) == pytest.approx((4 * 0.15 + 2 * 0.1) / 6)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    for sure, bins, expected in (((0.75, 0.5), 2, (0.25 + 0.5) / 2), ((0.75, 0.7), 4, (0.7 - 0.25) / 2)):
        probabilities = np.array([[share, 1 - share] for share in sure])
        found = metrics.calibration_error(probabilities, np.array([0, 1]), bins)  # the first is right, the other wrong
        assert found == pytest.approx(expected)


def test_a_confidence_that_rounding_puts_above_one_belongs_to_the_last_bin() -> None:
    above = np.array([[1.0005, 0.0], [0.97, 0.03]])
    found = metrics.calibration_error(above, np.array([0, 0]), 15)  # both in the last of the usual 15
    assert found == pytest.approx(abs(1 - above[:, 0].mean()))


def test_in_one_bin_calibration_is_the_gap_of_the_means() -> None:
    probabilities, labels = answers(50, 3, seed=1)
    right = probabilities.argmax(axis=1) == labels
    gap = abs(float(probabilities.max(axis=1).mean() - right.mean()))
    assert metrics.calibration_error(probabilities, labels, 1) == pytest.approx(gap)


def test_calibration_is_zero_for_answers_that_are_sure_and_right() -> None:
    certain = np.eye(3)[[0, 1, 2]]
    assert metrics.calibration_error(certain, np.array([0, 1, 2])) == 0
    assert metrics.calibration_error(certain, np.array([1, 2, 0])) == 1


def test_bins_of_confidence_are_those_of_scikit_learn() -> None:
    probabilities, labels = answers(400, 2, seed=3)
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    accuracy, confidence = calibration.calibration_curve(right, sure, n_bins=15)
    held = np.histogram(sure, np.linspace(0, 1, 16))[0]
    expected = np.average(np.abs(accuracy - confidence), weights=held[held > 0])
    assert metrics.calibration_error(probabilities, labels) == pytest.approx(expected)


def test_summary_is_flat_plain_and_says_what_the_parts_say() -> None:
    probabilities, labels = answers(200, 4, seed=5)
    result = metrics.summary(probabilities.astype(np.float32), labels, [1, 2, 9], 0.95)
    assert list(result) == [
        "images", "units", "loss", "accuracy", "accuracy_low", "accuracy_high", "top_2_accuracy", "top_9_accuracy",
        "macro_precision", "macro_recall", "macro_f1", "balanced_accuracy", "weighted_f1", "mcc", "kappa",
        "roc_auc", "pr_auc", "log_loss", "ece", "brier",
    ]  # fmt: skip
    assert {type(value) for value in result.values()} == {int, float}
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    predicted = probabilities.argmax(axis=1)
    assert result["accuracy"] == pytest.approx(sk.accuracy_score(labels, predicted))
    assert result["macro_f1"] == pytest.approx(sk.f1_score(labels, predicted, average="macro"))
    assert result["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, predicted))
    assert result["weighted_f1"] == pytest.approx(sk.f1_score(labels, predicted, average="weighted"))
    assert result["mcc"] == pytest.approx(sk.matthews_corrcoef(labels, predicted))
    assert result["kappa"] == pytest.approx(sk.cohen_kappa_score(labels, predicted))
    assert result["log_loss"] == pytest.approx(sk.log_loss(labels, probabilities), rel=1e-5)
    one_against_others = sk.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert result["roc_auc"] == pytest.approx(one_against_others, rel=1e-5)
    areas = [sk.average_precision_score(labels == each, probabilities[:, each]) for each in range(4)]
    assert result["pr_auc"] == pytest.approx(np.mean(areas), rel=1e-5)
    assert result["top_9_accuracy"] == 1
    assert (result["accuracy_low"], result["accuracy_high"]) == intervals.wilson(
        int((predicted == labels).sum()), 200, 0.95
    )


def test_summary_counts_units_where_images_are_not_independent() -> None:
    probabilities, labels = answers(30, 3, seed=2)
    alone = metrics.summary(probabilities, labels, [], 0.95)
    assert alone["units"] == alone["images"] == 30
    units = np.arange(30) // 3
    grouped = metrics.summary(probabilities, labels, [], 0.95, units)
    assert (grouped["units"], grouped["images"]) == (10, 30)
    right = probabilities.argmax(axis=1) == labels
    assert (grouped["accuracy_low"], grouped["accuracy_high"]) == intervals.accuracy(right, 0.95, units)


def test_summary_of_one_image_is_finite() -> None:
    for label in (0, 1):
        result = metrics.summary(np.array([[1.0, 0.0]]), np.array([label]), [], 0.95)
        assert result["accuracy"] == 1 - label
        assert (result.pop("roc_auc"), result.pop("pr_auc")) == (None, None)
        assert all(math.isfinite(value) for value in result.values())


def test_agreement_and_ranking_of_a_case_by_hand() -> None:
    """Compare with three of four right in class 0, one of two in class 1, and an answer for class 2 without images."""
    labels, predicted = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 2, 1, 0])
    found = metrics.agreement(labels, predicted)
    assert found["balanced_accuracy"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    f1_of_0, f1_of_1 = 2 * 3 / (4 + 4), 2 * 1 / (2 + 1)
    assert found["weighted_f1"] == pytest.approx((4 * f1_of_0 + 2 * f1_of_1) / 6)
    by_chance = (4 * 4 + 2 * 1) / 36
    assert found["kappa"] == pytest.approx((4 / 6 - by_chance) / (1 - by_chance))
    # Matthews: (right × n − Σ labels × answers) / √((n² − Σ answers²)(n² − Σ labels²)).
    assert found["mcc"] == pytest.approx((4 * 6 - 18) / math.sqrt((36 - 18) * (36 - 20)))
    # Of the four pairs of an image of each class, three are in order, for either class.
    rows = np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8]])
    assert metrics.ranking(rows, np.array([0, 0, 1, 1])) == {
        "roc_auc": pytest.approx(3 / 4),
        "pr_auc": pytest.approx((0.5 * (1 + 2 / 3) + 0.5 * (1 + 2 / 3)) / 2),
    }
    assert metrics.agreement(np.zeros(3, int), np.zeros(3, int)) == {
        "balanced_accuracy": 1.0, "weighted_f1": 1.0, "mcc": 0.0, "kappa": 1.0
    }  # fmt: skip


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
    for figure in (metrics.cross_entropy, metrics.brier, metrics.calibration_error):
        with pytest.raises(ValueError, match=message):
            figure(probabilities, labels)
    with pytest.raises(ValueError, match=message):
        metrics.top_k_accuracy(probabilities, labels, 1)
    with pytest.raises(ValueError, match=message):
        metrics.summary(probabilities, labels, [], 0.95)


def test_other_arguments_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="k of 1 or more, received 0"):
        metrics.top_k_accuracy(EVEN, np.array([0, 1]), 0)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        metrics.confusion(np.array([0, 1]), np.array([0]), 2)
    for figure in (metrics.confusion, metrics.per_class):
        with pytest.raises(ValueError, match="predicted: expected 0 to 1, received 0 to 2"):
            figure(np.array([0, 1]), np.array([0, 2]), 2)
        with pytest.raises(ValueError, match="labels: expected one integer per image"):
            figure(np.empty(0, int), np.empty(0, int), 2)
