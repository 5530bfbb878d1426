import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from thaw import paths
from thaw.features import cache

SHAPE = (2, 3, 4)
ROW_BYTES = 2 * 2 * 3 * 4
HASHES = [f"{number:064x}" for number in range(20)]


def values(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 30, (count, *SHAPE)).astype(np.float16)


def read(entry: cache.Entry, hashes: list[str]) -> np.ndarray:
    """Through the index and the map, as training does."""
    rows = entry.find(hashes)
    assert (rows >= 0).all()
    return cache.Reader([entry], [rows])(np.arange(len(hashes)), np.zeros(len(hashes), np.int64))


@pytest.fixture
def entry(tmp_path: Path) -> cache.Entry:
    return cache.Entry(tmp_path / "entry", SHAPE)


def test_rows_come_back_bit_for_bit_in_the_order_asked_for(entry: cache.Entry) -> None:
    rows = values(5)
    rows[0].flat[:6] = [65504, -65504, 6e-8, -0.0, 2**-14, 1 / 3]  # largest, smallest, signed zero, subnormal border
    entry.append(HASHES[:3], rows[:3])
    entry.append(HASHES[3:5], rows[3:])
    assert entry.find([*HASHES[:5], HASHES[9]]).tolist() == [0, 1, 2, 3, 4, -1]
    found = read(cache.Entry(entry.path, SHAPE), [HASHES[4], HASHES[0], HASHES[4], HASHES[2]])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.uint32), rows[[4, 0, 4, 2]].astype(np.float32).view(np.uint32))
    assert entry.size() == 5 * (ROW_BYTES + 74) == sum(file.stat().st_size for file in entry.path.glob("*.*"))


@pytest.mark.parametrize(
    ("scale", "refused"), [(1e4, False), (1.0, False), (1e-4, False), (1e-7, True), (1e-9, True), (0.0, False)]
)
def test_activations_of_which_fp16_keeps_hardly_anything_are_refused(scale: float, refused: bool) -> None:
    usual = scale * np.random.default_rng(0).normal(0, 1, (4, 500))
    with pytest.raises(cache.TooSmallError) if refused else nullcontext():
        cache.check_small(usual, usual.astype(np.float16))


def test_a_few_small_values_among_usual_ones_are_no_loss() -> None:
    mixed = np.random.default_rng(0).normal(0, 1, (4, 500)) * np.where(np.arange(500) % 2, 1e-9, 1)
    cache.check_small(mixed, mixed.astype(np.float16))


def test_the_images_of_an_entry_are_told_by_its_index(entry: cache.Entry) -> None:
    assert cache.names(entry.path) == cache.names(entry.path.parent / "none") == set()
    entry.append(HASHES[:3], values(3))
    assert cache.names(entry.path) == set(HASHES[:3])


def test_a_damaged_line_of_the_index_hides_no_other_image(entry: cache.Entry) -> None:
    entry.append(HASHES[:3], values(3))
    whole = entry.index.read_bytes()
    entry.index.write_bytes(whole[:140] + bytes(8) + whole[148:])  # with the end of the second line
    assert entry.find(HASHES[:3]).tolist() == [0, -1, 2]
    assert cache.names(entry.path) >= {HASHES[0], HASHES[2]}


def test_an_entry_that_is_new_or_empty_has_nothing(entry: cache.Entry) -> None:
    assert entry.find(HASHES).tolist() == [-1] * 20
    assert entry.find([]).tolist() == []
    assert entry.size() == 0
    entry.append([], values(0))
    assert entry.find(HASHES[:1]).tolist() == [-1]


def test_a_reader_draws_each_image_from_the_entry_of_its_view(tmp_path: Path) -> None:
    views = [values(4, seed) for seed in range(3)]
    entries, rows = [], []
    for number, table in enumerate(views):
        entry = cache.Entry(tmp_path / str(number), SHAPE)
        order = np.random.default_rng(number).permutation(4)  # images need not lie in the same order in each view
        entry.append([HASHES[image] for image in order], table[order])
        entries.append(entry)
        rows.append(entry.find(HASHES[:4]))
    read = cache.Reader(entries, rows)
    images, wanted = np.array([3, 0, 0, 2, 1, 3]), np.array([2, 0, 1, 1, 0, 2])
    expected = np.stack([views[view][image] for image, view in zip(images, wanted, strict=True)])
    np.testing.assert_array_equal(read(images, wanted), expected.astype(np.float32))


def test_an_image_without_a_row_is_not_read_as_another(entry: cache.Entry) -> None:
    entry.append(HASHES[:2], values(2))
    with pytest.raises(ValueError, match="the activation cache lost rows"):
        cache.Reader([entry], [entry.find(HASHES[1:3])])


@pytest.mark.parametrize("left", [1, ROW_BYTES - 1, ROW_BYTES, 3 * ROW_BYTES + 7])
def test_bytes_that_a_crash_left_behind_the_rows_do_no_harm(entry: cache.Entry, left: int) -> None:
    rows = values(5)
    entry.append(HASHES[:3], rows[:3])
    with entry.data.open("ab") as file:
        file.write(b"\x77" * left)
    np.testing.assert_array_equal(read(entry, HASHES[:3]), rows[:3])
    entry.append(HASHES[3:5], rows[3:])
    np.testing.assert_array_equal(read(entry, HASHES[:5]), rows)
    assert entry.data.stat().st_size == 5 * ROW_BYTES


@pytest.mark.parametrize("left", [1, 64, 73])
def test_a_line_of_the_index_that_a_crash_cut_short_counts_as_none(entry: cache.Entry, left: int) -> None:
    rows = values(5)
    entry.append(HASHES[:4], rows[:4])
    os.truncate(entry.index, 3 * 74 + left)
    assert entry.find(HASHES[:4]).tolist() == [0, 1, 2, -1]
    entry.append(HASHES[3:5], rows[3:])
    np.testing.assert_array_equal(read(entry, HASHES[:5]), rows)
    assert entry.index.stat().st_size == 5 * 74


@pytest.mark.parametrize("kept", [0, 1, ROW_BYTES, 2 * ROW_BYTES - 1, 3 * ROW_BYTES + 1])
def test_rows_that_were_cut_off_are_missing_and_can_be_added_again(entry: cache.Entry, kept: int) -> None:
    rows = values(4)
    entry.append(HASHES[:4], rows)
    os.truncate(entry.data, kept)
    whole = kept // ROW_BYTES
    expected = [*range(whole), *[-1] * (4 - whole)]
    assert entry.find(HASHES[:4]).tolist() == expected
    if whole:
        np.testing.assert_array_equal(read(entry, HASHES[:whole]), rows[:whole])
    entry.append(HASHES[whole:4], rows[whole:])
    np.testing.assert_array_equal(read(entry, HASHES[:4]), rows)


def test_a_table_without_its_rows_or_its_index_is_begun_again(entry: cache.Entry) -> None:
    rows = values(3)
    for lost in (entry.data, entry.index):
        entry.append(HASHES[:3], rows)
        lost.unlink()
        assert entry.find(HASHES[:3]).tolist() == [-1] * 3
        entry.append(HASHES[:3], rows)
        np.testing.assert_array_equal(read(entry, HASHES[:3]), rows)


def test_any_flipped_bit_makes_its_row_missing_and_no_other(entry: cache.Entry) -> None:
    rows = values(4)
    entry.append(HASHES[:4], rows)
    whole = entry.data.read_bytes()
    for place in np.random.default_rng(0).integers(len(whole), size=30):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        entry.data.write_bytes(damaged)
        broken = place // ROW_BYTES
        opened = cache.Entry(entry.path, SHAPE)  # as the next process does; a row is checked once
        assert opened.find(HASHES[:4]).tolist() == [-1 if row == broken else row for row in range(4)]
    entry.append([HASHES[broken]], rows[broken : broken + 1])
    assert entry.find(HASHES[:4]).tolist() == [4 if row == broken else row for row in range(4)]
    np.testing.assert_array_equal(read(entry, HASHES[:4]), rows)


def test_a_damaged_index_never_gives_a_wrong_row(entry: cache.Entry) -> None:
    rows = values(6)
    entry.append(HASHES[:6], rows)
    whole, random = entry.index.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in random.integers(len(whole), size=random.integers(1, 5)):
            damaged[place] = random.integers(256)
        entry.index.write_bytes(damaged)
        found = entry.find(HASHES[:6])
        assert all(row in (-1, image) for image, row in enumerate(found))


def test_of_two_rows_of_an_image_either_will_do(entry: cache.Entry) -> None:
    rows = values(3)
    entry.append([HASHES[0], HASHES[1], HASHES[0]], rows[[0, 1, 0]])
    np.testing.assert_array_equal(read(entry, HASHES[:2]), rows[:2])


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_fp16_cannot_hold_is_refused_and_nothing_is_written(entry: cache.Entry, value: float) -> None:
    entry.append(HASHES[:1], values(1))
    rows = values(2)
    rows[1, 0, 0, 0] = value
    with pytest.raises(ValueError, match=r"too large for the cache's fp16.*phase2\.activations=streaming"):
        entry.append(HASHES[1:3], rows)
    assert entry.find(HASHES[:3]).tolist() == [0, -1, -1]


def test_a_name_follows_from_all_it_is_made_of_and_from_nothing_else() -> None:
    one = cache.name(weights="a", cut="top", view=1, augment={"zoom": 0.1, "seed": 0})
    assert one == cache.name(view=1, augment={"seed": 0, "zoom": 0.1}, cut="top", weights="a")
    others = [
        cache.name(weights="b", cut="top", view=1, augment={"zoom": 0.1, "seed": 0}),
        cache.name(weights="a", cut="top", view=2, augment={"zoom": 0.1, "seed": 0}),
        cache.name(weights="a", cut="top", view=1, augment={"zoom": 0.1, "seed": 1}),
        cache.name(weights="a", cut="top", view=1, augment=None),
    ]
    assert len({one, *others}) == 5


def test_the_cache_lies_in_the_main_repository_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert cache.folder("") == tmp_path.resolve() / ".thaw" / "activations" == paths.main_root() / ".thaw/activations"
    assert cache.folder("elsewhere") == Path("elsewhere")


WRITER = """
import sys
from pathlib import Path
import numpy as np
from thaw.features import cache

entry = cache.Entry(Path(sys.argv[1]), (300, 100))
print("ready", flush=True)
for first in range(0, 100_000, 7):
    numbers = range(first, first + 7)
    missing = [number for number in numbers if entry.find([f"{number:064x}"])[0] < 0]
    if missing:
        rows = np.stack([np.full((300, 100), number % 2000, np.float16) for number in missing])
        entry.append([f"{number:064x}" for number in missing], rows)
"""


def test_a_writer_killed_at_any_moment_leaves_whole_rows_only(tmp_path: Path) -> None:
    reached, random = 0, np.random.default_rng(0)
    for _ in range(4):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "entry")], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        index = tmp_path / "entry" / "index.csv"
        while not index.exists() or index.stat().st_size <= reached * 74:
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.02))
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
        writer.stdout.close()
        entry = cache.Entry(tmp_path / "entry", (300, 100))
        count = index.stat().st_size // 74
        assert count > reached
        rows = entry.find([f"{number:064x}" for number in range(count)])
        assert sorted(rows) == list(range(count))
        read = cache.Reader([entry], [rows])
        for number in range(count):
            row = read(np.array([number]), np.array([0]))
            assert row.min() == row.max() == number % 2000
        reached = count
