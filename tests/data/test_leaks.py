import numpy as np
import pytest

from thaw.data import leaks


def test_the_leaks_of_a_random_split_are_those_of_drawing_each_image_by_itself() -> None:
    whole = [0] * 3 + [3] * 2 + [5]
    chance = np.random.default_rng(0)
    counts = []
    for _ in range(4000):
        drawn = chance.choice(["train", "val", "test"], size=6, p=[0.6, 0.3, 0.1])
        trained = {cluster for cluster, split in zip(whole, drawn, strict=True) if split == "train"}
        counts.append(
            sum(cluster in trained and split != "train" for cluster, split in zip(whole, drawn, strict=True))
        )
    assert leaks.expected(whole, val=0.3, test=0.1) == pytest.approx(np.mean(counts), abs=0.1)


def test_leaks_count_the_contents_that_two_splits_share() -> None:
    contents = ["a", "a", "a", "b", "c", "c"]
    divided = ["train", "val", "val", "val", "train", "test"]
    assert leaks.contents(contents, divided) == {"train_val": 1, "train_test": 1, "val_test": 0}


def test_a_pair_in_two_splits_is_a_leak_unless_one_of_it_is_left_out() -> None:
    links = [(0, 1), (1, 2), (2, 3), (0, 3)]
    assert leaks.pairs(["train", "train", "test", ""], links).tolist() == [[1, 2]]


def test_what_belongs_together_by_way_of_others_alone_is_named_once() -> None:
    # An image of training, one in no split, two of the test that hang on it, and one that is copied from training.
    divided = ["train", "", "test", "test", "train", "test", "val"]
    links = [(0, 1), (1, 2), (2, 3), (4, 5)]
    listed = leaks.pairs(divided, links)
    assert listed.tolist() == [[4, 5]]
    assert leaks.linked([0, 0, 0, 0, 4, 4, 6], divided, listed).tolist() == [[0, 2], [0, 3]]
    assert leaks.linked([0, 0, 0, 0, 4, 4, 0], divided, [(0, 2), (0, 3), (4, 5)]).tolist() == [[0, 6]]


def test_every_image_of_a_torn_group_is_named_and_there_are_no_more_pairs_than_can_be_listed() -> None:
    divided = ["train"] * 1000 + ["test"] * 1000 + ["", "val"]
    found = leaks.pairs(divided, keys=[["one person"] * 2001 + [""]])
    assert {index for pair in found.tolist() for index in pair} == set(range(2000))
    assert len(found) < 4000
    assert all(divided[one] != divided[other] for one, other in found)
