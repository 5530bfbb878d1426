from collections import Counter

import numpy as np
import pytest

from thaw.config.unfreeze import UnfreezeSpec
from thaw.features import auto_unfreeze
from thaw.networks import freeze_boundaries, pretrained

CLASSES = 4
LABELS = np.arange(400) % CLASSES
FEW = 150  # training images, of which these are said to be a sample


def head(errors: int) -> np.ndarray:
    """What a head says that is wrong on so many images."""
    said = np.eye(CLASSES, dtype=np.float32)[LABELS]
    said[:errors] = np.roll(said[:errors], 1, axis=1)
    return said


def features(together: float) -> np.ndarray:
    """Features that vary by class so much, and by other things in many more directions."""
    random = np.random.default_rng(0)
    centres, others = random.normal(size=(CLASSES, 64)), random.normal(size=(50, 64))
    return (together * centres[LABELS] + others[random.integers(0, 50, 400)]).astype(np.float32)


def test_where_neighbours_are_of_one_class_little_is_thawed() -> None:
    chosen = auto_unfreeze.choose(features(together=5), head(20), LABELS, FEW)
    assert chosen.unfreeze == auto_unfreeze.LITTLE
    assert chosen.reason == (
        "auto: frozen features tell the class of 95.0% by a head and of 100.0% by the 5 nearest images, a task near "
        f"what the network knows, with 150 training images, less than 200: unfreeze {auto_unfreeze.LITTLE}"
    )


def test_where_only_a_head_finds_the_class_most_is_thawed() -> None:
    chosen = auto_unfreeze.choose(features(together=0), head(20), LABELS, FEW)
    assert chosen.unfreeze == auto_unfreeze.MOST and "far from what the network knows" in chosen.reason


@pytest.mark.parametrize(("count", "unfreeze"), [(199, auto_unfreeze.LITTLE), (200, auto_unfreeze.MOST)])
def test_little_is_thawed_only_where_the_images_are_few(count: int, unfreeze: str) -> None:
    assert auto_unfreeze.choose(features(together=5), head(20), LABELS, count).unfreeze == unfreeze
    assert auto_unfreeze.choose(features(together=0), head(20), LABELS, count).unfreeze == auto_unfreeze.MOST
    assert unfreeze in auto_unfreeze.candidates(count) and auto_unfreeze.MOST in auto_unfreeze.candidates(count)
    assert (auto_unfreeze.LITTLE in auto_unfreeze.candidates(count)) == (count < 200)


@pytest.mark.parametrize(
    ("errors", "share"), [(200, auto_unfreeze.MOST), (235, auto_unfreeze.MOST), (290, auto_unfreeze.LITTLE)]
)
def test_what_a_head_does_not_find_either_is_not_far_but_unknown(errors: int, share: str) -> None:
    # Neighbours that tell nothing are wrong on about three quarters.
    assert auto_unfreeze.choose(features(together=0), head(errors), LABELS, FEW).unfreeze == share


def test_a_difference_that_may_be_chance_thaws_little() -> None:
    wrong = auto_unfreeze.neighbours(features(together=5), LABELS) != LABELS
    assert not wrong.any()
    few, said = features(together=5), head(0)
    few[[0, 1]] = few[[1, 0]]  # two neighbours are wrong, the head never is
    assert auto_unfreeze.choose(few, said, LABELS, FEW).unfreeze == auto_unfreeze.LITTLE


def test_an_image_is_no_neighbour_of_itself_and_a_draw_goes_to_the_nearest() -> None:
    angles = np.array([0.0, 0.1, 0.3, 2.0, 2.1])
    points = np.stack([np.cos(angles), np.sin(angles), np.zeros(5)], axis=1).astype(np.float32)
    # All others are neighbours of five: two of class 1, which are nearer, and two of class 2.
    assert auto_unfreeze.neighbours(points, np.array([0, 1, 1, 2, 2]))[0] == 1
    assert auto_unfreeze.neighbours(points[:2], np.array([0, 1])).tolist() == [1, 0]


@pytest.mark.parametrize("classes", [2, 7, 400])
def test_the_class_of_most_neighbours_wins(classes: int) -> None:
    chance = np.random.default_rng(classes)
    points, labels = chance.normal(size=(150, 6)).astype(np.float32), 3 * chance.integers(classes, size=150)
    centred = (points - points.mean(axis=0)) / points.std(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    for number, found in enumerate(auto_unfreeze.neighbours(points, labels)):
        nearest = np.argsort(-(centred @ centred[number]))[1 : 1 + auto_unfreeze.NEIGHBOURS]
        votes = Counter(labels[nearest].tolist())
        assert votes[int(found)] == max(votes.values())
        if votes[int(labels[nearest[0]])] == max(votes.values()):
            assert found == labels[nearest[0]]


def alone(count: int) -> list[str]:
    """Each image a cluster of its own."""
    return [str(number) for number in range(count)]


def test_the_sample_is_the_same_each_time_spread_over_all_images_and_never_larger_than_there_are() -> None:
    assert auto_unfreeze.sample(np.arange(7) % 2, alone(7)).tolist() == list(range(7))
    labels = np.repeat(np.arange(10), 10**3)  # in the manifest's order
    found = auto_unfreeze.sample(labels, alone(10**4))
    assert len(set(found.tolist())) == auto_unfreeze.SAMPLE
    assert np.bincount(labels[found]).min() > auto_unfreeze.SAMPLE / 10 / 2
    assert np.array_equal(found, auto_unfreeze.sample(labels, alone(10**4)))


def test_of_many_classes_some_are_looked_at_with_enough_images_each() -> None:
    labels = np.repeat(np.arange(1000), 30)
    sizes = np.bincount(labels[auto_unfreeze.sample(labels, alone(len(labels)))])
    assert np.count_nonzero(sizes) == auto_unfreeze.SAMPLE // auto_unfreeze.OF_A_CLASS
    assert sizes[sizes > 0].mean() >= auto_unfreeze.OF_A_CLASS


def test_of_images_that_are_alike_one_is_looked_at() -> None:
    clusters = [str(number // 3) for number in range(30)]
    found = auto_unfreeze.sample(np.arange(30) % 2, clusters)
    assert sorted(found // 3) == list(range(10))


def test_copies_of_images_make_no_task_near() -> None:
    repeated = np.repeat(np.arange(400), 6)
    given = np.random.default_rng(0).normal(size=(400, 64)).astype(np.float32)[repeated]
    labels = LABELS[repeated]
    some = auto_unfreeze.sample(labels, [str(number) for number in repeated])
    said = head(20)[repeated]
    assert (
        auto_unfreeze.choose(given, said, labels, FEW).unfreeze == auto_unfreeze.LITTLE
    )  # each has its own copies for neighbours
    assert auto_unfreeze.choose(given[some], said[some], labels[some], FEW).unfreeze == auto_unfreeze.MOST


@pytest.mark.parametrize(("wrong", "share"), [(8, auto_unfreeze.LITTLE), (20, auto_unfreeze.MOST)])
def test_a_task_that_is_solved_is_not_far(monkeypatch: pytest.MonkeyPatch, wrong: int, share: str) -> None:
    said = np.where(np.arange(400) < wrong, (LABELS + 1) % CLASSES, LABELS)
    monkeypatch.setattr(auto_unfreeze, "neighbours", lambda *_: said)
    assert auto_unfreeze.choose(features(together=5), head(0), LABELS, FEW).unfreeze == share


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_images_decide_nothing(count: int) -> None:
    assert (
        auto_unfreeze.choose(features(together=1)[:count], head(0)[:count], LABELS[:count], count).unfreeze
        == auto_unfreeze.LITTLE
    )


def test_what_the_rule_says_is_a_depth() -> None:
    network = pretrained.build("efficientnet_lite0", "random", 32)
    near, far = (
        freeze_boundaries.find(network, UnfreezeSpec.parse(share)).share
        for share in (auto_unfreeze.LITTLE, auto_unfreeze.MOST)
    )
    assert 0 < near < far < 1
