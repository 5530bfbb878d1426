"""Rows kept by column read like a list of objects, and take some tens of bytes each."""

import hashlib
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from thaw.data import packed, text_columns
from thaw.data.issues import Finding
from thaw.data.samples import Sample


def sample(number: int) -> Sample:
    content = hashlib.sha256(f"{number}".encode()).hexdigest()
    name = f"a class/{number:06}.jpg" if number % 7 else f"'ü\n{os.fsdecode(bytes([0xE9]))}{number}"
    group, converted = ("", content[::-1])[number % 2], "" if number % 3 else content
    return Sample(name, content, "ab"[number % 2], "", 7, number, content * 3, group, number / 3, converted, "4")


@pytest.mark.parametrize("in_memory", [1 << 18, 200])
def test_rows_are_read_as_they_were_put_in(in_memory: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(text_columns, "IN_MEMORY", in_memory)
    expected = [sample(number) for number in range(50)]
    found = packed.Rows(Sample, expected[:30], tmp_path)
    assert found[-1] == expected[29], "also between two that are put in"
    found.extend(expected[30:])
    assert found == expected and list(found) == expected and found[3:40:5] == expected[3:40:5]
    assert found.take([5, 2, 2]) == [expected[5], expected[2], expected[2]]
    with pytest.raises(IndexError):
        found[50]
    by_name = sorted(expected, key=lambda each: each.path)
    assert found.sorted_by("path") == by_name and found.sorted_by("height") is found
    places = np.array([7, 49, 0, 8, 7, 9])
    packed_prints = found.columns["fingerprint"].some(places)
    assert [row.tobytes().hex() for row in packed_prints] == [expected[place].fingerprint for place in places]
    for near, at_once in ((0, 1024), (1, 4), (64, 3)):
        monkeypatch.setattr(text_columns, "NEAR", near)
        monkeypatch.setattr(text_columns, "AT_ONCE", at_once)
        assert np.array_equal(found.columns["fingerprint"].some(places), packed_prints), "time, not results"
    assert not any(tmp_path.iterdir()), "the file on disk has no name that could be left behind"


def test_where_the_folder_may_not_be_written_to_the_file_lies_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_columns, "IN_MEMORY", 200)
    expected = [sample(number) for number in range(50)]
    assert packed.Rows(Sample, expected, tmp_path / "nowhere") == expected
    assert not any(tmp_path.iterdir())


def test_a_value_that_is_no_digits_or_of_another_length_is_an_error() -> None:
    column = text_columns.Hexes(["00ff"])
    for wrong in ("zz00", "00", ""):
        with pytest.raises(ValueError):  # noqa: PT011 -- of bytes.fromhex, or with the length
            column.append(wrong)
    assert list(column) == ["00ff"]


def test_equal_values_have_equal_numbers_and_empty_ones_none() -> None:
    words = text_columns.numbers(["b", "", "a", "b"])
    assert words[0] == words[3] != words[2] and words[1] == -1
    digits = [hashlib.sha256(bytes([number % 5])).hexdigest() for number in range(20)]
    numbers = text_columns.numbers(text_columns.Hexes(digits))
    assert all((numbers[i] == numbers[j]) == (digits[i] == digits[j]) for i in range(20) for j in range(20))


def test_columns_grow_wider_where_values_or_bytes_become_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_columns, "MOST", 1000)
    monkeypatch.setattr(text_columns, "WIDER", {3: "h", 9: "i"})
    texts = [f"value {number % 40}" for number in range(200)]
    words, plain = text_columns.Words(), text_columns.Texts()
    for number, text in enumerate(texts):
        words.append(text)
        plain.append(text)
        assert words[number] == plain[number] == text
    assert list(words) == list(plain) == texts and words.values == texts[:40]


def test_an_image_takes_little_memory() -> None:
    count = 5000
    tracemalloc.start()
    rows = packed.Rows(Sample)
    for number in range(count):
        content = hashlib.sha256(f"{number}".encode()).hexdigest()
        rows.append(Sample(f"class_00001/{number:08}.jpg", content, "cat", "", 40, 40, content * 4))
    used = tracemalloc.get_traced_memory()[0] - text_columns.IN_MEMORY
    findings = packed.Rows(Finding)
    before = tracemalloc.get_traced_memory()[0]
    findings.extend(Finding("small", f"class_00001/{number:08}.jpg", "40 × 40", "kept") for number in range(count))
    more = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert used < 110 * count and more < 45 * count, (used / count, more / count)
