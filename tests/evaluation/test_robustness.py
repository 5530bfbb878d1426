import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from thaw import paths, records
from thaw.evaluation import corruptions, intervals, robustness

HASHES = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(90)]
PIXELS = np.random.default_rng(0).uniform(0, 255, (90, 8, 8, 3)).astype(np.float32)


def test_the_draws_are_as_many_as_asked_for_spread_over_all_conditions_and_no_image_twice_in_one() -> None:
    some = robustness.draws(HASHES, 0.5)
    assert len(some) == 45 and len({draw.place for draw in some}) == 45
    assert some != sorted(some, key=lambda draw: draw.place) or [d.place for d in some] != list(range(45))
    counts = Counter((draw.corruption, draw.severity) for draw in some)
    assert len(counts) == len(robustness.CONDITIONS) == 30 and set(counts.values()) == {1, 2}
    more = robustness.draws(HASHES, 4.0)
    assert len(set(more)) == len(more) == 360
    assert set(Counter((draw.corruption, draw.severity) for draw in more).values()) == {12}
    assert len(robustness.draws(HASHES, 99)) == 90 * 30
    assert robustness.draws(HASHES, 0) == []
    many = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(2000)]
    sample = robustness.draws(many, 0.2)
    assert len(sample) == 300 and len(robustness.draws(many, 1.0)) == 2000
    assert set(Counter((draw.corruption, draw.severity) for draw in sample).values()) == {10}
    assert robustness.draws(HASHES, 0.5) == some


def test_both_phases_see_each_corrupted_image_once_in_the_order_of_the_draws() -> None:
    wanted = robustness.draws(HASHES, 1.5)
    places, seen = robustness.places(wanted), dict[str, list[np.ndarray]](phase1=[], phase2=[])

    def batches() -> Iterator[np.ndarray]:
        for first in range(0, len(places), 7):
            yield PIXELS[places[first : first + 7]]

    def run(phase: str, batch: np.ndarray) -> np.ndarray:
        assert len(batch) <= 4
        seen[phase].extend(batch)
        return np.full(len(batch), 2 if phase == "phase2" else 1)

    runs = {phase: lambda batch, phase=phase: run(phase, batch) for phase in seen}
    found = list(robustness.answers(wanted, batches(), HASHES, runs, batch_size=4))
    assert {len(each) for each in seen.values()} == {len(wanted)} == {sum(len(each["phase1"]) for each in found)}
    guesses = {phase: np.concatenate([each[phase] for each in found]) for phase in runs}
    assert {phase: set(rows.tolist()) for phase, rows in guesses.items()} == {"phase1": {1}, "phase2": {2}}
    for draw, first, second in zip(wanted, *seen.values(), strict=True):
        expected = corruptions.corrupt(PIXELS[draw.place], draw.corruption, draw.severity, HASHES[draw.place])
        np.testing.assert_array_equal(first, expected)
        np.testing.assert_array_equal(second, expected)


def test_the_table_has_each_condition_and_their_sums_and_the_same_images_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = robustness.draws(HASHES, 1.0)
    labels, units = np.arange(90) % 3, np.arange(90) // 2
    wrong = np.array([draw.corruption == "jpeg" for draw in wanted])
    at = np.array([draw.place for draw in wanted])
    guesses = {"phase1": labels[at], "phase2": np.where(wrong, labels[at] + 1, labels[at])}
    right = {"phase1": np.ones(90, bool), "phase2": np.arange(90) % 2 == 0}
    figures = robustness.write(robustness.Corrupted(wanted, guesses), labels, right, 0.95, units)
    rows = {(row["corruption"], row["severity"], row["phase"]): row for row in records.read_csv(paths.ROBUSTNESS)}
    assert len(rows) == 2 * (11 * 4 + 1)
    assert [rows["jpeg", severity, "phase2"]["images"] for severity in ("1", "2", "3", "all")] == ["3", "3", "3", "9"]
    assert (
        float(rows["jpeg", "all", "phase2"]["accuracy"]) == 0 and float(rows["jpeg", "all", "phase1"]["accuracy"]) == 1
    )
    assert float(rows["blur", "2", "phase2"]["accuracy"]) == 1
    whole = rows["all", "all", "phase2"]
    assert float(whole["accuracy"]) == 0.9
    assert (float(whole["low"]), float(whole["high"])) == intervals.accuracy(~wrong, 0.95, units[at])
    assert float(rows["none", "0", "phase2"]["accuracy"]) == 0.5
    assert figures["images"] == 90 and figures["phase2"] == {"clean": 0.5, "corrupted": 0.9}
    both = np.ones(90, bool), ~wrong
    expected = intervals.difference(*both, 0.95, units[at])
    assert figures["difference"] == {**expected, "p_value": intervals.mcnemar(*both, units[at])["p_value"]}
