"""Work on a real Ray cluster of several worker processes on this machine."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from thaw.runtime import cluster

ray = pytest.importorskip("ray", reason="an extra")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    """A cluster with room for four workers of one core."""
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("RAY_worker_niceness", "0")  # Ray's own is 15, which gets nothing of a busy machine
    paths = os.pathsep.join([str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")])
    variables = {"PYTHONPATH": paths, "TF_NUM_INTRAOP_THREADS": "1"}
    ray.init(
        address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": variables}
    )
    yield
    ray.shutdown()
    patch.undo()


def slowly(folder: str) -> Callable[[int], tuple[int, int]]:
    """Return what squares a number in a tenth of a second, and leaves a file for each that it begins."""
    (Path(folder) / f"process-{os.getpid()}").touch()

    def square(number: int) -> tuple[int, int]:
        if number < 0:
            raise ValueError(f"{number}: expected 0 or more")
        (Path(folder) / f"{number}-{os.getpid()}-{time.time_ns()}").touch()
        time.sleep(0.1)
        return number * number, os.getpid()

    return square


def test_each_part_is_done_once_and_several_workers_have_a_share(tmp_path: Path) -> None:
    found = dict(cluster.done("auto", slowly, (str(tmp_path),), range(20)))
    assert {number: square for number, (square, _) in found.items()} == {n: n * n for n in range(20)}
    assert len({process for _, process in found.values()}) == 4
    assert len(list(tmp_path.glob("process-*"))) == 4


def test_a_worker_that_is_killed_costs_its_part_and_no_other(tmp_path: Path) -> None:
    killed: list[int] = []

    def kill() -> None:
        while not (begun := list(tmp_path.glob("7-*"))):
            time.sleep(0.005)
        killed.append(int(begun[0].name.split("-")[1]))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    found = dict(cluster.done("auto", slowly, (str(tmp_path),), range(20)))
    killer.join()
    assert {number: square for number, (square, _) in found.items()} == {n: n * n for n in range(20)}
    begun = [int(path.name.split("-")[0]) for path in tmp_path.glob("[0-9]*")]
    assert begun.count(7) == 2 and len(begun) <= 20 + cluster.AHEAD
    assert len(list(tmp_path.glob("process-*"))) == 5  # one was set up in its place


def test_no_more_is_done_than_is_asked_for(tmp_path: Path) -> None:
    parts = cluster.done("auto", slowly, (str(tmp_path),), range(100))
    next(parts)
    time.sleep(2)
    begun = [path for path in tmp_path.glob("[0-9]*") if not path.name.startswith("process")]
    assert len(begun) <= 4 * cluster.AHEAD + 1
    parts.close()  # type: ignore[attr-defined]  # it is a generator


def test_a_mistake_in_a_part_is_raised_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="-3: expected 0 or more"):
        list(cluster.done("auto", slowly, (str(tmp_path),), [1, 2, -3, 4]))


def deadly(_: Any) -> Callable[[int], int]:
    def end(number: int) -> int:
        os._exit(number)

    return end


def test_a_part_that_ends_each_worker_is_given_up_with_its_number() -> None:
    with pytest.raises(ValueError, match=r"^compute\.ray: expected .*part 1 of 1, 4 of them died"):
        list(cluster.done("auto", deadly, (0,), [1]))
