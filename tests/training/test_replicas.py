"""Several devices that share each batch train what one would, and go on where they were stopped."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thaw.runtime.framework import keras
from thaw.training import replicas

HERE = Path(__file__).parent
TOLERANCE = 1e-4  # sums of float32 in another order


def spread(folder: Path, *words: str) -> Any:
    """What ``spread.py`` trains on a processor that is divided into two devices."""
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1])}
    command = [sys.executable, str(HERE / "spread.py"), str(folder), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All that it trains of a small network."""
    return dict(spread(tmp_path_factory.mktemp("spread")))


def test_two_devices_train_what_one_trains(results: dict[str, Any]) -> None:
    """The last of seven batches has five images; penalties, weights, averages and rates by depth are as on one."""
    check_alike(*results["averaged"])


def check_alike(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert len(one["rows"]) == len(two["rows"]) > 2 and two["start"] == one["start"] and two["best"] == one["best"] > 0
    for ours, theirs in zip(two["rows"], one["rows"], strict=True):
        assert ours == pytest.approx(theirs, rel=TOLERANCE, abs=TOLERANCE)
    for found, expected in zip(two["numbers"], one["numbers"], strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    assert one["rows"][-1]["loss"] < one["rows"][0]["loss"]


def test_what_was_stopped_goes_on_to_the_same_bytes(results: dict[str, Any]) -> None:
    """Stopped within an epoch and between two: dropout's state, batch statistics, the average, the figures."""
    assert results["at"] == [[1, 4], [3, 0]]
    assert results["resumed"] == results["undisturbed"]


@pytest.mark.slow
def test_a_real_backbone_is_fine_tuned_by_two_devices_as_by_one(tmp_path: Path) -> None:
    """And what is frozen of it is untouched, which ``spread.py`` has checked; so is a network on a cosine."""
    results = spread(tmp_path, "more")
    check_alike(*results["cosine"])
    one, two = results["backbone"]
    assert two["start"] == one["start"] and two["moved"] > 1e-4 < one["moved"]
    for ours, theirs in zip(two["rows"], one["rows"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-3)


def test_more_devices_than_there_are_is_an_error_in_one_line(results: dict[str, Any]) -> None:
    said = results["too many"]
    assert said.startswith("compute.devices: ") and "received 3" in said and "\n" not in said


def test_a_batch_is_filled_up_with_what_counts_nowhere() -> None:
    inputs, labels = np.arange(6, dtype=np.float32).reshape(3, 2), np.array([2, 0, 1])
    given, targets, real = replicas.filled((inputs, labels, np.array([1, 2, 4], np.float32)), 8)
    assert real.tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert given["weights"].tolist() == [1, 2, 4, 0, 0, 0, 0, 0] and set(given["images"].tolist()) == {3}
    assert targets.tolist() == [2, 0, 1, 2, 0, 1, 2, 0]
    assert (given["inputs"] == inputs[[0, 1, 2, 0, 1, 2, 0, 1]]).all()
    plain, _, real = replicas.filled((inputs, labels), 4)
    assert plain["weights"].tolist() == [1, 1, 1, 0]
    # TensorFlow computes in the memory of what it is given, and may be given nothing twice.
    assert not any(np.shares_memory(array, real) for array in plain.values())


def test_only_what_training_changes_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean over three devices of what is frozen could differ from it in the last bit."""
    inputs = keras.Input((3,))
    values = keras.layers.BatchNormalization(name="frozen", trainable=False)(inputs)
    values = keras.layers.BatchNormalization(name="moving")(values)
    model = keras.Model(inputs, keras.layers.Dropout(0.5)(values))
    copied = replicas.Spread(model)
    written = []
    for variable, own in zip(model.non_trainable_variables, copied.others, strict=True):
        monkeypatch.setattr(own, "assign", lambda _, path=variable.path: written.append(path))
    copied({"inputs": np.ones((4, 3), np.float32)}, training=True)
    assert len(written) == 3 < len(copied.others)
    assert {path.split("/")[0] for path in written if "seed" not in path} == {"moving"}
