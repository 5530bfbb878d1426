"""Images that are one picture or of one group are one unit, by whatever way they are linked."""

import pytest

from thaw import paths
from thaw.data import units


def test_images_are_of_one_unit_by_the_number_in_the_manifest_and_alone_without() -> None:
    assert units.read([{"unit": unit} for unit in ("", "2", "1", "2", "", "1")]).tolist() == [0, 1, 2, 1, 4, 2]


def test_an_image_is_leaked_if_its_unit_was_learnt_from_or_chosen_by() -> None:
    own = [0, 0, 1, 1, 2, 2, 3, 4, 4]
    divided = ["train", "test", "val", "test", "train", "val", "test", "", "test"]
    assert units.leaked(own, divided).tolist() == [False, True, False, True, False, True, False, False, False]
    assert units.leaks(own, divided) == {"val": 1, "test": 2}
    assert units.leaks([0, 0, 1], ["train", "train", "test"]) == {"val": 0, "test": 0}


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({"val": 0, "test": 0}, ""),
        ({"val": 0, "test": 2}, "leaks: 2 of 3 test images are copies or near-duplicates of training or validation "),
        ({"val": 1, "test": 0}, "leaks: 1 of 1 val images are copies or near-duplicates of training images"),
        ({"val": 1, "test": 2}, "leaks: 1 of 1 val images and 2 of 3 test images are"),
    ],
)
def test_the_line_says_how_many_of_which_and_where_they_are_listed(found: dict[str, int], told: str) -> None:
    said = units.warning(found, ["test", "test", "test", "val", "train"])
    assert said.startswith(told) and bool(said) is bool(told) and (not told or str(paths.LEAKS) in said)


@pytest.mark.parametrize(
    ("val", "test", "told"), [(10, 10, []), (9, 10, ["val"]), (40, 1, ["test"]), (1, 0, ["val", "test"])]
)
def test_held_out_splits_of_few_units_are_named(val: int, test: int, told: list[str]) -> None:
    own = [*range(val), *range(100, 100 + test), *range(200, 203)]
    divided = ["val"] * val + ["test"] * test + ["train"] * 3
    assert [line.split()[0] for line in units.few([*own, *own], [*divided, *divided])] == told
