import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from thaw.evaluation import label_errors
from thaw.features import out_of_fold


def blobs(count: int, classes: int = 3, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features of classes that lie apart, and their labels."""
    chance = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = chance.normal(size=(classes, 20)) * 2
    return (3 + centres[labels] + chance.normal(size=(count, 20))).astype(np.float32), labels


def probabilities(
    features: NDArray[np.float32], labels: NDArray[np.int64], seed: int = 0, units: Sequence[str] = ()
) -> NDArray[np.float32]:
    return np.concatenate(list(out_of_fold.probabilities(lambda chunk: features[chunk], labels, 3, seed, units)))


def test_it_is_the_ridge_regression_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = blobs(157)
    monkeypatch.setattr(out_of_fold, "CHUNK", 32)  # sums of chunks are sums of all
    found: list[NDArray[Any]] = []
    softmax = out_of_fold.softmax

    def watched(scores: NDArray[Any]) -> NDArray[np.float64]:
        found.append(scores)
        return softmax(scores)

    monkeypatch.setattr(out_of_fold, "SHARPNESS", np.ones(1))
    monkeypatch.setattr(out_of_fold, "softmax", watched)
    probabilities(features, labels, seed=5)
    shuffled = np.random.default_rng(5).permutation(157)
    fold = np.empty(157, int)
    fold[shuffled[np.argsort(labels[shuffled], kind="stable")]] = np.arange(157) % 5
    scaled, wanted = (features - features.mean(0)) / features.std(0), np.eye(3)[labels]
    scores = np.concatenate(found[:5])  # of five chunks
    for number in range(5):
        model = Ridge(alpha=20).fit(scaled[fold != number], wanted[fold != number])
        np.testing.assert_allclose(scores[fold == number], model.predict(scaled[fold == number]), atol=1e-4)


def test_a_channel_that_is_large_and_constant_changes_nothing() -> None:
    chance = np.random.default_rng(0)
    labels = chance.integers(0, 3, 4000)
    features = chance.normal(size=(4000, 32)).astype(np.float32)
    features[:, 0] += labels * 2
    features[:, 1] = 0
    expected = probabilities(features, labels)
    features[:, 1] = 300
    np.testing.assert_allclose(probabilities(features, labels), expected, atol=1e-4)


def test_what_is_said_of_an_image_does_not_come_from_its_own_label() -> None:
    features, labels = blobs(60)
    changed = labels.copy()
    changed[7] = (changed[7] + 1) % 3
    # Classes of one size are divided alike, so a changed label moves few images to other folds; its own guess stays.
    first = probabilities(features, labels)
    second = probabilities(features, changed)
    assert first[7].argmax() == second[7].argmax() == labels[7]


def test_the_same_seed_gives_the_same_probabilities() -> None:
    features, labels = blobs(90)
    first = probabilities(features, labels, 1)
    np.testing.assert_array_equal(first, probabilities(features, labels, 1))
    assert (first != probabilities(features, labels, 2)).any()


def test_scores_of_any_size_become_probabilities() -> None:
    found = out_of_fold.softmax(np.array([[1000.0, 1000.0], [-1000.0, 0.0]]))
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.0, 1.0]])


@pytest.mark.parametrize("count", [1, 3, 6])
def test_very_few_images_are_enough(count: int) -> None:
    features, labels = blobs(count)
    found = probabilities(features, labels)
    assert found.shape == (count, 3)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)


def test_what_the_trained_head_says_comes_in_the_images_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out_of_fold, "CHUNK", 4)
    features, _ = blobs(10)
    found = np.concatenate(list(out_of_fold.trained(lambda chunk: features[chunk], 10, lambda rows: rows[:, :3])))
    np.testing.assert_allclose(found, out_of_fold.softmax(features[:, :3]), rtol=1e-6)
    assert found.dtype == np.float32


def test_chunks_make_one_choice_and_the_same_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = blobs(157)
    whole = probabilities(features, labels)
    monkeypatch.setattr(out_of_fold, "CHUNK", 10)
    np.testing.assert_allclose(probabilities(features, labels), whole, rtol=1e-4)


def test_a_table_is_written_as_numpy_does_and_nothing_is_left_of_one_that_failed(tmp_path: Path) -> None:
    table = np.random.default_rng(0).uniform(size=(7, 3)).astype(np.float32)
    np.save(tmp_path / "whole.npy", table)
    out_of_fold.save(tmp_path / "parts.npy", iter([table[:4], table[4:]]), 7, 3)
    assert (tmp_path / "parts.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()

    def broken() -> Iterator[NDArray[np.float32]]:
        yield table
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        out_of_fold.save(tmp_path / "parts.npy", broken(), 7, 3)
    np.testing.assert_array_equal(np.load(tmp_path / "parts.npy"), table)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_table_of_half_the_bytes_is_right_within_what_is_said(tmp_path: Path) -> None:
    table = np.random.default_rng(0).dirichlet(np.full(50, 0.1), 40).astype(np.float32)
    out_of_fold.save(tmp_path / "half.npy", iter([table[:30], table[30:]]), 40, 50, half=True)
    kept = np.load(tmp_path / "half.npy", mmap_mode="r")
    assert kept.dtype == np.float16 and kept.nbytes == 2 * 40 * 50
    assert np.abs(kept.astype(np.float64) - table).max() <= 0.00025 and (kept[table < 2.9e-8] == 0).all()
    np.testing.assert_allclose(kept, table, rtol=5e-4, atol=3e-8)


def test_memory_does_not_grow_with_images_times_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count, classes = 20_000, 250  # 20 MB of float32
    monkeypatch.setattr(out_of_fold, "CHUNK", 500)
    monkeypatch.setattr(out_of_fold, "SHARPNESS", np.array([1.0, 2.0]))
    labels = np.arange(count) % classes
    features = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    tracemalloc.start()
    try:
        unfitted = out_of_fold.probabilities(lambda chunk: features[chunk], labels, classes, 0)
        out_of_fold.save(tmp_path / "table.npy", unfitted, count, classes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.load(tmp_path / "table.npy", mmap_mode="r").shape == (count, classes)
    assert peak < 10e6


def test_copies_are_left_out_together_and_each_class_is_spread_evenly() -> None:
    labels = np.repeat(np.arange(4), 60)
    units = [f"{index // 6}" if index % 60 < 48 else "" for index in range(240)]
    fold = out_of_fold._folds(labels, units, 0)
    of = {unit: set(fold[[word == unit for word in units]]) for unit in set(units) - {""}}
    assert all(len(parts) == 1 for parts in of.values())
    for label in range(4):
        sizes = np.bincount(fold[labels == label], minlength=5)
        assert sizes.sum() == 60
        assert sizes.max() - sizes.min() <= 6


def test_wrong_labels_are_found_among_copies_as_among_originals() -> None:
    features, right = blobs(200)
    labels = right.copy()
    labels[:20] = (labels[:20] + 1) % 3
    copies = np.repeat(features, 8, axis=0) + np.random.default_rng(1).normal(scale=0.01, size=(1600, 20))
    units = [str(index // 8) for index in range(1600)]

    def suspected(rows: NDArray[Any], own: NDArray[Any], together: list[str]) -> int:
        """How many of the wrong labels are named."""
        said = probabilities(rows, own, units=together)
        found = label_errors.suspects("train", [str(n) for n in range(len(own))], own, said, ["a", "b", "c"])
        return sum(int(row["path"]) < len(own) // 10 for row in found)

    assert suspected(features, labels, []) >= 18
    assert suspected(copies, np.repeat(labels, 8), units) >= 8 * 16
    assert suspected(copies, np.repeat(labels, 8), []) < 8 * 14, "or this test could not fail"


def test_of_a_class_that_is_left_out_whole_nothing_is_said() -> None:
    features, labels = blobs(60)
    units = ["one" if label == 2 else "" for label in labels]
    found = probabilities(features, labels, units=units)
    np.testing.assert_allclose(found[labels == 2], 1 / 3, rtol=1e-6)
    assert (found[labels != 2].argmax(axis=1) == labels[labels != 2]).mean() > 0.9
