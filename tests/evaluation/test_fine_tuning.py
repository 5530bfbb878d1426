import numpy as np
import pytest

from thaw.evaluation import fine_tuning, verdict

KEPT_START = {
    "layers": 4,
    "epochs": 3,
    "best_epoch": 0,
    "val_loss_change": 0.0512,
    "val_loss_low": 0.0104,
    "val_loss_high": 0.092,
    "ended_too_early": True,
    "advice": "set phase2.epochs above 3",
}


def test_what_ended_too_early_is_said_and_nothing_where_it_did_not() -> None:
    assert fine_tuning.early(KEPT_START) == "Phase 2 ended too early: set phase2.epochs above 3."
    assert fine_tuning.early(KEPT_START | {"ended_too_early": False, "advice": ""}) == ""
    assert fine_tuning.early({"layers": 0}) == ""


def test_a_change_without_an_interval_is_said_without_one() -> None:
    said = fine_tuning.kept_start(KEPT_START | {"val_loss_low": None, "val_loss_high": None})
    assert "by 0.051, on the same images" in said


@pytest.mark.parametrize(
    ("advice", "outcome"), [("set phase2.epochs above 3", "has not helped yet"), ("", "did not help")]
)
def test_a_start_that_was_kept_is_called_what_the_verdict_calls_it(advice: str, outcome: str) -> None:
    trained = KEPT_START | {"ended_too_early": bool(advice), "advice": advice}
    right = {phase: np.arange(50) < 45 for phase in ("phase1", "phase2")}
    judged = verdict.judge(right, {}, 0.95, 0.01, same=True, early=advice)
    assert fine_tuning.kept_start(trained).startswith(f"Phase 2 {outcome}: ")
    assert judged.text.startswith(f"Fine-tuning {outcome}: ")


@pytest.mark.parametrize(
    ("layers", "epochs", "best", "told"),
    [
        (4, 3, 1, ""),
        (
            4,
            1,
            0,
            "Phase 2 has not helped yet: the validation loss of its only epoch is higher than its start's by 0.051 (",
        ),
        (0, 0, 0, "Phase 2 unfroze nothing, so its model is phase 1's."),
    ],
)
def test_whether_phase_2_kept_its_start_is_read_from_its_figures(
    layers: int, epochs: int, best: int, told: str
) -> None:
    said = fine_tuning.kept_start(KEPT_START | {"layers": layers, "epochs": epochs, "best_epoch": best})
    assert said.startswith(told) and bool(said) is bool(told)


def test_the_test_chooses_between_two_models_and_not_where_both_are_one() -> None:
    assert "chooses the phase to ship" in fine_tuning.chosen_by_test(same=False)
    assert fine_tuning.chosen_by_test(same=True) == "Nothing was chosen by the test images."
