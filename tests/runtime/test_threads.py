import os
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path

import pytest

from thaw.runtime import threads


@pytest.mark.parametrize(("value", "expected"), [("", None), ("0", None), ("3", 3)])
def test_threads_are_tensorflows_own_setting_or_all_cores(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: int | None
) -> None:
    monkeypatch.setenv(threads.VARIABLE, value)
    assert threads.used() == (expected or threads.cores()) > 0


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/", {"cpu.max": "200000 100000"}, 2),  # version 2, in a container that has a tree of its own
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {}, 8),
        ("0::/", {"cpu.max": "250000 100000"}, 3),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "1600000 100000"}, 8),  # more than there are
        ("0::/a/b", {"cpu.max": "max 100000", "a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/a/b", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "40000 20000"}, 2),
        ("0::/../../a", {"cpu.max": "300000 100000"}, 3),  # paths of the host, files of the container
        ("4:cpu,cpuacct:/docker/x\n3:memory:/", {"cpu,cpuacct/cpu.cfs_quota_us": "400000"}, 4),
        ("4:cpu,cpuacct:/x\n0::/", {"cpu,cpuacct/x/cpu.cfs_quota_us": "150000"}, 2),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1"}, 8),
        ("1:cpuset:/", {"cpuset/cpu.cfs_quota_us": "100000"}, 8),  # not the one that counts time
        (None, {"cpu.max": "100000 100000"}, 8),  # not Linux
    ],
)
def test_cpu_quotas_of_containers_count_as_cores_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str | None, files: dict[str, str], expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: range(8), raising=False)
    monkeypatch.setattr(threads, "OWN_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(threads, "GROUPS", tmp_path / "groups")
    if own is not None:
        (tmp_path / "cgroup").write_text(own + "\n")
    for name, text in files.items():
        file = tmp_path / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
        if file.name == "cpu.cfs_quota_us":
            file.with_name("cpu.cfs_period_us").write_text("100000\n")
    monkeypatch.setenv(threads.VARIABLE, "")
    assert threads.cores() == threads.used() == expected
    threads.keep_to_quota()
    assert os.environ[threads.VARIABLE] == (str(expected) if expected < 8 else "")
    monkeypatch.setenv(threads.VARIABLE, "5")
    threads.keep_to_quota()
    assert os.environ[threads.VARIABLE] == "5"


def test_tensorflow_is_told_of_the_quota_before_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("0::/\n")
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    code = (
        "import os, pathlib, sys\n"
        "os.sched_getaffinity = lambda _process: range(8)\n"
        "from thaw.runtime import threads\n"
        "threads.GROUPS = pathlib.Path(sys.argv[1])\n"
        "threads.OWN_GROUPS = threads.GROUPS / 'cgroup'\n"
        "class Watch:\n"
        "    def find_spec(self, name, *_more):\n"
        "        if name == 'tensorflow':\n"
        "            print(os.environ.get(threads.VARIABLE))\n"
        "sys.meta_path.insert(0, Watch())\n"
        "from thaw.runtime import framework"
    )
    environment = {name: value for name, value in os.environ.items() if name != threads.VARIABLE}
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"1"}


def test_who_leaves_off_half_way_closes_what_was_made_ahead() -> None:
    closed = []

    def numbers() -> Generator[int]:
        try:
            yield from range(9)
        finally:
            closed.append(True)

    items = numbers()
    ahead = threads.ahead(items)
    assert [next(ahead), next(ahead)] == [0, 1]
    assert not closed
    ahead.close()
    assert closed == [True]


def test_what_is_made_ahead_comes_in_its_order() -> None:
    assert list(threads.ahead(number for number in range(9))) == list(range(9))


def test_the_next_item_is_worked_on_before_the_last_is_done() -> None:
    both = threading.Barrier(2, timeout=30)  # breaks where only one is worked on at a time

    def made(number: int) -> int:
        both.wait()
        return 10 * number

    assert list(threads.overlapped(made, (number for number in range(4)))) == [0, 10, 20, 30]


def test_who_leaves_off_half_way_closes_what_was_worked_on() -> None:
    closed, made = list[bool](), list[int]()

    def numbers() -> Generator[int]:
        try:
            yield from range(9)
        finally:
            closed.append(True)

    results = threads.overlapped(made.append, numbers())
    next(results)
    results.close()
    assert closed == [True]
    assert len(made) <= 2


def test_what_fails_is_raised_in_its_place() -> None:
    results = threads.overlapped(lambda number: 6 // number, (number for number in (3, 0, 2)))
    assert next(results) == 2
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_what_comes_before_an_item_that_can_not_be_made_is_not_lost() -> None:
    results = threads.overlapped(lambda number: number, (6 // number for number in (3, 2, 0)))
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)
