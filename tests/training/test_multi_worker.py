"""Several processes that share each batch train what one would; where one goes, the others end, and may go on."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training import spread, worker
from thaw.config import phases
from thaw.runtime.team import Team
from thaw.training import checkpoint, mixing, multi_worker, replicas

HERE = Path(__file__).parent
TOLERANCE = 1e-4  # sums of float32 in another order


def addresses(count: int) -> list[str]:
    """Addresses on this machine that nobody listens at."""
    doors = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [f"127.0.0.1:{door.getsockname()[1]}" for door in doors]
    for door in doors:
        door.close()
    return found


def started(
    folder: Path, *what: str, count: int = 2, each: Sequence[dict[str, str]] = ()
) -> list[subprocess.Popen[str]]:
    """Start ``worker.py`` so many times, in folders 0, 1, … of ``folder``, with variables of its own for each."""
    cluster, found = {"worker": addresses(count)}, []
    for number in range(count):
        own = folder / str(number)
        own.mkdir(exist_ok=True)
        config = {"cluster": cluster, "task": {"type": "worker", "index": number}}
        more = {"PYTHONPATH": str(HERE.parents[1]), "TF_CONFIG": json.dumps(config), "TF_NUM_INTRAOP_THREADS": "1"}
        environment = os.environ | more | (each[number] if each else {})
        command = [sys.executable, str(HERE / "worker.py"), str(own), *what]
        found.append(
            subprocess.Popen(
                command, env=environment, cwd=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
            )
        )
    return found


def ended(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit code and standard error of each."""
    said = [process.communicate(timeout=300)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def read(folder: Path, number: int, name: str) -> dict[str, Any]:
    return dict(json.loads((folder / str(number) / f"{name}.json").read_text()))


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what ``worker.py`` sets, for a training in this process."""
    monkeypatch.setattr(phases, "FEWEST_STEPS", 1)


@pytest.mark.usefixtures("alone")
def test_two_workers_train_what_one_process_trains(tmp_path: Path) -> None:
    """The last of seven batches has five images; MixUp, penalties, weights, averages, rates by depth, and minutes."""
    assert ended(started(tmp_path, "weighted", "timed")) == [(0, ""), (0, "")]
    for name in ("weighted", "timed"):
        one, first, second = worker.trained(name, tmp_path, 1), read(tmp_path, 0, name), read(tmp_path, 1, name)
        assert first["rows"] == second["rows"] and len(first["rows"]) == len(one["rows"]), name
        assert first["start"] == one["start"] and first["best"] == one["best"] > 0
        for ours, theirs in zip(first["rows"], one["rows"], strict=True):
            assert ours == pytest.approx(theirs, rel=TOLERANCE, abs=TOLERANCE)
        for found, expected in zip(first["numbers"], one["numbers"], strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    assert len(one["rows"]) == 1  # no minute is left after the first epoch
    assert read(tmp_path, 0, "met") == read(tmp_path, 1, "met") == {"same": "of the first"}


@pytest.mark.slow
def test_where_a_worker_is_killed_the_others_end_and_go_on_from_the_checkpoint_to_the_same_bytes(
    tmp_path: Path,
) -> None:
    """Dropout's state, batch statistics, the average, within an epoch: as if nothing had happened."""
    (code, said), (killed, _) = ended(
        started(tmp_path, "undisturbed", "disturbed", each=[{}, {"KILLED": "disturbed"}])
    )
    assert code == 1 and killed < 0, said
    assert re.fullmatch(r"test: .* has ended, or can't be reached any more; start all workers again: .*\n", said)
    kept = checkpoint.read(tmp_path / "checkpoint.npz")
    assert (kept.epoch, kept.step) in ((2, 2), (2, 3), (2, 4))
    assert ended(started(tmp_path, "disturbed")) == [(0, ""), (0, "")]
    undisturbed = read(tmp_path, 0, "undisturbed")
    assert read(tmp_path, 0, "disturbed") == undisturbed and len(undisturbed["rows"]) > 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "checkpoint.npz"]


@pytest.mark.slow
def test_a_worker_that_is_told_to_end_does_so_as_any_stage(tmp_path: Path) -> None:
    """TensorFlow takes SIGTERM for itself where workers are connected."""
    told = {"KILLED": "weighted", "SIGNAL": "SIGTERM"}
    (code, said), (interrupted, line) = ended(started(tmp_path, "weighted", each=[{}, told]))
    assert (interrupted, line) == (130, "test: interrupted; the same command goes on with what is done\n")
    assert code == 1 and re.fullmatch(r"test: .* has ended, or can't be reached any more; .*\n", said)


@pytest.mark.slow
def test_workers_with_other_inputs_are_refused_by_all_before_they_train(tmp_path: Path) -> None:
    for code, said in ended(started(tmp_path, "weighted", each=[{"INPUTS": "these"}, {"INPUTS": "others"}])):
        assert code == 1 and re.fullmatch(
            r"test: expected the same params\.yaml.* received others at 127.*\n", said
        ), said


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("alpha", [0, 0.4])
def test_the_rows_of_all_workers_are_those_of_the_batch(count: int, alpha: float) -> None:
    asked: list[int] = []  # of 53 images in batches of 8, the last of which has 5

    def source(indices: np.ndarray, views: np.ndarray) -> np.ndarray:
        asked.extend(indices.tolist())
        return np.asarray(spread.POINTS[views, indices])

    def mixed() -> mixing.Mixed:
        weights = spread.WEIGHTS
        return mixing.Mixed(source, spread.LABELS, 8, 3, 0, weights=weights, classes=3, alpha=alpha)

    whole = mixed()
    parts = [multi_worker.Rows(mixed(), Team(("",) * count, number)) for number in range(count)]
    for epoch in range(2):
        epochs = [list(part.epoch()) for part in parts]
        for number in range(len(whole)):
            batch = whole[number]
            expected, labels, real = replicas.filled(batch, parts[0].size * count)
            mine = [each[number] for each in epochs]
            for key, values in expected.items():
                np.testing.assert_array_equal(np.concatenate([given[key] for given, _, _ in mine]), values)
            np.testing.assert_array_equal(np.concatenate([each for _, each, _ in mine]), labels)
            np.testing.assert_array_equal(np.concatenate([each for _, _, each in mine]), real)
            asked.clear()
            parts[0][number]
            assert len(asked) == len(set(asked)) < 8 or alpha
        assert epoch == whole.epoch
        whole.on_epoch_end()
        for part in parts:
            part.batches.on_epoch_end()
