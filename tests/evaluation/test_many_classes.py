"""Ten thousand classes: no matrix of classes × classes is made, and the figures are those of fewer."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from thaw.evaluation import confusion, metrics, pictures

MANY = 10_000


def answers(classes: int, images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, classes, images)
    wrong = chance.random(images) < 0.4
    return labels, np.where(wrong, (labels + chance.integers(1, 4, images)) % classes, labels)


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
