"""Tests that what ships with a model is fitted on images that nothing was learnt from."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from thaw import paths, records
from thaw.config import schema
from thaw.evaluation import beside, calibration, conformal, deployment, held_out, out_of_distribution, probabilities

OPTIONS = schema.Evaluate([2], 0.9, 4, 3, True, False, 1, 0.001, 0.01, True, 0.9, [0.8], 0.1, 0.0)
RANDOM = np.random.default_rng(0)
CLASSES, CHANNELS = 4, 8


def answered(labels: NDArray[np.integer[Any]], sure: float) -> NDArray[np.float32]:
    logits = RANDOM.normal(size=(len(labels), CLASSES))
    logits[np.arange(len(labels)), labels] += sure
    raised = np.exp(3 * logits)
    rows: NDArray[np.float32] = (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)
    return rows


def embedded(labels: NDArray[np.integer[Any]], spread: float) -> NDArray[np.float32]:
    around = np.eye(CLASSES, CHANNELS)[labels] + spread * RANDOM.normal(size=(len(labels), CHANNELS))
    return np.asarray(around, np.float32)


def split(count: int, leaked: int) -> held_out.Split:
    return held_out.Split(RANDOM.integers(CLASSES, size=count), np.arange(count), np.arange(count) >= count - leaked)


@pytest.mark.parametrize("leaked", [0, 100, 200])
def test_leaked_images_set_and_measure_nothing_unless_all_leak(
    leaked: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    splits = {"train": split(80, 0), "val": split(200, leaked), "test": split(200, leaked)}
    rows, seen = {}, {}
    for name, each in splits.items():
        rows[name] = answered(each.labels, 2)
        rows[name][each.leaked] = answered(each.labels, 9)[each.leaked]
        seen[name] = np.where(each.leaked[:, None], embedded(each.labels, 0.01), embedded(each.labels, 0.2))
    val, test = splits["val"], splits["test"]
    records.write_array(paths.validation(paths.PHASE1), rows["val"])
    for name in ("train", "val"):
        records.write_arrays(
            paths.embeddings(paths.PHASE1, name), rows=seen[name], images=np.arange(len(splits[name].labels))
        )
    answers = {"phase1": SimpleNamespace(probabilities=rows["test"], embeddings=seen["test"])}
    deployment.write(deployment.started(beside.InTurn(), answers, splits, OPTIONS), splits, "phase1")
    found = records.read_json(paths.CALIBRATION)
    kept = slice(None) if leaked == 200 else slice(0, 200 - leaked)
    heat = calibration.temperature(rows["val"][kept], val.labels[kept])
    assert found["temperature"] == pytest.approx(heat)
    assert found["after"] == pytest.approx(
        calibration.errors(probabilities.read(calibration.scaled(rows["test"][kept], heat), test.labels[kept]))
    )
    least = conformal.threshold(calibration.scaled(rows["val"][kept], heat), val.labels[kept], 0.8, val.units[kept])
    assert found["conformal"]["0.80"]["threshold"] == pytest.approx(least)
    parameters = out_of_distribution.fit(seen["train"], splits["train"].labels)
    bound = out_of_distribution.threshold(out_of_distribution.score(seen["val"][kept], parameters), 0.1)
    assert found["unfamiliar"]["threshold"] == pytest.approx(bound)
    scores = out_of_distribution.score(seen["test"], parameters)
    assert found["unfamiliar"]["flagged"] == pytest.approx((scores[kept] > bound).mean())
    assert found.get("leaks_left_out") == ({"val": 100, "test": 100} if leaked == 100 else None)
    # Each test image has its score all the same: exports are compared by them.
    np.testing.assert_array_equal(out_of_distribution.load_scores(paths.UNFAMILIAR, "phase1"), scores)
