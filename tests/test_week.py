"""What ``python -m benchmarks.week`` holds back, and what it counts as re-used."""

from pathlib import Path

from benchmarks import week


def test_a_share_of_each_class_comes_later_and_no_class_is_left_without_images(tmp_path: Path) -> None:
    files = [tmp_path / label / f"{n}.png" for label, count in (("a", 40), ("b", 10), ("c", 1)) for n in range(count)]
    found = week.held_back(files, 0.2)
    assert [sum(file.parent.name == label for file in found) for label in "abc"] == [8, 2, 0]
    assert found == week.held_back(reversed(files), 0.2)
    assert len(week.held_back(files, 1.0)) == 39 + 9 + 0


def test_images_that_changed_their_split_or_are_gone_are_counted() -> None:
    before = {"1": "train", "2": "val", "3": "test", "4": ""}
    assert week.moved(before, before | {"5": "test"}) == 0
    assert week.moved(before, {"1": "test", "2": "val", "4": "train"}) == 3
    assert week.counted(before.values()) == "1 train, 1 val, 1 test"


def test_the_stages_that_dvc_ran_are_read_from_what_it_says() -> None:
    said = "Stage 'prepare' didn't change, skipping\nRunning stage 'export':\n> python -m stages.export\n"
    assert week.RAN.findall(said) == ["export"]
