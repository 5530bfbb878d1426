import numpy as np
import pytest

from thaw import mixing

LABELS = np.arange(40) % 4
INPUTS = np.random.default_rng(0).normal(size=(40, 2, 2, 3)).astype(np.float32)


def source(indices: np.ndarray, _views: np.ndarray) -> np.ndarray:
    found: np.ndarray = INPUTS[indices]
    return found


def mixed(alpha: float, seed: int | None = 0, **more: np.ndarray) -> mixing.Mixed:
    return mixing.Mixed(source, LABELS, 16, seed=seed, classes=4, alpha=alpha, **more)


def test_inputs_and_labels_are_mixed_by_the_same_share_with_an_image_of_the_batch() -> None:
    train, plain = mixed(0.5), mixed(0)
    for number in range(len(train)):
        inputs, targets = train[number]
        clean, labels = plain[number]
        assert targets.dtype == inputs.dtype == np.float32
        np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
        for row, target in zip(inputs, targets, strict=True):
            # Which two of the batch, and by which share: the only ones that give inputs and label at once.
            own = len(clean) - 1
            found = [
                (a, b, share)
                for a in range(own + 1)
                for b in range(own + 1)
                for share in [_share(row, clean[a], clean[b])]
                if np.allclose(row, share * clean[a] + (1 - share) * clean[b], atol=1e-4)
            ]
            assert any(np.allclose(target, s * labels[a] + (1 - s) * labels[b], atol=1e-3) for a, b, s in found)


def _share(row: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
    apart = (one - other).ravel()
    length = float(apart @ apart)
    return float((row - other).ravel() @ apart) / length if length else 1.0


def test_a_batch_depends_on_seed_epoch_and_step_alone() -> None:
    one, two, other = mixed(0.2), mixed(0.2), mixed(0.2, seed=1)
    np.testing.assert_array_equal(one[2][0], two[2][0])  # whatever was drawn before
    two[0], two[1]
    np.testing.assert_array_equal(one[1][1], two[1][1])
    assert not np.array_equal(one[0][0], other[0][0])
    one.on_epoch_end()
    assert not np.array_equal(one[0][0], two[0][0])


@pytest.mark.parametrize("seed", [None, 0])
def test_without_alpha_and_in_validation_nothing_is_mixed(seed: int | None) -> None:
    for alpha in (0.0, 0.2) if seed is None else (0.0,):
        train = mixed(alpha, seed)
        for number in range(len(train)):
            inputs, targets = train[number]
            indices = train.order[number * 16 : number * 16 + 16]
            np.testing.assert_array_equal(inputs, INPUTS[indices])
            np.testing.assert_array_equal(targets, np.eye(4)[LABELS[indices]])


def test_the_mean_label_stays_what_it_is() -> None:
    train = mixed(1.0)
    for number in range(len(train)):
        labels = LABELS[train.order[number * 16 : number * 16 + 16]]
        # What one image gives away another takes: shares differ, so only nearly.
        np.testing.assert_allclose(
            train[number][1].mean(axis=0), np.bincount(labels, minlength=4) / len(labels), atol=0.2
        )


def test_weights_stay_with_the_image() -> None:
    weights = np.arange(40, dtype=np.float32)
    train = mixed(0.2, weights=weights)
    np.testing.assert_array_equal(train[0][2], weights[train.order[:16]])
