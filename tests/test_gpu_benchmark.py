"""``python -m benchmarks.gpu`` to its table, so that time on a card is not lost to a fault in the last line."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import gpu, record


def run(right: int, seconds: float, load: list[float]) -> dict[str, Any]:
    return {"wall": 2 * seconds, "phase2": seconds, "epochs": [0, 3], "right": right, "images": 40, "load": load}


def test_a_row_has_medians_the_rate_of_phase_2_and_the_interval_of_one_round() -> None:
    told = gpu.row("some", [run(30, 2, [10, 20]), run(32, 4, [60]), run(34, 9, [])], 100)
    assert (told["wall s"], told["extraction s"], told["phase2 s"]) == (8, 0, 4)
    assert told["phase 2 images/s"] == 75 and told["card busy"] == "30 %"
    assert told["test accuracy"].startswith("80.0% (65.")
    assert gpu.row("some", [run(30, 2, [])], 100)["card busy"] == "not known"


@pytest.mark.slow  # five stages and a script, each a process, twice
def test_each_way_runs_and_a_trial_leaves_no_rate_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    for label, shade in (("dark", 40), ("light", 200)):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(24):
            pixels = np.clip(random.normal(shade, 30, (64, 64, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{number}.png")
    monkeypatch.setattr(record, "FOLDER", tmp_path / "results")
    told = ["gpu", "--data", str(tmp_path / "images"), "--rounds", "2"]
    monkeypatch.setattr(sys, "argv", [*told, "image=px64", "phase1.epochs=2", "phase2.epochs=2"])
    gpu.main()
    (path,) = (tmp_path / "results").glob("gpu_images.json")
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
    assert {"pipeline, cold", "pipeline, warm trial", "Keras script"} <= set(runs)
    assert all(len(found) == 2 and each["images"] == 8 for found in runs.values() for each in found)
    cold, again = runs["pipeline, cold"]
    assert cold["right"] == again["right"] and cold["epochs"] == again["epochs"] == [0, 2]
