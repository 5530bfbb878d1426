from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

from thaw.config import load
from thaw.training import fit_settings, improvement, schedule

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = fit_settings.phase2(
    load.check(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))).phase2, 4096
)
RANDOM = np.random.default_rng(0)
BEFORE = RANDOM.exponential(size=60)
AFTER = BEFORE + RANDOM.normal(0.05, 0.3, 60)


def test_the_interval_is_that_of_the_paired_t_test_where_each_image_is_a_unit() -> None:
    found = improvement.compare(BEFORE, AFTER, range(60))
    expected = stats.ttest_rel(AFTER, BEFORE).confidence_interval(0.95)
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high])
    assert found.change == pytest.approx((AFTER - BEFORE).mean()) and found.units == 60


def test_copies_of_images_tell_nothing_more() -> None:
    once = improvement.compare(BEFORE, AFTER, range(60))
    often = improvement.compare(np.repeat(BEFORE, 5), np.repeat(AFTER, 5), [str(n) for n in np.repeat(range(60), 5)])
    as_if = improvement.compare(np.repeat(BEFORE, 5), np.repeat(AFTER, 5), range(300))
    assert (often.change, often.low, often.high) == pytest.approx((once.change, once.low, once.high))
    assert as_if.low is not None and once.low is not None and as_if.low > once.low + 0.02


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    units = np.repeat(np.arange(30), 4)
    inside = 0
    for seed in range(400):
        random = np.random.default_rng(seed)
        differences = random.normal(0.1, 0.3, 30)[units] + random.normal(0, 0.1, 120)
        found = improvement.compare(np.zeros(120), differences, units.tolist())
        assert found.low is not None and found.high is not None
        inside += found.low <= 0.1 <= found.high
    assert 0.92 <= inside / 400 <= 0.98


@pytest.mark.parametrize(
    ("shift", "worse", "shown"),
    [(-0.5, False, False), (0.0, False, False), (0.03, False, False), (0.1, True, False), (0.2, True, True)],
)
def test_what_rose_by_more_than_a_standard_error_is_worse_and_by_two_for_sure(
    shift: float, worse: bool, shown: bool
) -> None:
    noise = RANDOM.normal(0, 0.5, 60)
    noise = 0.5 * (noise - noise.mean()) / noise.std()  # a standard error of 0.065
    found = improvement.compare(BEFORE, BEFORE + noise + shift, range(60))
    assert (found.is_worse, found.is_shown_worse) == (worse, shown)


def test_one_unit_has_no_interval_and_never_makes_training_worse() -> None:
    found = improvement.compare(np.array([0.1, 0.2]), np.array([9.0, 9.1]), ["a", "a"])
    assert not found.is_worse and not found.is_shown_worse
    assert found.record() == {
        "val_loss_change": pytest.approx(8.9),
        "val_loss_low": None,
        "val_loss_high": None,
        "units": 1,
    }


@pytest.mark.parametrize(
    ("changes", "losses", "best", "stopped", "told"),
    [
        ({}, [0.5, 0.4, 0.3], 3, schedule.FLAT, ""),
        ({}, [0.5, 0.4, 0.399], 3, schedule.EPOCHS, "set phase2.epochs above 40"),  # cut, before it was flat
        ({}, [0.5, 0.3, 0.4], 2, schedule.EPOCHS, ""),
        ({"minutes": 5}, [0.5, 0.4, 0.399], 3, schedule.MINUTES, "set phase2.minutes above 5, or to 0"),
        ({"schedule": "cosine", "epochs": 3}, [0.21, 0.11, 0.09], 0, schedule.EPOCHS, "set phase2.epochs above 3, or"),
        ({"schedule": "cosine", "epochs": 3}, [0.21, 0.11, 0.09], 3, schedule.EPOCHS, "set phase2.epochs above 3, or"),
        ({"schedule": "cosine", "epochs": 3}, [0.21, 0.11, 0.109], 3, schedule.EPOCHS, ""),
        ({"schedule": "constant"}, [0.21, 0.11, 0.12, 0.12], 2, schedule.PATIENCE, ""),
        ({}, [0.5, 0.5, 0.4], 0, schedule.FLAT, "set phase2.flat_epochs above 3"),
        ({"target_accuracy": 0.9}, [0.5, 0.4], 0, schedule.TARGET, "set phase2.target_accuracy above 0.9, or to 0"),
        ({}, [0.5, 0.4], 0, schedule.TARGET, "set phase2.target_accuracy to 0"),
        ({}, [0.5, 0.4, 0.3], 3, schedule.TARGET, ""),
        ({"schedule": "cosine", "epochs": 1}, [0.2], 0, schedule.EPOCHS, ""),  # higher than the start: nobody knows
    ],
)
def test_what_ended_while_the_loss_was_falling_ended_too_early(
    changes: dict[str, object], losses: list[float], best: int, stopped: str, told: str
) -> None:
    said = improvement.too_early(replace(DEFAULT, **changes), losses, 0.1, best, stopped)  # type: ignore[arg-type]
    assert said.startswith(told) and bool(said) is bool(told)
