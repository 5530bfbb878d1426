"""Ten thousand classes: no matrix of classes × classes is made, and the figures are those of fewer."""

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from thaw.evaluation import calibration, conformal, confusion, figures, metrics, out_of_distribution, pictures
from thaw.evaluation import probabilities as tables

MANY = 10_000


def answers(classes: int, images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, classes, images)
    wrong = chance.random(images) < 0.4
    return labels, np.where(wrong, (labels + chance.integers(1, 4, images)) % classes, labels)


def table(images: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that lean towards their labels, float32."""
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, classes, images)
    powers = np.exp(2 * chance.standard_normal((images, classes), np.float32))
    powers[np.arange(images), labels] *= 20
    return powers / powers.sum(axis=1, keepdims=True), labels


def test_cells_say_what_the_matrix_does(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, predicted = answers(160, 3000)
    names = [f"c{number}" for number in range(160)]
    dense = confusion.counted(labels, predicted, 160)
    assert isinstance(dense, np.ndarray) and dense.shape == (160, 160)
    monkeypatch.setattr(confusion, "DENSE", 100)
    sparse = confusion.counts([names[n] for n in labels], [names[n] for n in predicted], names)
    assert isinstance(sparse, confusion.Cells)
    assert confusion.confused(sparse, 50) == confusion.confused(dense, 50)
    assert confusion.matrix(sparse, names, "name") == confusion.matrix(dense, names, "name")
    rows = confusion.matrix(sparse, names, "name").rows
    assert [row["images"] for row in rows] == np.bincount(labels).tolist()
    assert [row["right"] for row in rows] == np.diag(dense).tolist()


def test_agreement_by_sums_is_that_of_the_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(5):
        given = answers(30, 400, seed)
        expected = metrics.agreement(*given)
        monkeypatch.setattr(metrics, "MANY", 10)
        assert metrics.agreement(*given) == pytest.approx(expected, rel=1e-12)
        monkeypatch.undo()
    monkeypatch.setattr(metrics, "MANY", 1)
    one = np.array([0, 0, 1]), np.array([2, 2, 2])
    by_sums = metrics.agreement(*one)
    monkeypatch.undo()
    assert by_sums == metrics.agreement(*one)


def test_ten_thousand_classes_take_no_matrix(tmp_path: Path) -> None:
    labels, predicted = answers(MANY, 20_000)
    names = [f"class {number}" for number in range(MANY)]
    tracemalloc.start()
    try:
        counts = confusion.counted(labels, predicted, MANY)
        found = confusion.matrix(counts, names, "name")
        pictures.confusion_picture(counts, names, "Title", tmp_path / "pairs.png")
        metrics.agreement(labels, predicted)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found.rows) == len(np.unique(labels)) and len(found.pairs) == confusion.PAIRS
    assert peak < 100e6, "a matrix of them has 800 MB"


def test_figures_are_the_same_in_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    held, tested = table(500, 40, 1), table(700, 40, 2)

    def found() -> tuple[object, ...]:
        record, (val, test) = calibration.record(held, tested, 0.9, 0.95)
        least = conformal.threshold(val, held[1], 0.9)
        sets = conformal.measured(test, tested[1], least, 0.95)
        return metrics.summary(*tested, [5], 0.95), record["temperature"], record["before"], record["after"], sets

    summary, *others = found()
    for module in (tables, metrics):
        monkeypatch.setattr(module, "AT_ONCE", 999)
    again, *rest = found()
    assert again == summary
    for one, other in zip(others, rest, strict=True):
        assert other == pytest.approx(one, rel=1e-9)


@pytest.mark.parametrize("images", [3, 40, 700])
def test_areas_by_counts_are_those_of_curves(monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    probabilities, labels = table(images, 40, images)
    coarse = np.round(probabilities * 30) + 0.1  # so that many are equal
    coarse /= coarse.sum(axis=1, keepdims=True)
    expected = [metrics.ranking(rows, labels) for rows in (probabilities, coarse)]
    monkeypatch.setattr(metrics, "MANY", 1)
    monkeypatch.setattr(metrics, "AT_ONCE", 999)
    for rows, areas in zip((probabilities, coarse), expected, strict=True):
        assert metrics.ranking(rows, labels) == pytest.approx(areas, rel=1e-9)


def test_distances_are_the_same_in_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(0)
    rows, labels = chance.normal(size=(300, 12)), chance.integers(0, 50, 300)
    parameters = out_of_distribution.fit(rows, labels)
    whole = out_of_distribution.score(rows, parameters)
    monkeypatch.setattr(out_of_distribution, "DISTANCES", 350)
    np.testing.assert_allclose(out_of_distribution.score(rows, parameters), whole, rtol=1e-6)


def test_a_table_is_in_memory_in_double_precision_in_part_only(monkeypatch: pytest.MonkeyPatch) -> None:
    held, tested = table(2000, 1000, 1), table(2000, 1000, 2)  # 16 MB each in double precision
    for module in (tables, metrics):
        monkeypatch.setattr(module, "AT_ONCE", 100_000)
    tracemalloc.start()
    try:
        _, (val, test) = calibration.record(held, tested, 0.9, 0.95)
        conformal.measured(test, tested[1], conformal.threshold(val, held[1], 0.9), 0.95)
        tables.read(*tested)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8e6


def test_a_thinned_curve_has_each_step_and_its_ends() -> None:
    chance = np.random.default_rng(0)
    for size in (1, 2, 30, 3000):
        points = np.stack([np.sort(chance.random(size)), chance.random(size)], axis=1)
        points[size // 2 :] = points[-1]
        expected = [points[0]]
        for before, point in itertools.pairwise(points):
            if np.abs(point - expected[-1]).max() >= 1 / figures.POINTS:
                expected += [point] if np.array_equal(before, expected[-1]) else [before, point]
        expected.append(points[-1])
        assert figures._thinned(points) == [(round(float(x), 4), round(float(y), 4)) for x, y in expected]
