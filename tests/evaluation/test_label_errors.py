import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from thaw import paths, records
from thaw.evaluation import label_errors
from thaw.features import out_of_fold

NAMES = ["ant", "bee", "cow"]


def blobs(count: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features of three classes that lie apart, and their labels."""
    chance = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    centres = chance.normal(size=(3, 20)) * 2
    return (centres[labels] + chance.normal(size=(count, 20))).astype(np.float32), labels


def unseen(features: NDArray[np.float32], labels: NDArray[np.int64], classes: int = 3) -> NDArray[np.float32]:
    return np.concatenate(list(out_of_fold.probabilities(lambda chunk: features[chunk], labels, classes, seed=0)))


@pytest.mark.parametrize("at_once", [label_errors.AT_ONCE, 90], ids=["at once", "in parts"])
def test_planted_errors_and_no_others_are_found(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(label_errors, "AT_ONCE", at_once)
    features, truth = blobs(300)
    planted = [10, 50, 100, 151, 200, 251]
    labels = truth.copy()
    labels[planted] = (labels[planted] + 1) % 3
    probabilities = unseen(features, labels)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
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


@pytest.mark.parametrize("count", [0, 1, 3, 6])
def test_very_few_images_give_no_error(count: int) -> None:
    features, labels = blobs(6)
    probabilities = unseen(features, labels)[:count]
    rows = label_errors.suspects("val", [""] * count, labels[:count], probabilities, NAMES)
    assert all(row["label"] != row["suggested"] for row in rows)


@pytest.mark.parametrize("at_once", [label_errors.AT_ONCE, 30], ids=["at once", "in parts"])
def test_a_class_without_images_in_a_split_is_no_error(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(label_errors, "AT_ONCE", at_once)
    features, labels = blobs(60)
    probabilities = unseen(features, labels, 4)
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
    names: Sequence[str]
    labels: NDArray[np.integer[Any]]


def test_both_splits_are_searched_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    features, truth = blobs(300)
    labels = truth.copy()
    labels[[100, 200]] = (labels[[100, 200]] + 1) % 3
    train = Split([f"t{index}.png" for index in range(300)], labels)
    val = Split([f"v{index}.png" for index in range(30)], truth[:30].copy())
    val.labels[4] = (val.labels[4] + 1) % 3
    paths.PHASE1.mkdir(parents=True)
    np.save(paths.out_of_sample("train"), unseen(features, labels))
    np.save(paths.out_of_sample("val"), out_of_fold.softmax(5 * np.eye(3)[truth[:30]]))
    rows = label_errors.record(NAMES, {"train": train, "val": val})
    assert {(row["split"], row["path"]) for row in rows} == {
        ("train", "t100.png"),
        ("train", "t200.png"),
        ("val", "v4.png"),
    }
    written = records.read_csv(paths.SUSPECTS)
    assert [row["path"] for row in written] == [row["path"] for row in rows]


def test_a_table_that_is_too_large_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_errors, "AT_ONCE", 100_000)
    count, classes = 20_000, 250  # 20 MB of float32
    truth = np.arange(count) % classes
    table = np.lib.format.open_memmap(tmp_path / "table.npy", "w+", np.float32, (count, classes))
    table[:] = 0.5 / (classes - 1)
    table[np.arange(count), truth] = 0.5
    table.flush()
    labels, names = truth.copy(), [str(index) for index in range(count)]
    labels[:20] = (labels[:20] + 1) % classes
    tracemalloc.start()
    try:
        found = np.load(tmp_path / "table.npy", mmap_mode="r")
        rows = label_errors.suspects("train", names, labels, found, names[:classes])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert {row["path"] for row in rows} == set(names[:20])
    assert peak < 15e6
