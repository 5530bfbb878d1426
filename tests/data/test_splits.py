import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from thaw import paths, records
from thaw.config import schema
from thaw.data import fingerprints, packed, split_memory, splits
from thaw.data.samples import Sample

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data() -> schema.Data:
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["data"]
    return schema.Data(**values | {"val": 0.2, "test": 0.2})


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def sample(number: int, label: str, *, split: str = "", like: int | None = None, group: str = "") -> Sample:
    image = noise(number if like is None else like)
    return Sample(
        f"{label}/{number}.png",
        f"{number:064x}"[::-1],
        label,
        split,
        32,
        32,
        fingerprints.fingerprint(image),
        group,
    )


def samples(count: int = 20) -> list[Sample]:
    return [sample(number, ("cat", "dog")[number % 2]) for number in range(count)]


def test_images_that_look_alike_and_groups_go_together(data: schema.Data) -> None:
    found = [*samples(), *(sample(number, "cat", like=number - 80) for number in range(80, 90))]
    found += [sample(number, "dog", group="one person") for number in range(200, 206)]
    for seed in range(5):
        data.seed = seed
        division = splits.divide(found, data, {})
        assert division.splits[20:30] == division.splits[:10]
        assert len(set(division.splits[30:])) == 1
        assert division.repeated() == {"clusters": 10, "images": 20, "largest": 2}
        assert division.leaks.kinds == []
        assert division.random_leaks > 0


def test_each_class_needs_an_image_to_train_on_that_weighs_something(data: schema.Data) -> None:
    found = samples()
    for one in found:
        if one.label == "dog":
            one.weight = 0
    with pytest.raises(ValueError, match=r"class dog: .*of weight 0"):
        splits.divide(found, data, {})
    for one in found:
        one.weight, one.split = 1, "test" if one.label == "dog" else "train"
    with pytest.raises(ValueError, match=r"class dog: .*received 10 in test"):
        splits.divide(found, data, {})


def test_units_of_several_images_are_numbered_in_the_manifest_and_others_are_not(data: schema.Data) -> None:
    found = [*samples(), sample(80, "cat", like=3), sample(81, "dog", group="p"), sample(82, "dog", group="p")]
    division = splits.divide(found, data, {})
    kept = packed.rows(Sample, found)
    splits.assign(kept, division)
    assert [one.split for one in kept] == division.splits
    assert {index: one.unit for index, one in enumerate(kept) if one.unit} == {3: "1", 20: "1", 21: "2", 22: "2"}


def test_pictures_without_structure_are_not_one_for_that(data: schema.Data) -> None:
    plain = fingerprints.fingerprint(Image.new("RGB", (32, 32), "white"))
    assert not plain.strip("0")
    found = samples()
    for one in found[:6]:
        one.fingerprint = plain
    assert splits.divide(found, data, {}).clusters.tolist() == list(range(20))


def test_tables_and_memory_are_in_an_order_of_their_own(data: schema.Data) -> None:
    found = [*samples(), *(sample(number, "dog", like=like) for number, like in ((80, 9), (81, 2), (82, 9)))]
    splits.write(found, splits.divide(found, data, {}), data)
    rows = records.read_csv(paths.COPIES)
    assert [row["cluster"] for row in rows] == ["1", "1", "2", "2", "2"]
    assert {row["path"] for row in rows[:2]} == {"cat/2.png", "dog/81.png"}
    images = records.read_json(paths.MEMORY)["images"]
    assert all(contents == sorted(contents) for contents in images.values())


def test_figures_count_images_contents_and_pictures(data: schema.Data) -> None:
    found = [*samples(), sample(0, "cat"), *(sample(number, "dog", like=5) for number in (80, 81, 82))]
    division = splits.divide(found, data, {})
    figures = splits.figures(found, ["cat", "dog"], division)
    assert (figures["images"], figures["classes"], figures["duplicates"], figures["label_conflicts"]) == (24, 2, 1, 0)
    assert figures["near_duplicates"] == {"clusters": 2, "images": 6, "largest": 4}
    assert sum(split["images"] for split in figures["splits"].values()) == 24
    assert {split["source"] for split in figures["splits"].values()} == {"drawn"}
    assert [sum(row[split] for split in paths.SPLITS) for row in figures["per_class"]] == [11, 13]
    found.append(sample(0, "dog"))
    again = splits.figures(found, ["cat", "dog"], splits.divide(found, data, {}))
    assert (again["duplicates"], again["label_conflicts"]) == (2, 1)


def test_of_a_division_that_was_drawn_there_is_nothing_to_warn_of(data: schema.Data) -> None:
    found = [*samples(), sample(80, "cat", like=3)]
    assert list(splits.warnings(found, splits.divide(found, data, {}))) == []


def test_warnings_count_what_leaks_what_joined_a_given_split_and_what_is_in_none(data: schema.Data) -> None:
    given = ["train"] * 12 + ["test"] * 8
    found = [sample(number, ("cat", "dog")[number % 2], split=split) for number, split in enumerate(given)]
    found += [sample(number, "cat", split="train") for number in range(30, 50)]
    found.append(sample(80, "cat", like=15))  # goes to the test with its copy
    division = splits.divide(found, data, {})
    drawn = sum(place == "val" for one, place in zip(found, division.splits, strict=True) if one.split == "train")
    assert [text.split(" images")[0] for text in splits.warnings(found, division)] == ["1", f"{drawn}"]
    found.append(sample(81, "cat", like=2, split="test"))
    leaking = list(splits.warnings(found, splits.divide(found, data, {})))
    assert len(leaking) == 3 and leaking[0].startswith("leaks: 1 of 10 test images")
    found[-1] = sample(81, "cat", like=2, group="p")
    found.append(sample(82, "cat", like=15, group="p", split="test"))
    found.append(sample(2, "dog"))  # of two labels, and not trained on since its copy is tested
    between = list(splits.warnings(found, splits.divide(found, data, {})))
    assert any("in no split" in text for text in between)


def test_images_given_to_training_are_not_drawn_and_a_folder_of_them_is_without_a_word(data: schema.Data) -> None:
    given = ["train"] * 20 + [""] * 20
    found = [sample(number, ("cat", "dog")[number % 2], split=split) for number, split in enumerate(given)]
    division = splits.divide(found, data, {found[0].sha256: "test"})
    assert set(division.splits[:20]) == {"train"} and set(division.splits[20:]) == {"train", "val", "test"}
    assert list(splits.warnings(found, division)) == []
    found = [sample(number, ("cat", "dog")[number % 2], split="train") for number in range(40)]
    division = splits.divide(found, data, {})
    assert division.splits.count("train") == 24 and list(splits.warnings(found, division)) == []


def test_classes_that_validation_or_the_test_has_no_image_of_are_named(data: schema.Data) -> None:
    def told(val: str, test: str) -> list[str]:
        given = [("train", label) for label in ("cat", "dog", "elk") * 4]
        given += [("val", label) for label in val.split()] + [("test", label) for label in test.split()]
        found = [sample(number, label, split=split) for number, (split, label) in enumerate(given)]
        return list(splits.warnings(found, splits.divide(found, data, {})))

    assert told("cat dog elk", "cat dog elk") == []
    (lacking,) = told("cat dog", "cat dog elk")
    assert "elk" in lacking and "cat" not in lacking and lacking.startswith("val ")
    (alone,) = told("dog dog", "cat dog elk")
    assert alone.startswith("all val images are of one class, dog")
    assert [text.split()[0] for text in told("cat elk", "cat")] == ["val", "all"]


def test_likeness_can_be_left_aside_but_equal_bytes_cannot(data: schema.Data) -> None:
    data.near_duplicates = False
    found = [*samples(), sample(0, "cat"), sample(80, "cat", like=1)]
    division = splits.divide(found, data, {})
    assert division.clusters.tolist() == [*range(20), 0, 21]
    assert division.splits[0] == division.splits[20]


def test_leaks_of_ready_made_splits_are_told_by_pair(data: schema.Data) -> None:
    given = ["train"] * 12 + ["val"] * 4 + ["test"] * 4
    found = [sample(n, ("cat", "dog")[n % 2], split=split) for n, split in enumerate(given)]
    found.append(sample(0, "dog", split="test"))
    found.append(sample(50, "cat", split="val", like=3))
    division = splits.divide(found, data, {})
    assert division.splits == [*given, "test", "val"]
    columns = ("split", "path", "kind", "other_split", "other_path")
    splits.write(found, division, data)
    assert splits.figures(found, ["cat", "dog"], division)["near_leaks"] == 2
    rows = [tuple(row[name] for name in columns) for row in records.read_csv(paths.LEAKS)]
    assert rows == [
        ("test", "dog/0.png", "same bytes", "train", "cat/0.png"),
        ("train", "dog/3.png", "alike", "val", "cat/50.png"),
    ]
    assert records.read_json(paths.MEMORY)["images"]["val"] == []


def test_each_leaked_image_is_listed_also_where_the_image_between_is_in_no_split(data: schema.Data) -> None:
    given = ["train"] * 12 + ["val"] * 4 + ["test"] * 4
    found = [sample(n, ("cat", "dog")[n % 2], split=split) for n, split in enumerate(given)]
    found += [sample(0, "cat", group="one"), sample(60, "cat", split="test", group="one")]
    division = splits.divide(found, data, {})
    assert division.splits == [*given, "", "test"]
    assert list(division.leaks.rows(found, division.splits)) == [
        {"split": "test", "path": "cat/60.png", "kind": "linked", "other_split": "train", "other_path": "cat/0.png"}
    ]
    figures = splits.figures(found, ["cat", "dog"], division)
    assert figures["leaked_images"] == {"val": 0, "test": 1}
    assert (figures["near_leaks"], figures["group_leaks"], figures["linked_leaks"]) == (0, 0, 1)


def test_what_is_remembered_keeps_its_place_among_new_images(data: schema.Data) -> None:
    found = samples()
    first = splits.divide(found, data, splits.remembered(data))
    splits.write(found, first, data)
    later = [*samples(60)[20:], *found]
    second = splits.divide(later, data, splits.remembered(data))
    assert second.splits[40:] == first.splits
    data.seed += 1
    assert splits.remembered(data) == {}


def test_a_test_image_that_got_a_second_label_is_still_left_out_the_next_time(data: schema.Data) -> None:
    found = samples()
    first = splits.divide(found, data, {})
    splits.write(found, first, data)
    tested = first.splits.index("test")
    found.append(sample(tested, "dog" if found[tested].label == "cat" else "cat"))
    for _ in range(3):
        again = splits.divide(found, data, splits.remembered(data))
        splits.write(found, again, data)
        assert again.splits[tested] == again.splits[20] == ""
    assert splits.divide(found[:20], data, splits.remembered(data)).splits == first.splits


def test_a_damaged_memory_is_an_error(data: schema.Data) -> None:
    paths.MEMORY.parent.mkdir()
    paths.MEMORY.write_text("{}")
    with pytest.raises(
        ValueError, match=r"splits.json: expected the splits of images.*take it from git, or delete it"
    ):
        splits.remembered(data)


def test_the_copies_are_listed_by_cluster(data: schema.Data) -> None:
    found = [*samples(), sample(80, "dog", like=4), sample(81, "cat", like=4)]
    splits.write(found, splits.divide(found, data, {}), data)
    rows = records.read_csv(paths.COPIES)
    assert [(row["cluster"], row["path"]) for row in rows] == [
        ("1", "cat/4.png"),
        ("1", "dog/80.png"),
        ("1", "cat/81.png"),
    ]
    assert len({row["split"] for row in rows}) == 1


def test_the_memory_keeps_images_that_are_absent_and_forgets_those_that_were_given_a_split(data: schema.Data) -> None:
    found = samples(40)
    splits.write(found, first := splits.divide(found, data, {}), data)
    known = splits.remembered(data)
    assert len(known) == 40
    some = found[:30]
    splits.write(some, splits.divide(some, data, splits.remembered(data)), data)
    assert splits.remembered(data) == known
    assert splits.divide(found, data, splits.remembered(data)).splits == first.splits
    found[first.splits.index("train")].split = "test"
    splits.write(found, splits.divide(found, data, splits.remembered(data)), data)
    assert found[first.splits.index("train")].sha256[:16] not in splits.remembered(data)


def test_a_look_alike_of_a_given_test_image_is_not_trained_on(data: schema.Data) -> None:
    found = samples(40)
    found += [sample(number, "cat", like=number - 80) for number in range(80, 84)]  # like the images 0 to 3
    for index in range(4):
        found[index].split = "test"
    for seed in range(5):
        data.seed = seed
        division = splits.divide(found, data, {})
        assert division.splits[40:] == ["test"] * 4
        assert division.leaks.kinds == []
        assert list(splits.warnings(found, division))


def test_data_sets_are_remembered_side_by_side(data: schema.Data) -> None:
    def place(found: list[Sample], **changes: Any) -> list[str]:
        settings = dataclasses.replace(data, **changes)
        division = splits.divide(found, settings, splits.remembered(settings))
        splits.write(found, division, settings)
        return division.splits

    first, grown = samples(20), samples(60)
    place(first)
    old = place(grown)  # the new ones lie otherwise than if all had come at once
    others = [sample(number, ("cow", "pig")[number % 2]) for number in range(100, 140)]
    other = place(others, val=0.3)
    same_shares = place(others)
    assert place(grown, seed=1) != old
    assert (place(grown), place(others, val=0.3), place(others)) == (old, other, same_shares)
    assert splits.remembered(data).keys() >= {each.sha256[: split_memory.HEX] for each in (*grown, *others)}
    # Without the memory they lie elsewhere, so that it is the memory that keeps them.
    paths.MEMORY.unlink()
    assert place(grown) != old


def test_a_memory_of_other_images_is_not_blamed(data: schema.Data) -> None:
    place = splits.divide(samples(20), data, {})
    splits.write(samples(20), place, data)
    few = [sample(number, ("cow", "pig")[number % 2]) for number in range(100, 104)]
    with pytest.raises(ValueError, match="expected at least") as caught:
        splits.divide(few, data, splits.remembered(data))
    assert paths.MEMORY.name not in str(caught.value)
