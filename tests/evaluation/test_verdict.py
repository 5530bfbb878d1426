from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from thaw.evaluation import intervals, power, verdict

WORTH = 0.01


def answers(n: int, both: int, only_first: int, only_second: int) -> dict[str, NDArray[np.bool_]]:
    """Images that both, only phase 1 and only phase 2 get right; the others neither."""
    first, second = np.zeros(n, bool), np.zeros(n, bool)
    first[: both + only_first] = True
    second[:both] = True
    second[both + only_first : both + only_first + only_second] = True
    return {"phase1": first, "phase2": second}


def judge(right: dict[str, NDArray[np.bool_]], **more: Any) -> verdict.Verdict:
    return verdict.judge(right, {}, 0.95, WORTH, **more)


def test_a_gain_that_is_more_than_noise_helped_and_phase_2_is_shipped() -> None:
    right = answers(500, 430, 10, 40)
    found = judge(right)
    assert (found.helped, found.ship) == ("yes", "phase2")
    gain = intervals.difference(right["phase1"], right["phase2"], 0.95)
    assert found.difference == {
        "points": pytest.approx(6.0),
        "low": 100 * gain["accuracy_low"],
        "high": 100 * gain["accuracy_high"],
        "confidence": 0.95,
        "units": 500,
        "p_value": intervals.mcnemar(right["phase1"], right["phase2"])["p_value"],
    }
    low, high = (f"{found.difference[end]:+.1f}" for end in ("low", "high"))
    assert found.text == (
        f"Fine-tuning helped: 94.0 % against 88.0 % with frozen features, +6.0 points ({low} to {high}). Ship phase 2."
    )
    assert found.smallest_difference == 100 * (power.smallest_difference(500, 0.1, 0.95) or 0)
    assert found.baselines["phase1"] == dict(
        zip(("accuracy", "low", "high"), (0.88, *intervals.accuracy(right["phase1"], 0.95)), strict=True)
    )


def test_a_loss_that_is_more_than_noise_is_harm() -> None:
    found = judge(answers(500, 430, 40, 10))
    assert (found.helped, found.ship) == ("no", "phase1")
    assert found.difference["high"] < 0 and "harm" in found.text and found.text.endswith("Ship phase 1.")


@pytest.mark.parametrize(
    ("right", "same", "helped", "ship"),
    [
        (answers(500, 430, 10, 40), False, "yes", "phase2"),
        (answers(500, 430, 40, 10), False, "no", "phase1"),
        (answers(5000, 4800, 10, 12), False, "unknown", "phase1"),
        (answers(500, 430, 0, 0), True, "unknown", "phase1"),
        (answers(50, 40, 2, 3), False, "unknown", "phase2"),
    ],
)
def test_training_that_ended_too_early_is_no_proof_that_it_does_not_help(
    right: dict[str, NDArray[np.bool_]], same: bool, helped: str, ship: str
) -> None:
    found = judge(right, same=same, early="set phase2.epochs above 3")
    assert (found.helped, found.ship) == (helped, ship)
    assert ("set phase2.epochs above 3" in found.text) == (helped != "yes")
    assert "did not help" not in found.text
    assert "one of" not in found.text and found.text.count("Ship phase") == 1


def test_a_gain_too_small_to_be_worth_it_did_not_help() -> None:
    found = judge(answers(5000, 4800, 10, 12))
    assert 0 < found.difference["high"] < 100 * WORTH
    assert (found.helped, found.ship) == ("no", "phase1")
    assert verdict.judge(answers(5000, 4800, 10, 12), {}, 0.95, worth=0.0).helped == "unknown"


def test_a_small_test_cannot_tell_and_says_from_what_difference_on_it_could() -> None:
    found = judge(answers(79, 68, 2, 4))
    assert (found.helped, found.ship) == ("unknown", "phase2")
    told = f"79 independent test images can't tell differences below {found.smallest_difference:.1f} points"
    assert told in found.text
    assert found.difference["low"] < 0 < found.difference["high"]
    behind = judge(answers(79, 68, 4, 2))
    assert (behind.helped, behind.ship) == ("unknown", "phase1")
    assert "can't tell any difference" in judge(answers(4, 2, 0, 1)).text


def test_units_count_not_images() -> None:
    right = answers(500, 430, 10, 40)
    grouped = judge(right, units=np.arange(500) // 25)
    assert grouped.difference["units"] == 20 and "20 independent test images" in grouped.text
    assert grouped.helped == "unknown"
    assert (grouped.smallest_difference or 0) > (judge(right).smallest_difference or 0)
    assert grouped.baselines["phase2"]["high"] - grouped.baselines["phase2"]["low"] > 0.05


def test_where_phase_2_kept_its_start_it_did_not_help_and_no_difference_is_told() -> None:
    found = judge(answers(50, 45, 0, 0), same=True)
    assert (found.helped, found.ship) == ("no", "phase1")
    assert "both models are one, with 90.0 % right" in found.text


def test_a_better_classifier_of_the_frozen_features_is_named_with_what_phase_2_gains_on_it() -> None:
    right = answers(500, 430, 10, 40) | {"knn": answers(500, 400, 0, 0)["phase1"]}
    assert "nearest" not in judge(right).text
    right["logistic_regression"] = np.arange(500) < 450
    found = verdict.judge(right, {"logistic_regression": {"C": 0.1}}, 0.95, WORTH)
    gain = intervals.difference(right["logistic_regression"], right["phase2"], 0.95)
    told = f"logistic regression makes 90.0 %; phase 2 against that is {100 * gain['accuracy']:+.1f} points"
    assert told in found.text
    assert found.baselines["logistic_regression"]["C"] == 0.1


def test_what_the_shipped_model_gains_on_training_from_scratch_is_told() -> None:
    right = answers(500, 430, 10, 40) | {"scratch": np.arange(500) < 300}
    found = verdict.judge(right, {"scratch": {"best_epoch": 40, "epochs": 60}}, 0.95, WORTH)
    gain = intervals.difference(right["scratch"], right["phase2"], 0.95)["accuracy"]
    told = f"60.0 %, best after 40 of 60 epochs; phase 2 against that is {100 * gain:+.1f} points"
    assert told in found.text and found.baselines["scratch"]["epochs"] == 60
    worse = {**right, "phase1": right["phase2"], "phase2": right["phase1"]}
    assert "phase 1 against that" in verdict.judge(worse, {}, 0.95, WORTH).text


def test_no_phase_is_recommended_where_a_baseline_is_better_than_both() -> None:
    right = answers(500, 250, 10, 50) | {"logistic_regression": np.arange(500) < 450}
    found = judge(right)
    assert (found.helped, found.ship) == ("yes", "phase2") and "Ship phase" not in found.text
    assert "logistic regression is better than phase 2" in found.text and "phase1.epochs" in found.text
    scratch = judge(answers(500, 250, 10, 50) | {"scratch": right["logistic_regression"]})
    assert "Ship phase" not in scratch.text and "training from scratch is better than phase 2" in scratch.text
    near = judge(right | {"logistic_regression": np.arange(500) < 302})  # as may come of noise
    assert near.text.endswith("Ship phase 2.")


def test_leaked_images_that_are_left_out_are_said() -> None:
    assert "without 3 test images that leak" in judge(answers(500, 430, 10, 40), leaked=3).text


def test_the_interval_alone_calls_nothing_harm_nor_help() -> None:
    """Five of five images against a phase: Tango's interval leaves zero out; the exact test has p = 0.0625."""
    five, six = answers(300, 280, 5, 0), answers(300, 280, 6, 0)
    assert intervals.difference(five["phase1"], five["phase2"], 0.95)["accuracy_high"] < 0
    assert "harm" not in judge(five).text and judge(five).helped != "yes"
    assert "harm" in judge(six).text and judge(six).helped == "no"
    turned = {"phase1": five["phase2"], "phase2": five["phase1"]}
    assert judge(turned).helped == "unknown" and "does not tell" in judge(turned).text


# Images of each unit: one, few and many clusters of a size, one that holds a third of all, very unequal ones.
SIZES = {
    "alone": np.ones(200, int),
    "12 of 5": np.full(12, 5),
    "40 of 5": np.full(40, 5),
    "6 of 20": np.full(6, 20),
    "one large": np.r_[np.full(20, 3), 30],
    "unequal": np.r_[np.ones(40, int), np.full(10, 4), np.full(4, 15)],
}


@pytest.mark.parametrize(
    "spoiled", [0.05, 0.2]
)  # images that only one of both gets right, as often the one as the other
@pytest.mark.parametrize("kind", SIZES)
def test_of_equally_good_models_few_are_called_better_or_worse(
    kind: str, spoiled: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict is wrong at most as often as its confidence allows, also where few clusters are answered alike."""
    monkeypatch.setattr(power, "smallest_difference", lambda *_: None)  # takes most of the time, and decides nothing
    chance, sizes, called, rounds = np.random.default_rng(1), SIZES[kind], 0, 400
    units = np.repeat(np.arange(len(sizes)), sizes)
    for _ in range(rounds):
        common = chance.choice([1, -1, 0], len(sizes), p=[spoiled, spoiled, 1 - 2 * spoiled])[units]
        own = chance.choice([1, -1, 0], len(units), p=[spoiled, spoiled, 1 - 2 * spoiled])
        gains = np.where(chance.random(len(units)) < 0.7, common, own)  # most images go with their unit
        found = verdict.judge({"phase1": gains < 0, "phase2": gains > 0}, {}, 0.95, worth=0.0, units=units)
        called += found.helped == "yes" or "harm" in found.text
    # Two standard errors of the simulation above five in a hundred.
    assert called / rounds <= 0.05 + 2 * (0.05 * 0.95 / rounds) ** 0.5
