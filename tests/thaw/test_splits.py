import hashlib
from collections import Counter

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


def test_new_images_move_few_old_ones_and_none_between_validation_and_test() -> None:
    contents, labels = data_set(cat=200)
    more, more_labels = data_set(cat=400)
    for seed in range(10):
        old = splits.draw(contents, labels, val=0.15, test=0.15, seed=seed)
        new = splits.draw(more, more_labels, val=0.15, test=0.15, seed=seed)[:200]
        moved = [{before, after} for before, after in zip(old, new, strict=True) if before != after]
        assert len(moved) <= 20  # of 200; a split drawn anew would move about 90
        assert {"val", "test"} not in moved


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
