"""Several processes, on machines of their own, that share one training: TensorFlow's collectives among them.

``tf.distribute.MultiWorkerMirroredStrategy`` connects them. Keras 3 can't train under it, so no model is made within
its scope: each process has the whole model for itself, and what they have in common is what ``add_up`` adds up.
"""

import itertools
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from thaw import console, timings
from thaw.runtime import meeting
from thaw.runtime.framework import tf
from thaw.runtime.team import GUIDE, Team, named

WAIT = 600.0  # seconds in which all must be there once the first is
SET_UP = 120.0  # seconds that TensorFlow may take to connect those that are there
# Groups of TensorFlow's collectives: of what the host has, and of what is where the model is.
HOST, DEVICE = 7001, 7002
_here = [Team()]
_strategies: list[Any] = []  # kept, or the connection would end
_next = itertools.count(1)  # of collectives, in the same order in each process


class Compute(Protocol):
    """Of the group ``compute`` what says who shares a training."""

    workers: Any
    devices: Any


def here() -> Team:
    """Return the workers that this process shares its training with: itself alone before ``meet``."""
    return _here[0]


def meet(stage: str, compute: Compute, inputs: Callable[[], str]) -> None:
    """Connect this process with the others that share the training; alone it goes on.

    It must come before TensorFlow's first operation. All but the first say nothing and keep nothing from then on.

    Args:
        stage: as dvc.yaml calls it.
        compute: the group.
        inputs: returns what stands for all that the training depends on.

    Raises:
        ValueError: the others are not there, or are not alike.
    """
    team = named(compute.workers)
    if team.count == 1:
        return
    gpus = tf.config.get_visible_devices("GPU")
    if len(gpus) > 1 and compute.devices == "all":
        raise ValueError(
            f"compute.workers: expected one GPU for each worker, received {len(gpus)}; start a worker for each, with "
            f"its own CUDA_VISIBLE_DEVICES, see {GUIDE}"
        )
    if not team.is_chief and "DVC_STAGE" in os.environ:
        raise ValueError(
            f"compute.workers: expected DVC on the first worker only, since the others write nothing, received it on "
            f"number {team.number + 1}; start `python -m stages.{stage}` here"
        )
    who = f"worker {team.number + 1} of {team.count} on {socket.gethostname()}"
    meeting.wait(team, inputs, WAIT, lambda line: console.result(stage, f"{who}, {line}"))
    console.result(stage, f"{who}, all are there")
    tf.config.set_visible_devices(gpus[:1], "GPU")
    _here[0] = team
    with told():
        _connect(team)
    if not team.is_chief:
        console.console.quiet = True
        timings.keep_nothing()


def _connect(team: Team) -> None:
    cluster = tf.train.ClusterSpec({"worker": list(team.addresses)})
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        cluster, task_type="worker", task_id=team.number, rpc_layer="grpc"
    )
    # It waits for an hour, and no signal ends it, if one has gone since all were there.
    late = threading.Timer(SET_UP, _give_up)
    late.daemon = True
    late.start()
    try:
        _strategies.append(tf.distribute.MultiWorkerMirroredStrategy(resolver))
    finally:
        late.cancel()
    # TensorFlow has taken the signal, to let others know of machines that are about to be switched off.
    if threading.current_thread() is threading.main_thread() and (handler := signal.getsignal(signal.SIGTERM)):
        signal.signal(signal.SIGTERM, handler)


def _give_up() -> None:
    os.write(2, f"a worker has gone within {SET_UP:g} s of the beginning; start them again\n".encode())
    os._exit(1)


def leave() -> None:
    """End this process if it is not the first worker: it has no part in what comes after the training.

    Raises:
        SystemExit: it is not.
    """
    if not here().is_chief:
        raise SystemExit(0)


def add_up(values: Sequence[Any]) -> list[Any]:
    """Return tensors of float32 added up over all workers, as a part of a graph: to the same bits in each of them.

    Args:
        values: of the same shapes in each worker.
    """
    flat = tf.concat([tf.reshape(value, [-1]) for value in values], 0)
    sums = tf.split(_sum(flat, DEVICE), [int(np.prod(value.shape)) for value in values])
    return [tf.reshape(part, value.shape) for part, value in zip(sums, values, strict=True)]


def _sum(values: Any, group: int) -> Any:
    return tf.raw_ops.CollectiveReduceV2(
        input=values,
        group_size=here().count,
        group_key=group,
        instance_key=next(_next),
        ordering_token=[],
        merge_op="Add",
        final_op="Id",
        communication_hint="ring" if group == HOST else "auto",
    )


def _on_host(values: np.ndarray) -> np.ndarray:
    with told(), tf.device("/CPU:0"):
        return np.asarray(_sum(tf.constant(values), HOST))


def from_chief(data: bytes) -> bytes:
    """Return the bytes that the first worker has. All must call it, each in the same place."""
    if here().count == 1:
        return data
    own = np.frombuffer(data if here().is_chief else b"", np.uint8).astype(np.int32)
    size = int(_on_host(np.array([len(own)], np.int64))[0])
    wanted = own if len(own) == size else np.zeros(size, np.int32)
    return _on_host(wanted).astype(np.uint8).tobytes() if size else b""


def clock() -> float:
    """Return the seconds of the first worker's clock: what hangs on the time must be the same for all."""
    if here().count == 1:
        return time.monotonic()
    return float(_on_host(np.array([time.monotonic() if here().is_chief else 0.0]))[0])


@contextmanager
def told() -> Iterator[None]:
    """Turn what TensorFlow raises where another worker has gone into one line.

    Raises:
        ValueError: one has.
    """
    try:
        yield
    except tf.errors.OpError as error:
        gone = isinstance(error, (tf.errors.UnavailableError, tf.errors.DeadlineExceededError, tf.errors.AbortedError))
        if here().count == 1 or not (gone or "ollective" in str(error)):
            raise
        found = re.search(
            r"/task:(\d+) while calling|tasks? .*unhealthy[^/]*\n?/job:\w+/replica:0/task:(\d+)", str(error)
        )
        number = next((int(each) for each in (found.groups() if found else ()) if each), None)
        who = here().addresses[number] if number is not None and number < here().count else "another worker"
        raise ValueError(
            f"{who} has ended, or can't be reached any more; start all workers again: they go on from the last "
            "checkpoint of the first"
        ) from error
