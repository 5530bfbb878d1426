from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from thaw import label_errors, layout, records

NAMES = ["ant", "bee", "cow"]


def blobs(count: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features of three classes that lie apart, and their labels."""
    chance = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    centres = chance.normal(size=(3, 20)) * 2
    return (centres[labels] + chance.normal(size=(count, 20))).astype(np.float32), labels


def test_planted_errors_and_no_others_are_found() -> None:
    features, truth = blobs(300)
    planted = [10, 50, 100, 151, 200, 251]
    labels = truth.copy()
    labels[planted] = (labels[planted] + 1) % 3
    probabilities = label_errors.cross_validated(features, labels, 3, seed=0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    names = [f"{index}.png" for index in range(300)]
    rows = label_errors.ranked(label_errors.suspects("train", names, labels, probabilities, NAMES))
    # Not all: those that the model is less sure of than of an average image of the class might be right.
    assert len(rows) >= 4
    assert {row["path"] for row in rows} <= {f"{index}.png" for index in planted}
    for row in rows:
        index = int(row["path"].split(".")[0])
        assert (row["label"], row["suggested"]) == (NAMES[labels[index]], NAMES[truth[index]])
        assert row["label_probability"] < row["suggested_probability"]
        assert tuple(row) == label_errors.COLUMNS


def test_what_is_said_of_an_image_does_not_come_from_its_own_label() -> None:
    features, labels = blobs(60)
    changed = labels.copy()
    changed[7] = (changed[7] + 1) % 3
    # Classes of one size are divided alike, so a changed label moves few images to other folds; its own guess stays.
    first = label_errors.cross_validated(features, labels, 3, seed=0)
    second = label_errors.cross_validated(features, changed, 3, seed=0)
    assert first[7].argmax() == second[7].argmax() == labels[7]


def test_the_same_seed_gives_the_same_probabilities() -> None:
    features, labels = blobs(90)
    first = label_errors.cross_validated(features, labels, 3, seed=1)
    np.testing.assert_array_equal(first, label_errors.cross_validated(features, labels, 3, seed=1))
    assert (first != label_errors.cross_validated(features, labels, 3, seed=2)).any()


@pytest.mark.parametrize("count", [0, 1, 3, 6])
def test_very_few_images_give_no_error(count: int) -> None:
    features, labels = blobs(6)
    probabilities = label_errors.cross_validated(features, labels, 3, seed=0)[:count]
    rows = label_errors.suspects("val", [""] * count, labels[:count], probabilities, NAMES)
    assert all(row["label"] != row["suggested"] for row in rows)


def test_a_class_without_images_in_a_split_is_no_error() -> None:
    features, labels = blobs(60)
    probabilities = label_errors.cross_validated(features, labels, 4, seed=0)
    wrong = labels.copy()
    wrong[0] = 1
    rows = label_errors.suspects("val", [str(i) for i in range(60)], wrong, probabilities, [*NAMES, "doe"])
    assert rows[0]["path"] == "0"


def test_suspects_of_several_splits_are_ranked_together() -> None:
    rows = [
        {"path": path, "label_probability": own, "suggested_probability": other}
        for path, own, other in (("a", 0.2, 0.8), ("b", 0.1, 0.5), ("c", 0.1, 0.9))
    ]
    assert [row["path"] for row in label_errors.ranked(rows)] == ["c", "b", "a"]


@dataclass
class Split:
    names: list[str]
    labels: NDArray[np.integer[Any]]


def test_both_splits_are_searched_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    features, truth = blobs(300)
    labels = truth.copy()
    labels[[100, 200]] = (labels[[100, 200]] + 1) % 3
    train = Split([f"t{index}.png" for index in range(300)], labels)
    val = Split([f"v{index}.png" for index in range(30)], truth[:30].copy())
    val.labels[4] = (val.labels[4] + 1) % 3
    rows = label_errors.record(NAMES, train, features, val, 5 * np.eye(3)[truth[:30]], seed=0)
    assert {(row["split"], row["path"]) for row in rows} == {
        ("train", "t100.png"),
        ("train", "t200.png"),
        ("val", "v4.png"),
    }
    written = records.read_csv(layout.SUSPECTS)
    assert [row["path"] for row in written] == [row["path"] for row in rows]


def test_scores_of_any_size_become_probabilities() -> None:
    found = label_errors.softmax(np.array([[1000.0, 1000.0], [-1000.0, 0.0]]))
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.0, 1.0]])
