"""Packs of activations that machines share: in a folder and in an S3-compatible store, which is moto's."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thaw.features import cache, packs, store

SHAPES = [(3,), (2, 4)]  # of an image's activations at two cuts
NAMES = [[cache.name(view=view, cut=cut) for cut in range(2)] for view in range(2)]
IMAGES = [cache.name(image=number) + cache.name(other=number) for number in range(40)]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of an S3-compatible server on this machine."""
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def place(tmp_path: Path) -> str:
    """Return the address of an empty folder."""
    return str(tmp_path / "shared" / "packs")


@pytest.fixture(params=["folder", "s3"])
def either(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the address of an empty folder on a disk, and of one in an object store."""
    if request.param == "folder":
        return str(tmp_path / "shared" / "packs")
    values = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": request.getfixturevalue("endpoint"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    fsspec = pytest.importorskip("fsspec")
    client = fsspec.filesystem("s3", skip_instance_cache=True)
    bucket = cache.name(test=request.node.name)
    client.mkdir(bucket)
    return f"s3://{bucket}/some/packs"


def machine(folder: Path) -> store.Store:
    """The cache of a machine of its own."""
    return store.Store(str(folder), "family", NAMES, SHAPES)


def values(image: str, view: int, cut: int) -> np.ndarray:
    seed = int(image[:8], 16) + 10 * view + cut
    return np.random.default_rng(seed).normal(size=SHAPES[cut]).astype(np.float32)


def compute(opened: store.Store, missing: store.Missing) -> int:
    """Add all that is missing; how many rows that are."""
    rows = 0
    for view in range(2):
        shas = [sha for sha, views in missing.items() if view in views]
        if shas:
            opened.add(missing, view, shas, [np.stack([values(sha, view, cut) for sha in shas]) for cut in range(2)])
            rows += sum(len(missing[sha][view]) for sha in shas)
    return rows


def wanted(count: int) -> store.Wanted:
    return [(IMAGES[:count], 2)]


def read(opened: store.Store, count: int) -> list[np.ndarray]:
    readers = opened.readers(opened.ask(wanted(count)))[0]
    return [reader(np.arange(count), np.full(count, view)) for reader in readers for view in range(2)]


def opened_at(address: str, gigabytes: float = 1) -> packs.Packs:
    found = packs.at(address, gigabytes)
    assert found
    return found


def all_files(found: packs.Packs, ending: str = "") -> list[str]:
    return [path for path in found.folder.sizes() if path.endswith(ending)]


def filled(folder: Path, address: str, count: int) -> store.Store:
    """A machine that has computed some images and published them."""
    opened = machine(folder)
    compute(opened, opened.ask(wanted(count)).missing)
    opened_at(address).publish(opened)
    return opened


def test_what_one_machine_computed_another_has_to_the_bit(tmp_path: Path, either: str) -> None:
    first = filled(tmp_path / "a", either, 30)
    second, shared = machine(tmp_path / "b"), opened_at(either)
    left = shared.fetch(second, second.ask(wanted(40)).missing)
    assert set(left) == set(IMAGES[30:])
    assert left[IMAGES[30]] == {0: [0, 1], 1: [0, 1]}
    assert compute(second, left) == 10 * 4
    alone = machine(tmp_path / "c")
    compute(alone, alone.ask(wanted(40)).missing)
    for one, other in zip(read(second, 40), read(alone, 40), strict=True):
        np.testing.assert_array_equal(one, other)
    shared.publish(second)
    assert len(all_files(shared, packs.ROWS)) == 2 * 4  # a pack of each machine in each entry
    assert shared.fetch(first, first.ask(wanted(40)).missing) == {}
    assert read(first, 40)[3].tobytes() == read(alone, 40)[3].tobytes()


def test_the_same_rows_are_written_once(tmp_path: Path, place: str) -> None:
    opened = filled(tmp_path / "a", place, 20)
    shared = opened_at(place)
    before = shared.folder.sizes()
    for _ in range(2):
        shared.publish(opened)
    filled(tmp_path / "b", place, 20)
    assert {path: size for path, (size, _) in shared.folder.sizes().items()} == {
        path: size for path, (size, _) in before.items()
    }
    assert len(all_files(shared, packs.INDEX)) == 4


def test_a_pack_has_so_many_bytes_at_most_and_is_copied_in_parts(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs, "PACK", 100)
    monkeypatch.setattr(packs, "CHUNK", 40)
    filled(tmp_path / "a", place, 40)
    shared = opened_at(place)
    sizes = [size for path, (size, _) in shared.folder.sizes().items() if path.endswith(packs.ROWS)]
    assert max(sizes) <= 100 and sum(sizes) == 40 * 2 * (6 + 16)
    second = machine(tmp_path / "b")
    assert shared.fetch(second, second.ask(wanted(40)).missing) == {}
    np.testing.assert_array_equal(
        read(second, 40)[2], np.stack([values(sha, 0, 1) for sha in IMAGES]).astype(np.float16).astype(np.float32)
    )


def test_several_writers_at_once_lose_nothing(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "PACK", 100)
    machines = [machine(tmp_path / str(number)) for number in range(3)]
    for number, each in enumerate(machines):  # of the same images in part, in another order
        own = IMAGES[number * 10 : number * 10 + 20][:: (-1) ** number]
        compute(each, each.ask([(own, 2)]).missing)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda each: opened_at(place).publish(each), machines))
    other = machine(tmp_path / "other")
    assert opened_at(place).fetch(other, other.ask(wanted(40)).missing) == {}
    for view in range(2):
        for cut in range(2):
            expected = np.stack([values(sha, view, cut) for sha in IMAGES]).astype(np.float16)
            np.testing.assert_array_equal(read(other, 40)[2 * cut + view], expected.astype(np.float32))


def test_a_damaged_pack_is_removed_and_what_it_lacks_is_computed_and_written_again(tmp_path: Path, place: str) -> None:
    filled(tmp_path / "a", place, 10)
    shared = opened_at(place)
    path = next(path for path in all_files(shared, packs.ROWS) if path.startswith(NAMES[1][1]))
    content = bytearray(shared.folder.read(path))
    content[16 * 3] ^= 1  # in the fourth row
    shared.folder.write(path, bytes(content))
    second = machine(tmp_path / "b")
    left = shared.fetch(second, second.ask(wanted(10)).missing)
    assert left == {IMAGES[3]: {1: [1]}}
    assert path not in all_files(shared)
    compute(second, left)
    shared.publish(second)
    third = machine(tmp_path / "c")
    assert opened_at(place).fetch(third, third.ask(wanted(10)).missing) == {}
    np.testing.assert_array_equal(read(third, 10)[3], read(second, 10)[3])


def test_a_row_that_is_damaged_here_is_not_written_there(tmp_path: Path, place: str) -> None:
    opened = machine(tmp_path / "a")
    compute(opened, opened.ask(wanted(10)).missing)
    with opened.entries[0][1].data.open("r+b") as file:
        file.seek(16 * 4)
        file.write(b"\0" * 16)
    opened_at(place).publish(machine(tmp_path / "a"))
    second = machine(tmp_path / "b")
    assert opened_at(place).fetch(second, second.ask(wanted(10)).missing) == {IMAGES[4]: {0: [1]}}


def test_what_was_not_used_for_longest_makes_room_and_never_what_this_run_uses(tmp_path: Path, either: str) -> None:
    shared = opened_at(either)
    old, newer = cache.name(old=1), cache.name(old=2)
    for name in (old, newer):
        shared.folder.write(f"{name}/one.rows", b"x" * 3000)
        time.sleep(1.1 if "://" in either else 0.02)  # an object store counts whole seconds
    opened = machine(tmp_path / "a")
    compute(opened, opened.ask(wanted(40)).missing)
    bytes_of_it = 40 * 2 * (6 + 16) + 40 * 4 * 74
    opened_at(either, (bytes_of_it + 3000) / 1e9).publish(opened)
    entries = {path.partition("/")[0] for path in all_files(shared)}
    assert entries == {newer, *NAMES[0], *NAMES[1]}


def test_a_folder_that_is_full_is_said_and_costs_no_run(
    tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    opened, shared = machine(tmp_path / "a"), opened_at(place, 100 / 1e9)
    compute(opened, opened.ask(wanted(40)).missing)
    shared.publish(opened)
    told = capsys.readouterr()
    assert "compute.shared_cache_gb" in told.out + told.err
    assert shared.fetch(machine(tmp_path / "b"), {IMAGES[0]: {0: [0]}}) == {IMAGES[0]: {0: [0]}}


def test_an_address_that_cannot_be_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for address in ("nowhere://bucket", str(tmp_path / "file" / "below")):
        with pytest.raises(ValueError, match=r"^compute\.shared_cache: expected .*received .*; .*$"):
            packs.at(address, 1)
    assert packs.at("", 1) is None


WRITER = """
    import os, sys
    from pathlib import Path
    from tests.features import test_packs as test
    from thaw.features import packs

    shared, opened = test.opened_at(sys.argv[1]), test.machine(Path(sys.argv[2]))
    for count in (10, 20):
        test.compute(opened, opened.ask(test.wanted(count)).missing)
        if count == 20:  # it hangs in the middle of a pack
            texts = packs._texts
            def slowly(entry, rows):
                yield next(texts(entry, rows))[:20]
                print("writing", flush=True)
                sys.stdin.read()
            packs._texts = slowly
        shared.publish(opened)
"""


def test_a_writer_that_is_killed_costs_its_pack_and_no_more(tmp_path: Path, either: str) -> None:
    words = [sys.executable, "-c", textwrap.dedent(WRITER), either, str(tmp_path / "a")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process: Any = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)
    try:
        assert process.stdout.readline() == "writing\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    second, shared = machine(tmp_path / "b"), opened_at(either)
    left = shared.fetch(second, second.ask(wanted(20)).missing)
    assert set(left) == set(IMAGES[10:20])
    compute(second, left)
    shared.publish(second)
    # Who goes on where the other was killed writes what is there only where nobody has it.
    first = machine(tmp_path / "a")
    assert first.ask(wanted(20)).missing == {}
    opened_at(either).publish(first)
    assert len(all_files(shared, packs.INDEX)) == 2 * 4
    np.testing.assert_array_equal(read(first, 20)[2], read(second, 20)[2])
