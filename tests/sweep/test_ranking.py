"""Which trials cannot be told from the best, by what experiments in git and DVC's cache say of each image."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from thaw import paths
from thaw.evaluation import intervals
from thaw.sweep import experiments, ranking, results


def finished(folder: Path) -> list[results.TrialResult]:
    return [each for each in results.read(folder) if not each.failure]


def test_trials_are_compared_with_the_best_on_the_same_images(finished_sweep: Path) -> None:
    found = ranking.rank(finished(finished_sweep))
    assert found.best is found.trials[0] and found.paired == 3
    assert [(each.layers, round(40 * each.accuracy)) for each in found.trials] == [
        (40, 38),
        (20, 37),
        (40, 31),
        (20, 30),
    ]
    # 7 and 8 images that only the best gets right, none that only the other does, among 6 pairs: 6 × 2 / 2^7.
    assert found.pairs == 6
    assert found.trials[2].p_value == pytest.approx(6 * 2 / 2**7)
    assert found.trials[3].p_value == pytest.approx(6 * 2 / 2**8)
    assert [each.within_noise for each in found.trials] == [True, True, True, False]
    assert (found.trials[2].low, found.trials[2].high) == intervals.wilson(31, 40, 0.95)
    assert (found.trials[0].images, found.units) == (40, 40)


def test_a_simpler_trial_is_proposed_only_if_the_images_show_that_it_is_within_the_margin(
    finished_sweep: Path,
) -> None:
    trials = finished(finished_sweep)
    found = ranking.rank(trials)
    assert found.proposed is found.best and found.unresolved == [found.trials[1]]
    right = np.arange(40) < 37, np.arange(40) < 38
    behind = intervals.difference(*right, 1 - 0.05 / 6)["accuracy_high"]
    assert found.trials[1].behind == behind > 0.1
    wide = ranking.rank(trials, margin=behind + 0.001)
    assert wide.proposed is wide.trials[1] and not wide.unresolved
    for margin in (-0.01, 1.0):
        with pytest.raises(ValueError, match="margin: expected a share"):
            ranking.rank(trials, margin)


def test_of_trials_as_simple_the_one_that_took_clearly_less_is_proposed_or_else_that_with_the_lowest_loss(
    finished_sweep: Path,
) -> None:
    trials = finished(finished_sweep)
    for record in trials:
        record.measured.layers = 20

    def proposed() -> float:
        return 40 * ranking.rank(trials, margin=0.2).proposed.accuracy

    assert proposed() == 38  # 13 s against 12 s
    trials[0].seconds = 20.0
    assert proposed() == 37
    trials[1].seconds = None  # the sweep was killed as it ended, so nobody knows
    assert proposed() == 38
    trials[0].seconds = None
    assert proposed() == 38


def synthetic(
    monkeypatch: pytest.MonkeyPatch, right: NDArray[np.bool_], units: NDArray[np.int64], layers: list[int]
) -> list[results.TrialResult]:
    """Records of trials that are right on these of the validation images: (trials, images)."""
    monkeypatch.setattr(experiments, "counted", lambda *_: right.shape[1])
    monkeypatch.setattr(ranking, "_answers", lambda each: ranking.Answers("", right[int(each.name)], units))
    found = []
    for number, (own, thawed) in enumerate(zip(right, layers, strict=True)):
        figures = results.Figures(number, float(own.mean()), best_epoch=1, layers=thawed)
        found.append(results.TrialResult(str(number), [], "", "", "", "", 1.0, figures))
    return found


def test_of_a_dozen_equal_trials_none_is_called_worse_in_nineteen_of_twenty_sweeps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random, units, sweeps = np.random.default_rng(0), np.repeat(np.arange(80), 4), 150
    called = np.zeros(2)
    for _ in range(sweeps):
        hard = random.normal(size=80)[units]  # copies are as hard as each other, for every trial in its own way too
        right = hard + random.normal(size=(12, 80))[:, units] < 1.0
        found = ranking.rank(synthetic(monkeypatch, right, units, [20] * 12))
        best = found.best.answers
        assert best is not None
        alone = [intervals.mcnemar(own, best.right, units)["p_value"] for own in right]
        called += [min(alone) < 0.05, not all(each.within_noise for each in found.trials)]
    assert called[0] / sweeps > 0.4  # one test after the other
    assert called[1] / sweeps < 0.05 + 2 * (0.05 * 0.95 / sweeps) ** 0.5


def test_with_few_images_a_clearly_worse_trial_is_not_proposed_for_being_simple(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random, units = np.random.default_rng(1), np.arange(60)
    hard, told = random.random((100, 60)), 0
    for own in hard:
        noise = 0.05 * random.normal(size=(2, 60))
        right = own + noise < np.array([[0.9], [0.8]])
        found = ranking.rank(synthetic(monkeypatch, right, units, [40, 0]))
        told += found.trials[1].within_noise  # as it mostly is
        assert found.proposed.layers == 40 or found.best.layers == 0
    assert told > 50


def test_with_enough_images_a_trial_that_is_as_good_is_proposed_for_being_simple(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = np.ones((2, 5000), bool)
    right[0, :250], right[1, 5:260] = False, False  # 5 images less
    alone, copied = np.arange(5000), np.arange(5000) // 50
    found = ranking.rank(synthetic(monkeypatch, right, alone, [40, 20]))
    assert found.best is found.trials[0] and found.proposed is found.trials[1] and found.units == 5000
    found = ranking.rank(synthetic(monkeypatch, right, copied, [40, 20]))  # as many images, of 100 things
    assert found.proposed is found.trials[0] and found.unresolved == [found.trials[1]] and found.units == 100


def test_trials_that_answer_alike_are_one_in_the_number_of_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    right = np.random.default_rng(2).random((3, 50)) < 0.9
    records = synthetic(monkeypatch, right[[0, 1, 1, 2, 2, 2]], np.arange(50), [20] * 6)
    assert ranking.rank(records).pairs == 3
    assert ranking.rank(records[:1]).pairs == 1


def test_copies_and_groups_of_the_validation_images_are_units(finished_sweep: Path) -> None:
    trials, cached = finished(finished_sweep), experiments.cached

    def with_units(name: str, path: Path, *of: str) -> bytes | None:
        found = cached(name, path, *of)
        return found and found.replace(b"val,\n", b"val,7\n", 3) if path == paths.MANIFEST else found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "cached", with_units)
        found = ranking.rank(trials)
    assert (found.best.images, found.units) == (40, 38)
    assert ranking.rank(trials).units == 40


def test_without_the_answers_noise_is_judged_by_intervals(finished_sweep: Path) -> None:
    shutil.rmtree(".dvc/cache")
    found = ranking.rank(finished(finished_sweep))
    assert not found.paired
    assert [each.p_value for each in found.trials] == [None] * 4
    gaps = []
    for right in (37, 31, 30):
        (low, high), (best_low, best_high) = (intervals.wilson(n, 40, 1 - 0.05 / 6) for n in (right, 38))
        gaps.append((38 - right) / 40 <= math.hypot(0.95 - best_low, high - right / 40))
    assert [each.within_noise for each in found.trials] == [True, *gaps]
    assert found.trials[3].behind == pytest.approx(0.2 + math.hypot(best_high - 0.95, 0.75 - low))


def test_the_bests_accuracy_is_no_more_exact_than_that_of_another(
    finished_sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments, "cached", lambda *_: None)
    best, other = finished(finished_sweep)[:2]
    # Its interval, 68.1 to 91.3 %, does not hold 95 %, and yet the two may be equally good.
    other.measured.val_accuracy = 33 / 40
    assert [each.within_noise for each in ranking.rank([best, other]).trials] == [True, True]
    other.measured.val_accuracy = 31 / 40
    assert [each.within_noise for each in ranking.rank([best, other]).trials] == [True, False]


@pytest.mark.parametrize("paired", [True, False])
def test_the_lowest_loss_is_not_the_best_where_another_trial_is_clearly_more_accurate(
    finished_sweep: Path, monkeypatch: pytest.MonkeyPatch, paired: bool
) -> None:
    if not paired:
        monkeypatch.setattr(experiments, "cached", lambda *_: None)
    trials = finished(finished_sweep)[::-1]  # 30 of 40 right comes first, as if its loss were the lowest
    found = ranking.rank(trials)
    assert found.best.accuracy == 38 / 40
    assert [each.within_noise for each in found.trials][2:] == [True, True]
    assert found.trials[0].within_noise is not paired
    assert found.proposed is found.best


def test_a_trial_that_phase_2_did_not_help_has_thawed_nothing(finished_sweep: Path) -> None:
    trials = finished(finished_sweep)
    trials[0].measured.best_epoch = 0
    found = ranking.rank(trials)
    assert found.proposed is found.trials[0]
    assert (found.proposed.layers, found.proposed.tried) == (0, 40)
    assert found.proposed.thawed == "0 of 40 layers unfrozen: phase 2 kept its start, the model is phase 1's"
    assert found.proposed.p_value is None and found.paired == 3  # its answers are found where phase 2 left them
    trials[0].measured.layers = 0  # phase2.unfreeze=none tries nothing
    assert found.proposed.thawed == "0 layers unfrozen"


def test_of_trials_as_accurate_the_best_is_that_with_the_lowest_loss(finished_sweep: Path) -> None:
    trials = finished(finished_sweep)
    trials[1].measured.val_accuracy = 38 / 40 + 1e-8  # the same, added up in another order
    assert ranking.rank(trials).best.record is trials[0]


def test_a_trial_whose_answers_are_gone_leaves_the_others_compared_on_the_same_images(
    finished_sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials, cached = finished(finished_sweep), experiments.cached
    gone = trials[2].name
    monkeypatch.setattr(experiments, "cached", lambda name, *of: None if name == gone else cached(name, *of))
    found = ranking.rank(trials)
    assert [each.p_value is None for each in found.trials] == [True, False, True, False]
    assert found.paired == 2


def test_a_sweep_without_a_finished_trial_has_no_ranking() -> None:
    with pytest.raises(ValueError, match="expected a sweep with a finished trial"):
        ranking.rank([])
