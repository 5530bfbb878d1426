"""Which trials cannot be told from the best, by what experiments in git and DVC's cache say of each image."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from thaw import metrics, ranking, sweep_table, trial


def finished(folder: Path) -> list[dict[str, Any]]:
    return [record for record in sweep_table.read(folder) if not record["failure"]]


def test_the_simplest_trial_that_the_same_images_cannot_tell_from_the_best_is_proposed(finished_sweep: Path) -> None:
    found = ranking.rank(finished(finished_sweep))
    assert found.best is found.trials[0] and found.paired == 3
    assert [(each.layers, round(40 * each.accuracy)) for each in found.trials] == [
        (40, 38),
        (20, 37),
        (40, 31),
        (20, 30),
    ]
    assert [each.within_noise for each in found.trials] == [True, True, False, False]
    assert found.proposed is found.trials[1]
    # 7 images that only the best gets right, none that only the other does: 2 / 2^7.
    assert found.trials[2].p_value == pytest.approx(2 / 2**7)
    assert (found.trials[2].low, found.trials[2].high) == metrics.wilson(31, 40, 0.95)
    assert found.trials[0].images == 40


def test_of_trials_as_simple_the_one_that_took_clearly_less_is_proposed_or_else_that_with_the_lowest_loss(
    finished_sweep: Path,
) -> None:
    trials = finished(finished_sweep)
    for record in trials:
        record["figures"]["layers"] = 20
    assert ranking.rank(trials).proposed.accuracy == 38 / 40  # 13 s against 12 s
    trials[0]["seconds"] = 20.0
    assert ranking.rank(trials).proposed.accuracy == 37 / 40
    trials[1]["seconds"] = None  # the sweep was killed as it ended, so nobody knows
    assert ranking.rank(trials).proposed.accuracy == 38 / 40
    trials[0]["seconds"] = None
    assert ranking.rank(trials).proposed.accuracy == 38 / 40


def test_without_the_answers_noise_is_judged_by_intervals(finished_sweep: Path) -> None:
    shutil.rmtree(".dvc/cache")
    found = ranking.rank(finished(finished_sweep))
    assert not found.paired
    assert [each.p_value for each in found.trials] == [None] * 4
    # 38 and 31 of 40 right: 95 - 77.5 % is more than the root of (95 - 83.5 %)^2 + (87.7 - 77.5 %)^2.
    assert [each.within_noise for each in found.trials] == [True, True, False, False]


def test_the_bests_accuracy_is_no_more_exact_than_that_of_another(
    finished_sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "cached", lambda *_: None)
    best, other = finished(finished_sweep)[:2]
    # Its interval, 68.1 to 91.3 %, does not hold 95 %, and yet the two may be equally good.
    other["figures"]["val_accuracy"] = 33 / 40
    assert [each.within_noise for each in ranking.rank([best, other]).trials] == [True, True]
    other["figures"]["val_accuracy"] = 31 / 40
    assert [each.within_noise for each in ranking.rank([best, other]).trials] == [True, False]


@pytest.mark.parametrize("paired", [True, False])
def test_the_lowest_loss_is_not_the_best_where_another_trial_is_clearly_more_accurate(
    finished_sweep: Path, monkeypatch: pytest.MonkeyPatch, paired: bool
) -> None:
    if not paired:
        monkeypatch.setattr(trial, "cached", lambda *_: None)
    trials = finished(finished_sweep)[::-1]  # 30 of 40 right comes first, as if its loss were the lowest
    found = ranking.rank(trials)
    assert found.best.accuracy == 38 / 40
    assert [each.within_noise for each in found.trials] == [False, False, True, True]
    assert found.proposed.accuracy == 37 / 40


def test_a_trial_that_phase_2_did_not_help_has_thawed_nothing(finished_sweep: Path) -> None:
    trials = finished(finished_sweep)
    trials[0]["figures"]["best_epoch"] = 0
    found = ranking.rank(trials)
    assert found.proposed is found.trials[0]
    assert (found.proposed.layers, found.proposed.tried) == (0, 40)
    assert found.proposed.thawed == "0 of 40 layers thawed: phase 2 did not help, the model is phase 1's"
    assert found.proposed.p_value is None and found.paired == 3  # its answers are found where phase 2 left them
    trials[0]["figures"]["layers"] = 0  # phase2.unfreeze=none tries nothing
    assert found.proposed.thawed == "0 layers thawed"


def test_of_trials_as_accurate_the_best_is_that_with_the_lowest_loss(finished_sweep: Path) -> None:
    trials = finished(finished_sweep)
    trials[1]["figures"]["val_accuracy"] = 38 / 40 + 1e-8  # the same, added up in another order
    assert ranking.rank(trials).best.record is trials[0]


def test_a_trial_whose_answers_are_gone_leaves_the_others_compared_on_the_same_images(
    finished_sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials, cached = finished(finished_sweep), trial.cached
    gone = trials[2]["name"]
    monkeypatch.setattr(trial, "cached", lambda name, *of: None if name == gone else cached(name, *of))
    found = ranking.rank(trials)
    assert [each.p_value is None for each in found.trials] == [True, False, True, False]
    assert found.paired == 2


def test_a_sweep_without_a_finished_trial_has_no_ranking() -> None:
    with pytest.raises(ValueError, match="expected a sweep with a finished trial"):
        ranking.rank([])
