"""Work on a real Ray cluster of several worker processes on this machine."""

import os
import signal
import threading
import time
from collections import Counter
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


def together(folder: str) -> Callable[[int], tuple[int, int]]:
    """Return what squares a number slowly, once four workers have begun a part: else the first would do all."""
    square = slowly(folder)

    def do(number: int) -> tuple[int, int]:
        (Path(folder) / f"here-{os.getpid()}").touch()
        end = time.monotonic() + 120
        while len(list(Path(folder).glob("here-*"))) < 4 and time.monotonic() < end:
            time.sleep(0.01)
        return square(number)

    return do


def test_each_part_is_given_back_once_and_several_workers_have_a_share(tmp_path: Path) -> None:
    found = list(cluster.done("auto", together, (str(tmp_path),), range(20)))
    assert sorted((number, square) for number, (square, _) in found) == [(n, n * n) for n in range(20)]
    assert len({process for _, (_, process) in found}) > 1
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
    found = list(cluster.done("auto", slowly, (str(tmp_path),), range(20)))
    killer.join()
    assert sorted(number for number, _ in found) == list(range(20))
    assert {number: square for number, (square, _) in found} == {n: n * n for n in range(20)}
    assert killed[0] not in {process for number, (_, process) in found if number == 7}
    begun = Counter(int(path.name.split("-")[0]) for path in tmp_path.glob("[0-9]*"))
    # By who was started in its place, or by another that had nothing to do. At the end what is unfinished is repeated.
    assert begun[7] >= 2 and begun.total() <= 20 + cluster.AHEAD + 4 * cluster.AHEAD


def once_deadly(folder: str) -> Callable[[int], int]:
    def square(number: int) -> int:
        begun = Path(folder) / "begun"
        if not begun.exists():
            begun.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number * number

    return square


def test_a_worker_that_died_is_started_again_where_there_is_no_other(tmp_path: Path) -> None:
    assert list(cluster.done("auto", once_deadly, (str(tmp_path),), [3])) == [(0, 9)]


def one_stuck(folder: str) -> Callable[[int], tuple[int, int]]:
    """Return what squares a number, but in the first worker of all does not come to its end."""
    try:
        (Path(folder) / "stuck").mkdir()
    except FileExistsError:
        stuck = False
    else:
        stuck = True
        (Path(folder) / "stuck" / str(os.getpid())).touch()

    def square(number: int) -> tuple[int, int]:
        if stuck:
            time.sleep(120)
        return number * number, os.getpid()

    return square


def test_what_a_slow_worker_has_not_finished_is_taken_over_by_others(tmp_path: Path) -> None:
    found = list(cluster.done("auto", one_stuck, (str(tmp_path),), range(20)))
    assert sorted((number, square) for number, (square, _) in found) == [(n, n * n) for n in range(20)]
    (stuck,) = (int(path.name) for path in (tmp_path / "stuck").iterdir())
    assert stuck not in {process for _, (_, process) in found}


def test_who_has_work_repeats_none_and_a_part_is_repeated_once() -> None:
    slow_has_two = {"a": (4, 0), "b": (7, 0), "c": (6, 1)}
    assert cluster._slow(slow_has_two, set(), 2) == 7  # which has hardly begun
    assert cluster._slow(slow_has_two, set(), 1) is None
    assert cluster._slow(slow_has_two | {"d": (7, 2)}, set(), 3) == 4
    assert cluster._slow({"a": (4, 0), "b": (4, 1)}, set(), 2) is None
    assert cluster._slow({"a": (4, 0)}, {4}, 2) is None


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


def test_a_cluster_that_does_not_come_up_is_an_error_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(**_: Any) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", late)
    with pytest.raises(
        ValueError, match=r"^compute\.ray: expected a cluster at local \(Exception: The current node timed"
    ):
        next(cluster.done("local", slowly, ("",), [1]))
