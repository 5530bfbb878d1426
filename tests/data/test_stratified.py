import hashlib
from collections import Counter
from functools import partial

import numpy as np
import pytest

from thaw.data import clusters, leaks, placement, stratified, text_columns


def contents_of(name: str, count: int) -> list[str]:
    return [hashlib.sha256(f"{name}{index}".encode()).hexdigest() for index in range(count)]


def data_set(**sizes: int) -> tuple[list[str], list[str]]:
    contents = [content for name, count in sizes.items() for content in contents_of(name, count)]
    return contents, [name for name, count in sizes.items() for _ in range(count)]


@pytest.mark.parametrize(("val", "test"), [(0.15, 0.15), (0.2, 0.1), (0.01, 0.5), (0.5, 0.4)])
def test_each_class_is_divided_to_half_an_image(val: float, test: float) -> None:
    contents, labels = data_set(cat=137, dog=594, owl=51)
    divided = stratified.draw(contents, labels, val=val, test=test, seed=0)
    cells = Counter(zip(labels, divided, strict=True))
    for label, total in Counter(labels).items():
        assert abs(cells[label, "val"] - val * total) <= 0.5
        assert abs(cells[label, "test"] - test * total) <= 0.5
        assert cells[label, "train"] > 0


@pytest.mark.parametrize(("val", "test"), [(0.15, 0.15), (0.5, 0.4), (0.01, 0.01)])
def test_three_images_are_enough_for_one_in_each_split(val: float, test: float) -> None:
    contents, labels = data_set(cat=3, dog=4)
    divided = stratified.draw(contents, labels, val=val, test=test, seed=0)
    for label in ("cat", "dog"):
        held = [split for split, own in zip(divided, labels, strict=True) if own == label]
        assert set(held) == {"train", "val", "test"}


def test_the_seed_and_nothing_else_decides_besides_the_content() -> None:
    contents, labels = data_set(cat=40, dog=40)
    first = stratified.draw(contents, labels, val=0.2, test=0.2, seed=0)
    backwards = stratified.draw(contents[::-1], labels[::-1], val=0.2, test=0.2, seed=0)
    assert backwards[::-1] == first
    assert stratified.draw(contents, labels, val=0.2, test=0.2, seed=1) != first


def test_the_test_takes_the_low_end_of_the_hashes_and_validation_the_high_end() -> None:
    """By a second way to the same division: another one would move the images of every project without a memory."""
    contents, labels = data_set(cat=15, dog=40)
    for seed in range(3):
        divided = stratified.draw(contents, labels, val=0.2, test=0.1, seed=seed)
        for label, test, val in (("cat", 2, 3), ("dog", 4, 8)):  # a half is rounded up
            own = [index for index, each in enumerate(labels) if each == label]
            order = sorted(own, key=lambda index: hashlib.sha256(f"{seed} {contents[index]}".encode()).digest())
            expected = ["test"] * test + ["train"] * (len(own) - test - val) + ["val"] * val
            assert [divided[index] for index in order] == expected


def test_a_unit_has_the_lowest_place_of_its_images() -> None:
    contents, labels = data_set(cat=40)
    for seed in range(10):
        order = sorted(range(40), key=lambda index: hashlib.sha256(f"{seed} {contents[index]}".encode()).digest())
        link = (order[0], order[-1])
        divided = stratified.draw(contents, labels, val=0.2, test=0.2, seed=seed, links=[link])
        assert [divided[index] for index in link] == ["test", "test"]


def test_equal_bytes_stay_together_and_their_copies_count() -> None:
    contents, labels = data_set(cat=100, dog=100)
    contents, labels = contents + contents[:30] * 2, labels + labels[:30] * 2
    divided = stratified.draw(contents, labels, val=0.2, test=0.2, seed=3)
    assert leaks.contents(contents, divided) == {"train_val": 0, "train_test": 0, "val_test": 0}
    cells = Counter(zip(labels, divided, strict=True))
    assert abs(cells["cat", "test"] - 0.2 * 160) <= 1.5
    assert abs(cells["cat", "val"] - 0.2 * 160) <= 1.5


def test_one_content_with_many_copies_does_not_overfill_a_split() -> None:
    contents, labels = data_set(cat=10, dog=10)
    for seed in range(20):  # it comes first in some of these orders
        divided = stratified.draw(contents + contents[:1] * 50, labels + ["cat"] * 50, val=0.1, test=0.1, seed=seed)
        assert divided[0] == "train"


def test_a_content_with_two_labels_goes_to_train() -> None:
    contents, labels = data_set(cat=20, dog=20)
    contents[20:26] = contents[:6]
    torn = clusters.torn(text_columns.numbers(contents), text_columns.numbers(labels))
    assert np.flatnonzero(torn).tolist() == [*range(6), *range(20, 26)]
    for seed in range(5):
        divided = stratified.draw(contents, labels, val=0.3, test=0.3, seed=seed)
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
        draw = partial(stratified.draw, val=0.15, test=0.15, seed=trial)
        old = draw(shuffled[:2000], own[:2000], links=old_links)
        known = dict(zip(shuffled[:2000], old, strict=True))
        new = draw(shuffled, own, links=links, known=known)
        assert [after for before, after in zip(old, new, strict=False) if before] == [split for split in old if split]
        assert not len(leaks.pairs(new, links))
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
        divided = stratified.draw(shuffled[:count], own[:count], val=0.2, test=0.1, seed=0, known=known)
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
        divided = stratified.draw(contents, labels, val=0.15, test=0.15, seed=seed, links=links)
        assert not len(leaks.pairs(divided, links))
        cells = Counter(zip(labels, divided, strict=True))
        for label in ("cat", "dog"):
            assert abs(cells[label, "val"] - 15) <= 0.5
            assert abs(cells[label, "test"] - 15) <= 0.5


def test_new_images_join_the_old_ones_they_belong_to_and_stay_out_between_two_splits() -> None:
    contents, labels = data_set(cat=40, dog=40)
    old = stratified.draw(contents, labels, val=0.2, test=0.2, seed=0)
    known = dict(zip(contents, old, strict=True))
    train, val, test = (old.index(split) for split in ("train", "val", "test"))
    more = [*contents, *contents_of("new", 7)]
    # 80 and 81 to test, 81 by way of 80; 82 with 83 between train and val; 84 to train; 85 with 86 to none
    links = [(test, 80), (80, 81), (train, 82), (82, 83), (val, 83), (train, 84), (85, 86)]
    divided = stratified.draw(more, [*labels, *["cat"] * 7], val=0.2, test=0.2, seed=0, links=links, known=known)
    assert divided[:80] == old
    assert divided[80:85] == ["test", "test", "", "", "train"]
    assert divided[85] == divided[86] != ""
    assert not len(leaks.pairs(divided, links))
    assert leaks.contents(more, divided) == {"train_val": 0, "train_test": 0, "val_test": 0}


def test_links_between_old_images_that_were_not_known_move_them_rather_than_leak() -> None:
    contents, labels = data_set(cat=40, dog=40)
    old = stratified.draw(contents, labels, val=0.2, test=0.2, seed=0)
    known = dict(zip(contents, old, strict=True))
    link = (old.index("train"), old.index("test"))
    divided = stratified.draw(contents, labels, val=0.2, test=0.2, seed=0, links=[link], known=known)
    assert divided[link[0]] == divided[link[1]]
    assert [after for index, after in enumerate(divided) if index not in link] == [
        before for index, before in enumerate(old) if index not in link
    ]


def test_a_second_label_for_the_same_bytes_leaves_an_old_test_image_out_and_never_trains_on_it() -> None:
    contents, labels = data_set(cat=40, dog=40)
    old = stratified.draw(contents, labels, val=0.2, test=0.2, seed=0)
    known = dict(zip(contents, old, strict=True))
    tested = old.index("test")
    more = [*contents, contents[tested]]
    divided = stratified.draw(more, [*labels, "dog"], val=0.2, test=0.2, seed=0, known=known)
    assert labels[tested] == "cat"
    assert divided[tested] == divided[80] == placement.LEFT_OUT
    assert [split for index, split in enumerate(divided[:80]) if index != tested] == [
        split for index, split in enumerate(old) if index != tested
    ]
    trained = old.index("train")
    divided = stratified.draw([*contents, contents[trained]], [*labels, "dog"], val=0.2, test=0.2, seed=0, known=known)
    assert divided == [*old, "train"]


def test_a_class_with_too_few_distinct_images_is_an_error_that_names_it() -> None:
    contents, labels = data_set(cat=5, dog=2)
    with pytest.raises(ValueError, match=r"class dog: expected at least 3 distinct images.*received 2 \(3 images"):
        stratified.draw([*contents, contents[-1]], [*labels, "dog"], val=0.2, test=0.2, seed=0)
    contents, labels = data_set(cat=5, dog=4)
    contents[5:7] = contents[:2]
    with pytest.raises(ValueError, match=r"class dog.*received 2 and 2 that other classes have too"):
        stratified.draw(contents, labels, val=0.2, test=0.2, seed=0)


def test_an_error_does_not_count_images_that_are_alike_as_many() -> None:
    contents, labels = data_set(cat=9, dog=4)
    with pytest.raises(ValueError, match=r"class dog.* 3 distinct images, one for each split, received 1 \(4 images"):
        stratified.draw(contents, labels, val=0.2, test=0.2, seed=0, links=[(9, 10), (10, 11), (11, 12)])


def test_an_error_says_where_the_memory_keeps_the_images_of_a_class() -> None:
    contents, labels = data_set(cat=9, dog=6)
    known = dict.fromkeys(contents[9:], "train")
    message = (
        r"class dog: expected at least 2 distinct images, free to go to test and val, received 0 beside 6 in train"
    )
    with pytest.raises(ValueError, match=message + r", where data/splits\.json has them.*divide anew"):
        stratified.draw(contents, labels, val=0.2, test=0.2, seed=0, known=known)
    with pytest.raises(ValueError, match="expected at least") as fresh:
        stratified.draw(contents[:10], labels[:10], val=0.2, test=0.2, seed=0)
    assert "anew" not in str(fresh.value)


def test_splits_that_came_as_folders_are_kept() -> None:
    contents, labels = data_set(cat=6, dog=6)
    given = ["train", "train", "val", "val", "test", "test"] * 2
    divided, sources = stratified.complete(contents, labels, given, val=0.2, test=0.2, seed=0)
    assert divided == given
    assert sources == {"train": "folder", "val": "folder", "test": "folder"}


@pytest.mark.parametrize("missing", ["val", "test"])
def test_a_missing_split_is_drawn_from_train_alone(missing: str) -> None:
    other = "test" if missing == "val" else "val"
    contents, labels = data_set(cat=50)
    given = ["train"] * 40 + [other] * 10
    divided, sources = stratified.complete(contents, labels, given, val=0.25, test=0.25, seed=0)
    assert divided[40:] == [other] * 10
    assert Counter(divided[:40]) == {"train": 30, missing: 10}
    assert sources == {"train": "folder", missing: "drawn", other: "folder"}


def test_images_given_to_training_stay_and_those_without_a_split_are_divided() -> None:
    contents, labels = data_set(cat=60, dog=60, elk=10)
    given = [*(["train"] * 20 + [""] * 40) * 2, *["train"] * 10]
    known = dict.fromkeys(contents[:5], "test") | dict.fromkeys(contents[20:24], "train")  # as they were before
    for seed in range(3):
        divided, sources = stratified.complete(contents, labels, given, val=0.2, test=0.1, seed=seed, known=known)
        assert set(divided[:20]) == set(divided[60:80]) == {"train"}
        assert divided[20:24] == ["train"] * 4
        for own in (slice(20, 60), slice(80, 120)):
            assert Counter(divided[own]) == {"train": 28, "val": 8, "test": 4}
        assert Counter(divided[120:]) == {"train": 7, "val": 2, "test": 1}  # no other elk could be drawn
        assert sources == {"train": "folder", "val": "drawn", "test": "drawn"}


def test_what_looks_like_an_image_given_to_training_goes_there_also_from_the_memory() -> None:
    contents, labels = data_set(cat=60)
    given = ["train"] * 20 + [""] * 40
    known = dict.fromkeys(contents[20:25], "test")
    links = [(0, 20), (1, 30), (30, 21), (2, 40)]
    divided, _ = stratified.complete(contents, labels, given, val=0.2, test=0.2, seed=0, links=links, known=known)
    assert {divided[index] for index in (*range(20), 20, 21, 30, 40)} == {"train"}
    assert divided[22:25] == ["test"] * 3


def test_a_class_with_too_few_images_without_a_split_is_drawn_from_as_a_whole() -> None:
    contents, labels = data_set(cat=40, dog=40)
    given = [*["train"] * 39, "", *["train"] * 20, *[""] * 20]
    for links in ([(0, 39)], []):  # it goes with an image of training, or is one where two splits are drawn
        divided, _ = stratified.complete(contents, labels, given, val=0.2, test=0.2, seed=0, links=links)
        assert Counter(divided[:40]) == {"train": 24, "val": 8, "test": 8}
        assert set(divided[40:60]) == {"train"}
        assert Counter(divided[60:]) == {"train": 12, "val": 4, "test": 4}


def test_nothing_given_means_all_is_drawn() -> None:
    contents, labels = data_set(cat=20, dog=20)
    divided, sources = stratified.complete(contents, labels, [""] * 40, val=0.2, test=0.2, seed=0)
    assert divided == stratified.draw(contents, labels, val=0.2, test=0.2, seed=0)
    assert sources == {"train": "drawn", "val": "drawn", "test": "drawn"}


def test_what_belongs_to_a_given_test_image_goes_there_with_it_and_all_else_is_drawn() -> None:
    contents, labels = data_set(cat=40, dog=40)
    groups = [f"person {index % 8}" for index in range(80)]
    given = ["test" if index in (0, 1) else "" for index in range(80)]
    divided, sources = stratified.complete(contents, labels, given, val=0.25, test=0.2, seed=0, keys=[groups])
    assert sources == {"train": "drawn", "val": "drawn", "test": "folder"}
    of = {group: {divided[index] for index in range(80) if groups[index] == group} for group in groups}
    assert of["person 0"] == of["person 1"] == {"test"}
    assert all(len(found) == 1 for found in of.values())
    assert sum(split == "test" for split in divided) == 20
    assert 0 < sum(split == "val" for split in divided) < 30


def test_what_hangs_on_a_given_test_image_by_way_of_others_goes_there_too() -> None:
    contents, labels = data_set(cat=40, dog=40)
    given = ["val" if index == 7 else "" for index in range(80)]
    chain = [(7, 8), (8, 9), (9, 60)]
    divided, _ = stratified.complete(
        [*contents, contents[60]], [*labels, "dog"], [*given, ""], val=0.2, test=0.2, seed=0, links=chain
    )
    assert {divided[index] for index in (7, 8, 9, 60, 80)} == {"val"}
    assert divided.count("val") == 5


def test_where_given_splits_tear_a_group_they_are_kept_and_what_else_belongs_to_it_is_left_out() -> None:
    contents, labels = data_set(cat=40, dog=40)
    groups = ["torn" if index in (0, 1, 2, 3) else "" for index in range(80)]
    for split in ("train", "val"):
        given = ["test", split, *[""] * 78]
        divided, _ = stratified.complete(contents, labels, given, val=0.2, test=0.2, seed=0, keys=[groups])
        assert divided[:4] == ["test", split, "", ""]
        assert placement.LEFT_OUT not in divided[4:]


def test_training_images_that_hang_on_given_test_images_are_not_drawn_for_validation() -> None:
    contents, labels = data_set(cat=40)
    given = ["train"] * 30 + ["test"] * 10
    links = [(index, 30) for index in range(10)]
    for seed in range(5):
        divided, _ = stratified.complete(contents, labels, given, val=0.3, test=0.3, seed=seed, links=links)
        assert set(divided[:10]) == {"train"}
        assert divided[10:30].count("val") == 9
        assert divided[30:] == ["test"] * 10


def test_where_all_that_could_be_drawn_from_leaks_it_is_drawn_from_all_the_same() -> None:
    contents, labels = data_set(cat=10, dog=10)
    given = ["train"] * len(contents) + ["test"] * 10
    copies = [content for content, label in zip(contents, labels, strict=True) if label == "cat"]
    images = [*contents, *copies], [*labels, *["cat"] * 10]
    message = r"class cat: .* go to val, received 0 .*, 10 in train being one picture .*; .*give val images of its own"
    with pytest.raises(ValueError, match=message):
        stratified.draw(*images, given=given, val=0.2, test=0, seed=0)
    divided, sources = stratified.complete(*images, given, val=0.2, test=0.2, seed=0)
    assert divided[20:] == ["test"] * 10
    for own in (slice(10), slice(10, 20)):
        assert Counter(divided[own]) == {"train": 8, "val": 2}
    assert sources == {"train": "folder", "val": "drawn", "test": "folder"}


def test_an_error_names_no_leak_where_there_is_none() -> None:
    contents, labels = data_set(cat=10, dog=1)
    with pytest.raises(ValueError, match="expected at least") as other:
        stratified.complete(contents, labels, ["train"] * 11, val=0.2, test=0.2, seed=0)
    assert "held-out" not in str(other.value)


def test_a_group_holds_together_where_its_first_image_is_left_out_or_new() -> None:
    contents, labels = data_set(cat=40, dog=40)
    old = stratified.draw(contents, labels, val=0.2, test=0.2, seed=0)
    known = dict(zip(contents, old, strict=True))
    tested = old.index("test")
    # The first of the group has two labels, so it is left out; the others must not be parted by that.
    assert labels[tested] == "cat"
    groups = ["one" if index == tested or index >= 80 else "" for index in range(87)]
    more, own = [*contents, contents[tested], *contents_of("new", 6)], [*labels, *["dog"] * 7]
    divided = stratified.draw(more, own, val=0.2, test=0.2, seed=0, keys=[groups], known=known)
    assert divided[tested] == divided[80] == placement.LEFT_OUT
    assert divided[81:] == ["test"] * 6
    # A new image comes first: the old ones of its group, which was not known, still are one unit.
    trained = old.index("train")
    groups = ["one", *["one" if index in (trained, tested) else "" for index in range(80)]]
    divided = stratified.draw(
        ["f" * 64, *contents], ["cat", *labels], val=0.2, test=0.2, seed=0, keys=[groups], known=known
    )
    assert len({divided[0], divided[trained + 1], divided[tested + 1]}) == 1
    assert divided[0] != placement.LEFT_OUT


@pytest.mark.parametrize("trial", range(30))
def test_no_two_images_that_belong_together_are_drawn_into_two_splits(trial: int) -> None:
    chance = np.random.default_rng(trial)
    contents, labels = data_set(cat=150, dog=100, owl=50)
    order = chance.permutation(300)
    contents, labels = [contents[i] for i in order], [labels[i] for i in order]
    contents[:20] = contents[100:120]  # with another label, some of them
    groups = [f"{number}" if number < 40 else "" for number in chance.integers(150, size=300)]
    links = [(int(one), int(other)) for one, other in chance.integers(300, size=(30, 2)) if one != other]
    given = [("test", "val", "train")[number] if number < 3 else "" for number in chance.integers(60, size=300)]
    if trial % 2:
        given = ["" if split == "val" else split for split in given]
    known = dict(
        zip(contents, chance.choice(["train", "val", "test", ""], size=300, p=[0.2, 0.05, 0.05, 0.7]), strict=True)
    )
    divided, _ = stratified.complete(
        contents, labels, given, val=0.2, test=0.2, seed=trial, keys=[groups], links=links, known=known
    )
    assert all(split == own or own in ("train", "") for own, split in zip(given, divided, strict=True))
    assert all(split != placement.LEFT_OUT for own, split in zip(given, divided, strict=True) if own)
    for one, other in leaks.pairs(divided, links, [contents, groups]):
        assert given[one] != "" != given[other], "only what was given may be torn"
    assert divided.count(placement.LEFT_OUT) < 100
