import hashlib
from collections import Counter
from functools import partial

import numpy as np
import pytest

from thaw import splits


def contents_of(name: str, count: int) -> list[str]:
    return [hashlib.sha256(f"{name}{index}".encode()).hexdigest() for index in range(count)]


def data_set(**sizes: int) -> tuple[list[str], list[str]]:
    contents = [content for name, count in sizes.items() for content in contents_of(name, count)]
    return contents, [name for name, count in sizes.items() for _ in range(count)]


@pytest.mark.parametrize(("val", "test"), [(0.15, 0.15), (0.2, 0.1), (0.01, 0.5), (0.5, 0.4)])
def test_each_class_is_divided_to_half_an_image(val: float, test: float) -> None:
    contents, labels = data_set(cat=137, dog=594, owl=51)
    divided = splits.draw(contents, labels, val=val, test=test, seed=0)
    cells = Counter(zip(labels, divided, strict=True))
    for label, total in Counter(labels).items():
        assert abs(cells[label, "val"] - val * total) <= 0.5
        assert abs(cells[label, "test"] - test * total) <= 0.5
        assert cells[label, "train"] > 0


@pytest.mark.parametrize(("val", "test"), [(0.15, 0.15), (0.5, 0.4), (0.01, 0.01)])
def test_three_images_are_enough_for_one_in_each_split(val: float, test: float) -> None:
    contents, labels = data_set(cat=3, dog=4)
    divided = splits.draw(contents, labels, val=val, test=test, seed=0)
    for label in ("cat", "dog"):
        held = [split for split, own in zip(divided, labels, strict=True) if own == label]
        assert set(held) == {"train", "val", "test"}


def test_the_seed_and_nothing_else_decides_besides_the_content() -> None:
    contents, labels = data_set(cat=40, dog=40)
    first = splits.draw(contents, labels, val=0.2, test=0.2, seed=0)
    backwards = splits.draw(contents[::-1], labels[::-1], val=0.2, test=0.2, seed=0)
    assert backwards[::-1] == first
    assert splits.draw(contents, labels, val=0.2, test=0.2, seed=1) != first


def test_equal_bytes_stay_together_and_their_copies_count() -> None:
    contents, labels = data_set(cat=100, dog=100)
    contents, labels = contents + contents[:30] * 2, labels + labels[:30] * 2
    divided = splits.draw(contents, labels, val=0.2, test=0.2, seed=3)
    assert splits.leaks(contents, divided) == {"train_val": 0, "train_test": 0, "val_test": 0}
    cells = Counter(zip(labels, divided, strict=True))
    assert abs(cells["cat", "test"] - 0.2 * 160) <= 1.5
    assert abs(cells["cat", "val"] - 0.2 * 160) <= 1.5


def test_one_content_with_many_copies_does_not_overfill_a_split() -> None:
    contents, labels = data_set(cat=10, dog=10)
    for seed in range(20):  # it comes first in some of these orders
        divided = splits.draw(contents + contents[:1] * 50, labels + ["cat"] * 50, val=0.1, test=0.1, seed=seed)
        assert divided[0] == "train"


def test_a_content_with_two_labels_goes_to_train() -> None:
    contents, labels = data_set(cat=20, dog=20)
    contents[20:26] = contents[:6]
    assert splits.conflicts(contents, labels) == set(contents[:6])
    for seed in range(5):
        divided = splits.draw(contents, labels, val=0.3, test=0.3, seed=seed)
        assert set(divided[:6]) == set(divided[20:26]) == {"train"}


def test_100_times_500_images_added_to_2000_move_no_old_one_and_keep_the_shares() -> None:
    sizes = {"cat": 1200, "dog": 800, "owl": 300, "elk": 137, "newt": 63}
    contents, labels = data_set(**sizes)
    for trial in range(100):
        chance = np.random.default_rng(trial)
        order = chance.permutation(2500)
        # Units of up to five images that look alike, among all images, so that new ones belong to old ones.
        links = [tuple(pair) for pair in chance.integers(2500, size=(200, 2)).tolist()]
        shuffled, own = [contents[i] for i in order], [labels[i] for i in order]
        old_links = [(one, other) for one, other in links if one < 2000 and other < 2000]
        draw = partial(splits.draw, val=0.15, test=0.15, seed=trial)
        old = draw(shuffled[:2000], own[:2000], links=old_links)
        known = dict(zip(shuffled[:2000], old, strict=True))
        new = draw(shuffled, own, links=links, known=known)
        assert [after for before, after in zip(old, new, strict=False) if before] == [split for split in old if split]
        assert splits.across(links, new) == []
        for divided in (old, new):
            cells = Counter(zip(own, divided, strict=False))
            for label in sizes:
                total = sum(cells[label, split] for split in ("train", "val", "test"))
                for split in ("val", "test"):
                    # A point, or half an image where that is more.
                    assert abs(cells[label, split] - 0.15 * total) <= max(0.01 * total, 0.5)


def test_images_added_one_batch_after_the_other_keep_the_shares() -> None:
    contents, labels = data_set(cat=600, dog=300)
    order = np.random.default_rng(0).permutation(900)
    shuffled, own = [contents[i] for i in order], [labels[i] for i in order]
    known: dict[str, str] = {}
    for count in range(50, 901, 50):
        divided = splits.draw(shuffled[:count], own[:count], val=0.2, test=0.1, seed=0, known=known)
        assert all(known.get(content, split) == split for content, split in zip(shuffled, divided, strict=False))
        known = dict(zip(shuffled, divided, strict=False))
        cells, totals = Counter(zip(own, divided, strict=False)), Counter(own[:count])
        for label, total in totals.items():
            assert abs(cells[label, "val"] - 0.2 * total) <= 1
            assert abs(cells[label, "test"] - 0.1 * total) <= 1


def test_what_belongs_together_goes_together_and_fills_no_split_up() -> None:
    contents, labels = data_set(cat=100, dog=100)
    links = [(0, 50), (50, 120), (7, 8), *((130, other) for other in range(131, 170))]
    for seed in range(10):
        divided = splits.draw(contents, labels, val=0.15, test=0.15, seed=seed, links=links)
        assert splits.across(links, divided) == []
        cells = Counter(zip(labels, divided, strict=True))
        for label in ("cat", "dog"):
            assert abs(cells[label, "val"] - 15) <= 0.5
            assert abs(cells[label, "test"] - 15) <= 0.5


def test_new_images_join_the_old_ones_they_belong_to_and_stay_out_between_two_splits() -> None:
    contents, labels = data_set(cat=40, dog=40)
    old = splits.draw(contents, labels, val=0.2, test=0.2, seed=0)
    known = dict(zip(contents, old, strict=True))
    train, val, test = (old.index(split) for split in ("train", "val", "test"))
    more = [*contents, *contents_of("new", 7)]
    # 80 and 81 to test, 81 by way of 80; 82 with 83 between train and val; 84 to train; 85 with 86 to none
    links = [(test, 80), (80, 81), (train, 82), (82, 83), (val, 83), (train, 84), (85, 86)]
    divided = splits.draw(more, [*labels, *["cat"] * 7], val=0.2, test=0.2, seed=0, links=links, known=known)
    assert divided[:80] == old
    assert divided[80:85] == ["test", "test", "", "", "train"]
    assert divided[85] == divided[86] != ""
    assert splits.across(links, divided) == []
    assert splits.leaks(more, divided) == {"train_val": 0, "train_test": 0, "val_test": 0}


def test_links_between_old_images_that_were_not_known_move_them_rather_than_leak() -> None:
    contents, labels = data_set(cat=40, dog=40)
    old = splits.draw(contents, labels, val=0.2, test=0.2, seed=0)
    known = dict(zip(contents, old, strict=True))
    link = (old.index("train"), old.index("test"))
    divided = splits.draw(contents, labels, val=0.2, test=0.2, seed=0, links=[link], known=known)
    assert divided[link[0]] == divided[link[1]]
    assert [after for index, after in enumerate(divided) if index not in link] == [
        before for index, before in enumerate(old) if index not in link
    ]


def test_a_second_label_for_the_same_bytes_leaves_an_old_test_image_out_and_never_trains_on_it() -> None:
    contents, labels = data_set(cat=40, dog=40)
    old = splits.draw(contents, labels, val=0.2, test=0.2, seed=0)
    known = dict(zip(contents, old, strict=True))
    tested = old.index("test")
    more = [*contents, contents[tested]]
    divided = splits.draw(more, [*labels, "dog"], val=0.2, test=0.2, seed=0, known=known)
    assert labels[tested] == "cat"
    assert divided[tested] == divided[80] == splits.LEFT_OUT
    assert [split for index, split in enumerate(divided[:80]) if index != tested] == [
        split for index, split in enumerate(old) if index != tested
    ]
    trained = old.index("train")
    divided = splits.draw([*contents, contents[trained]], [*labels, "dog"], val=0.2, test=0.2, seed=0, known=known)
    assert divided == [*old, "train"]


def test_a_group_is_a_key_and_an_empty_key_is_none() -> None:
    assert splits.same(["a", "", "b", "a", "", "a"]) == [(0, 3), (0, 5)]


def test_clusters_join_links_that_share_an_image() -> None:
    assert splits.clusters(6, [(0, 3), (3, 5), (1, 2)]) == [0, 1, 1, 0, 4, 0]


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
    assert splits.expected_leaks(whole, val=0.3, test=0.1) == pytest.approx(np.mean(counts), abs=0.1)


def test_a_class_with_too_few_distinct_images_is_an_error_that_names_it() -> None:
    contents, labels = data_set(cat=5, dog=2)
    with pytest.raises(ValueError, match=r"class dog: expected at least 3 distinct images.*received 2;"):
        splits.draw([*contents, contents[-1]], [*labels, "dog"], val=0.2, test=0.2, seed=0)
    contents, labels = data_set(cat=5, dog=4)
    contents[5:7] = contents[:2]
    with pytest.raises(ValueError, match=r"class dog.*received 2 and 2 that other classes have too"):
        splits.draw(contents, labels, val=0.2, test=0.2, seed=0)


def test_splits_that_came_as_folders_are_kept() -> None:
    contents, labels = data_set(cat=6, dog=6)
    given = ["train", "train", "val", "val", "test", "test"] * 2
    divided, sources = splits.complete(contents, labels, given, val=0.2, test=0.2, seed=0)
    assert divided == given
    assert sources == {"train": "folder", "val": "folder", "test": "folder"}


@pytest.mark.parametrize("missing", ["val", "test"])
def test_a_missing_split_is_drawn_from_train_alone(missing: str) -> None:
    other = "test" if missing == "val" else "val"
    contents, labels = data_set(cat=50)
    given = ["train"] * 40 + [other] * 10
    divided, sources = splits.complete(contents, labels, given, val=0.25, test=0.25, seed=0)
    assert divided[40:] == [other] * 10
    assert Counter(divided[:40]) == {"train": 30, missing: 10}
    assert sources == {"train": "folder", missing: "drawn", other: "folder"}


def test_nothing_given_means_all_is_drawn() -> None:
    contents, labels = data_set(cat=20, dog=20)
    divided, sources = splits.complete(contents, labels, [""] * 40, val=0.2, test=0.2, seed=0)
    assert divided == splits.draw(contents, labels, val=0.2, test=0.2, seed=0)
    assert sources == {"train": "drawn", "val": "drawn", "test": "drawn"}


def test_leaks_count_the_contents_that_two_splits_share() -> None:
    contents = ["a", "a", "a", "b", "c", "c"]
    divided = ["train", "val", "val", "val", "train", "test"]
    assert splits.leaks(contents, divided) == {"train_val": 1, "train_test": 1, "val_test": 0}
