"""A process alone has nothing to wait for; what TensorFlow raises where another has gone becomes one line."""

from types import SimpleNamespace

import pytest

from thaw.runtime import workers
from thaw.runtime.framework import tf
from thaw.runtime.team import Team

GONE = (
    tf.errors.UnavailableError(
        None,
        None,
        "Collective ops is aborted by: Error reported from /job:worker/task:1: The following tasks are "
        "unhealthy (stopped sending heartbeats):\n/job:worker/replica:0/task:1\nThe tasks have crashed.",
    ),
    tf.errors.UnavailableError(
        None,
        None,
        "Connection reset by peer\nAdditional GRPC error information from remote target "
        "/job:worker/replica:0/task:1 while calling /tensorflow.WorkerService/RecvBuf",
    ),
)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_here", [Team(("a:1", "b:1"), 1)])


def test_a_process_alone_goes_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    workers.meet("phase2_finetune", SimpleNamespace(workers="all", devices=1), lambda: pytest.fail("nobody asks"))
    workers.leave()
    assert workers.here() == Team() and workers.from_chief(b"own") == b"own" and workers.clock() > 0


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("error", GONE)
def test_who_has_gone_is_named(error: tf.errors.OpError) -> None:
    said = r"^b:1 has ended, or .*; start all workers again: they go on from the last"
    with pytest.raises(ValueError, match=said), workers.told():
        raise error


@pytest.mark.usefixtures("two")
def test_where_it_is_not_said_who_has_gone_it_is_another_worker() -> None:
    with pytest.raises(ValueError, match=r"^another worker has ended"), workers.told():
        raise tf.errors.DeadlineExceededError(None, None, "RPC: /tensorflow.CoordinationService/Heartbeat")


def test_other_errors_and_those_of_a_process_alone_are_as_they_are(two: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError), workers.told():
        raise tf.errors.InvalidArgumentError(None, None, "shapes differ")
    monkeypatch.setattr(workers, "_here", [Team()])
    with pytest.raises(tf.errors.UnavailableError), workers.told():
        raise GONE[0]


@pytest.mark.usefixtures("two")
def test_all_but_the_first_leave_before_anything_is_written() -> None:
    with pytest.raises(SystemExit) as left:
        workers.leave()
    assert left.value.code == 0


def test_under_dvc_all_but_the_first_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC would miss what they do not write, when hours of training are over."""
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}')
    monkeypatch.setenv("DVC_STAGE", "phase2_finetune")
    with pytest.raises(
        ValueError, match=r"DVC on the first worker only.*start `python -m stages\.phase2_finetune` here"
    ):
        workers.meet("phase2_finetune", SimpleNamespace(workers=2, devices=1), lambda: "")
