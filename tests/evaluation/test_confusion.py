import re

import numpy as np
import pytest

from thaw.evaluation import confusion

COUNTS = np.array([[8, 2, 0], [1, 9, 0], [0, 5, 5]])


def test_answers_are_counted_by_name() -> None:
    found = confusion.counts(["a", "a", "c", "b"], ["a", "b", "c", "b"], ["a", "b", "c"])
    np.testing.assert_array_equal(found, [[1, 1, 0], [0, 1, 0], [0, 0, 1]])


def test_the_pairs_most_confused_come_first_with_their_share_and_the_other_way_round() -> None:
    found = confusion.confused(COUNTS, 2)
    assert [tuple(pair.values()) for pair in found] == [(2, 1, 5, 10, 0), (0, 1, 2, 10, 1)]
    assert confusion.confused(np.diag([3, 4]), 5) == []


def test_a_small_matrix_is_a_table_whose_shades_grow_with_the_share() -> None:
    found = confusion.matrix(COUNTS, ["a", "b", "c"], "name")
    assert [name for name, _ in found.cells] == ["a", "b", "c"] and not found.picture
    assert found.cells[0][1] == [(8, "r5"), (2, "w3"), (0, "")]
    assert found.cells[2][1] == [(0, ""), (5, "w4"), (5, "r4")]
    assert found.rows[2] == {"name": "c", "images": 10, "right": 5, "taken": [("b", 5)]}


@pytest.mark.parametrize("count", [25, 150])
def test_a_larger_matrix_is_a_picture_with_every_name_and_every_cell(count: int) -> None:
    table = np.diag(np.full(count, 9))
    table[3, 7] = 2
    names = [f"<class> & {number}" for number in range(count)]
    found = confusion.matrix(table, names, 'a "name"')
    assert not found.cells and found.left_out == 0
    assert 'aria-label="a &#34;name&#34;"' in found.picture
    assert len(re.findall(r'<rect class="[rw]\d"', found.picture)) == count + 1
    assert "<title>&lt;class&gt; &amp; 3 → &lt;class&gt; &amp; 7: 2 of 11</title>" in found.picture
    assert "<class>" not in found.picture and found.picture.count("&lt;class&gt; &amp; 8</text>") == 2


def test_long_names_beside_a_picture_keep_both_ends_and_say_the_whole_when_pointed_at() -> None:
    names = [f"hydromedusae_solmaris_of_kind_{number:02}" for number in range(25)]
    found = confusion.matrix(np.eye(25, dtype=int), names, "name")
    short = re.findall(r"<text [^>]*>([^<]*)<title>([^<]*)</title></text>", found.picture)
    assert len(short) == 50 and {whole for _, whole in short} == set(names)
    assert len({text for text, _ in short}) == 25 and short[0][0] == "hydromedusae…_of_kind_00"
    assert max(len(text) for text, _ in short) == confusion.LONGEST


def test_a_picture_is_bounded_and_keeps_the_cells_of_the_most_images() -> None:
    table = np.ones((120, 120), int)
    table[5, 6] = 40
    found = confusion.matrix(table, [str(number) for number in range(120)], "name")
    assert found.left_out == 120 * 119 - confusion.CELLS
    assert "5 → 6: 40 of 159" in found.picture and len(found.picture) < 500_000


def test_of_very_many_classes_there_are_rows_and_pairs_only() -> None:
    found = confusion.matrix(np.eye(151, dtype=int), [str(number) for number in range(151)], "name")
    assert not found.cells and not found.picture and not found.pairs and len(found.rows) == 151
