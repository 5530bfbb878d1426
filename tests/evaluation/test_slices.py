from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from thaw import paths, records
from thaw.evaluation import intervals, slices


def row(path: str, label: str, side: int = 100, unit: str = "", **more: str) -> dict[str, str]:
    plain = dict.fromkeys(("sha256", "fingerprint", "converted"), "") | {"split": "test", "weight": "1.0", "group": ""}
    return {**plain, "path": path, "label": label, "width": str(side), "height": str(2 * side), "unit": unit, **more}


ROWS = [
    row("site_a/cat/1.png", "cat", 40, group="x"),
    row("site_a/dog/2.png", "dog", 63, group="x"),
    row("site_b/cat/3.png", "cat", 64, unit="1", group="y"),
    row("site_b/dog/4.png", "dog", 300, unit="1", group="y"),
]


def found(rows: list[dict[str, str]], findings: list[dict[str, str]]) -> dict[tuple[str, str], list[bool]]:
    return {(kind, value): chosen.tolist() for kind, value, chosen in slices.slices(rows, findings)}


def test_images_are_told_apart_by_folder_size_column_near_duplicates_and_finding() -> None:
    findings = [{"path": "site_b/dog/4.png", "kind": "large"}, {"path": "gone.png", "kind": "broken"}]
    first, second = [True, True, False, False], [False, False, True, True]
    assert found(ROWS, findings) == {
        ("folder", "site_a"): first,
        ("folder", "site_b"): second,
        ("size", "32 to 63 px"): first,
        ("size", "64 to 127 px"): [False, False, True, False],
        ("size", "256 to 511 px"): [False, False, False, True],
        ("group", "x"): first,
        ("group", "y"): second,
        ("near-duplicates", "none"): first,
        ("near-duplicates", "some"): second,
        ("finding", "large"): [False, False, False, True],
    }


def test_the_users_own_columns_are_slices_by_their_own_names_unless_these_mean_something_else() -> None:
    own = [
        {"table:camera": camera, "table:size": size, "table:age": age}
        for camera, size, age in (("n", "s", "2 to 9"), ("", "s", "-1 to 1"), ("n", "l", "10 to 11"), ("n", "l", ""))
    ]
    of = found([before | more for before, more in zip(ROWS, own, strict=True)], [])
    assert of["camera", "n"] == [True, False, True, True] and of["camera", slices.EMPTY] == [False, True, False, False]
    assert of["table:size", "s"] == [True, True, False, False]
    assert ("size", "32 to 63 px") in of
    assert [value for kind, value in of if kind == "age"] == ["-1 to 1", "2 to 9", "10 to 11", slices.EMPTY]


def test_the_order_of_values_hangs_on_nothing_else_where_one_is_no_number() -> None:
    values = ["nan", "2", "1", "NaN", "b", "3"]
    orders = [sorted(order, key=slices._natural) for order in permutations(values)]
    assert {tuple(order) for order in orders} == {("1", "2", "3", "NaN", "b", "nan")}


def test_a_folder_that_is_the_class_a_column_of_one_value_and_one_of_names_are_no_slices() -> None:
    rows = [row(f"cat/{n}.png", "cat", group=str(n)) for n in range(slices.MOST + 1)]
    assert found(rows, []) == {}
    assert found([], []) == {}


def test_a_folder_whose_name_only_ends_like_the_class_is_no_part_of_another() -> None:
    rows = [
        row(f"{site}/{n}.png", f"{n % 2}") for site in ("site1", "site10", "site11", "/far/site0/0") for n in range(4)
    ]
    of = {value: sum(chosen) for (kind, value), chosen in found(rows, []).items() if kind == "folder"}
    assert of == {"site1": 4, "site10": 4, "site11": 4, "/far/site0": 2, "/far/site0/0": 2}


def test_the_figures_are_cluster_robust_and_say_whether_they_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        row(f"{site}/cat/{n}.png", "cat") for site, count in (("a", 90), ("b", 90), ("c", 6)) for n in range(count)
    ]
    right, units = np.ones(186, bool), np.arange(186)
    right[[0, 1, 2, 90, 91, 92]] = False
    units[90:180] = 90 + np.arange(90) // 30
    slices.write(rows, right, 0.95, units)
    table = {line["value"]: line for line in records.read_csv(paths.SLICES)}
    assert [(name, line["images"], line["units"], line["enough"]) for name, line in table.items()] == [
        ("a", "90", "90", "yes"),
        ("b", "90", "3", "no"),
        ("c", "6", "6", "no"),
    ]
    assert float(table["a"]["accuracy"]) == 87 / 90
    for name, chosen in (("a", slice(0, 90)), ("b", slice(90, 180))):
        low, high = intervals.accuracy(right[chosen], 0.95, units[chosen])
        assert (float(table[name]["low"]), float(table[name]["high"])) == (low, high)


def test_the_order_of_values_is_one_also_where_a_cell_says_nan() -> None:
    """A set has another order in each process, and the file has to have the same bytes."""
    values = ["nan", "12", "b", "3 to 4"]
    found = {tuple(sorted(some, key=slices._natural)) for some in permutations(values)}
    assert found == {("3 to 4", "12", "b", "nan")}
