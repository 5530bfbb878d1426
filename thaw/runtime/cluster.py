"""Work on the workers of a Ray cluster: part by part, again where a worker dies, and few parts ahead of who asks.

A worker is a process that is set up once and then does many parts, on any machine of the cluster. All machines see the
project at the same path, with the images and the environment (docs/cluster.md). When no part is left to hand out, who
has nothing to do repeats what others have not finished, and what comes first counts: a slow machine holds up nobody.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from thaw import console, pipes
from thaw.runtime import extras, threads

Part = TypeVar("Part")
Done = TypeVar("Done")

AHEAD = 2  # parts that a worker has at a time, so that it need not wait for the next
RETRIES = 3  # of a part whose worker died
# What the numbers of the frozen layers depend on, and what keeps a worker's output short.
PASSED_ON = (threads.VARIABLE, "TF_ENABLE_ONEDNN_OPTS", "TF_CPP_MIN_LOG_LEVEL", "ORT_DISABLE_TELEMETRY")


def done(
    address: str,
    set_up: Callable[..., Callable[[Part], Done]],
    given: Sequence[Any],
    parts: Sequence[Part],
    *,
    cores: int = 1,
    gpus: int = 0,
) -> Iterator[tuple[int, Done]]:
    """Yield the number of each part and what was made of it, in the order in which they are done, each once.

    Args:
        address: of the cluster, ``auto`` for the one of this machine, ``local`` for one that ends with this process.
        set_up: is called once in each worker, and returns what does a part.
        given: what it is called with; picklable, as the parts are.
        parts: each does not depend on others, and gives the same wherever and however often it is done.
        cores: of a worker.
        gpus: of a worker.

    Raises:
        ValueError: Ray is not installed, there is no cluster, or a part's worker died each time.
    """
    with _connected(address) as (ray, stays):
        workers = min(_workers(ray, cores, gpus), len(parts))
        console.say(f"{len(parts):,} parts of the work go to {workers} workers of Ray")
        options = {"num_cpus": cores, "num_gpus": gpus, "max_restarts": -1, "max_task_retries": RETRIES}
        kind = ray.remote(**options)(_Worker)
        shared = [ray.put((set_up, tuple(given)))]  # in a list: what a worker that is started again asks for again
        crew = [kind.remote(str(Path.cwd()), shared) for _ in range(workers)]
        left, finished = iter(range(len(parts))), set[int]()
        running: dict[Any, tuple[int, int]] = {}  # the number of a part, and that of its worker

        def give(worker: int) -> None:
            number = next(left, None)
            if number is None:
                number = _slow(running, finished, worker)
            if number is not None:
                running[crew[worker].do.remote(parts[number])] = number, worker

        for worker in [*range(workers)] * AHEAD:
            give(worker)
        try:
            while len(finished) < len(parts):
                (ready,), _ = ray.wait(list(running))
                number, worker = running.pop(ready)
                if number in finished:  # which another worker was faster with
                    give(worker)
                    continue
                try:
                    found = ray.get(ready)
                except ray.exceptions.RayTaskError as error:
                    raise error.as_instanceof_cause() from None
                except ray.exceptions.RayActorError as error:
                    if number in (other for other, _ in running.values()):
                        continue
                    raise ValueError(
                        f"compute.ray: expected a worker to do part {number + 1} of {len(parts)}, {RETRIES + 1} of "
                        f"them died ({pipes.said_by(error)}); is their memory too small?"
                    ) from None
                del ready
                finished.add(number)
                give(worker)
                yield number, found
        finally:
            # Who leaves the cluster ends its workers so, and is not told of each.
            for worker in {worker for _, worker in running.values()} if stays else ():
                with suppress(Exception):  # the cluster may be gone
                    ray.kill(crew[worker])


def _slow(running: Mapping[Any, tuple[int, int]], finished: set[int], worker: int) -> int | None:
    """Return the part that a worker repeats since no other is left; None where it has something to do, or all is done.

    It is the last one of the worker with most parts, which has hardly begun it, and one that nobody repeats yet.
    """
    parts, queues = Counter(number for number, _ in running.values()), Counter(at for _, at in running.values())
    if queues[worker]:
        return None
    alone = [(queues[at], number) for number, at in running.values() if parts[number] == 1 and number not in finished]
    return max(alone)[1] if alone else None


class _Worker:
    """A process of the cluster."""

    def __init__(self, project: str, given: Sequence[Any]):
        import ray  # noqa: PLC0415 -- as below

        os.chdir(project)
        set_up, arguments = ray.get(given[0])
        self.work = set_up(*arguments)

    def do(self, part: Any) -> Any:
        """Return what is made of a part."""
        return self.work(part)


@contextmanager
def _connected(address: str) -> Iterator[tuple[Any, bool]]:
    """Connect to a cluster, and leave it again, if this process was not connected before; say whether it was."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray  # noqa: PLC0415 -- an extra, which takes a second
    except ModuleNotFoundError as error:
        raise ValueError(f"compute.ray: expected Ray ({error}); run `{extras.install('ray')}`") from None
    variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    variables |= {threads.VARIABLE: str(threads.used()), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    was_connected = ray.is_initialized()
    try:
        if not was_connected:
            ray.init(address=address, log_to_driver=False, runtime_env={"env_vars": variables})
    except Exception as error:  # of many kinds: a cluster that does not come up in time raises this very one
        raise ValueError(
            f"compute.ray: expected a cluster at {address} ({pipes.said_by(error)}); start one by `ray start "
            "--head`, or compute.ray=local"
        ) from None
    try:
        yield ray, was_connected
    finally:
        if not was_connected:
            with suppress(Exception):  # the cluster may be gone
                ray.shutdown()


def _workers(ray: Any, cores: int, gpus: int) -> int:
    """Return how many workers the cluster has room for: one at least, which may have to wait for it."""
    there = ray.cluster_resources()
    rooms = [there.get("CPU", 0) // cores, *([there.get("GPU", 0) // gpus] if gpus else [])]
    return max(1, int(min(rooms)))
