"""When the rate falls and when training ends, told by losses and a clock that a test makes up."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from thaw.config import load, phases
from thaw.training import fit_settings, schedule

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = load.check(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))).phase2
SETTINGS = replace(
    fit_settings.phase2(DEFAULT, 4096),
    epochs=20,
    warmup=1,
    flat_epochs=1,
    min_improvement=0.03,
    min_delta=0,
    decay_share=0.5,
)
STEPS = phases.FEWEST_STEPS


@dataclass
class Model:
    """As much of Keras's as a callback that ends training needs."""

    stop_training: bool = False


def run(
    settings: fit_settings.FitSettings,
    losses: list[float],
    seconds: float = 1.0,
    steps: int = STEPS,
    accuracies: Sequence[float] = (0.5,),
) -> tuple[schedule.Ending, int, list[float]]:
    """Go through epochs of such figures: what ended them, how many there were, and the rate of each step."""
    now = [100.0]
    rate = schedule.rate(settings, steps)
    ending = schedule.Ending(settings, steps, rate, "val", clock=lambda: now[0])
    model, taken, done = Model(), [], 0
    ending.set_model(model)
    ending.on_train_begin()
    for epoch in range(settings.epochs):
        taken += [float(rate(epoch * steps + step)) if callable(rate) else rate for step in range(steps)]
        now[0] += seconds
        done += 1
        figures = {"val": losses, schedule.ACCURACY: accuracies}
        ending.on_epoch_end(epoch, {name: of[min(epoch, len(of) - 1)] for name, of in figures.items()})
        if model.stop_training:
            break
    return ending, done, taken


def falling(count: int) -> list[float]:
    return [0.9**number for number in range(count)]


def test_the_rate_rises_stays_and_falls_to_zero_once_the_loss_is_flat() -> None:
    ending, done, taken = run(SETTINGS, [*falling(6), 0.9**5 * 0.98])  # the seventh is lower by 2 % only
    assert (ending.stopped, done) == (schedule.FLAT, 7 + 4)  # half of seven, rounded
    peak = SETTINGS.learning_rate
    expected = [*(np.arange(STEPS) / STEPS), *[1] * 6 * STEPS, *(1 - np.arange(4 * STEPS) / (4 * STEPS))]
    np.testing.assert_allclose(taken, peak * np.array(expected), rtol=1e-5, atol=1e-12)


def test_flat_is_a_mean_that_no_longer_falls_and_not_before_the_rate_has_risen() -> None:
    # The mean of two epochs is below that of the two before until the sixth; half of six is the fall.
    patient = replace(SETTINGS, flat_epochs=2)
    assert run(patient, [1, 1, 0.9, 0.9, 0.9, 0.9])[:2][1] == 6 + 3
    late = replace(SETTINGS, warmup=4)
    assert run(late, [1.0])[1] == 4 + 2


def test_a_loss_near_zero_is_flat_however_large_a_share_of_it_goes() -> None:
    losses = [0.1 * loss for loss in falling(20)]  # by 0.0053 in the eighth epoch, 0.0048 in the ninth
    assert run(SETTINGS, losses)[0].stopped == schedule.EPOCHS
    ending, done, _ = run(replace(SETTINGS, min_delta=0.005), losses)
    assert (ending.stopped, done) == (schedule.FLAT, 9 + 4)


def test_an_accuracy_that_stays_at_its_target_ends_training_while_the_loss_falls() -> None:
    patient, losses = replace(SETTINGS, flat_epochs=3, target_accuracy=1), falling(20)
    right = [0.9, 1, 1, 0.99, 1, 1, 1]  # three in turn are right after the seventh
    ending, done, taken = run(patient, losses, accuracies=right)
    assert (ending.stopped, done) == (schedule.TARGET, 7 + 4) and ending.has_fallen
    assert float(ending.rate(done * STEPS)) == 0 and taken[6 * STEPS] == pytest.approx(SETTINGS.learning_rate)
    assert run(replace(patient, target_accuracy=0.95), losses, accuracies=right)[1] == 4 + 2
    exactly = [float(np.float32(95 / 100))]  # as Keras has it, and below 0.95
    assert run(replace(patient, target_accuracy=0.95), losses, accuracies=exactly)[0].stopped == schedule.TARGET
    assert run(replace(patient, target_accuracy=0), losses, accuracies=[1])[0].stopped == schedule.EPOCHS
    # Not before the rate has risen, and by the wait that short epochs have.
    assert run(replace(patient, warmup=5), losses, accuracies=[1])[1] == 5 + 2
    assert run(replace(patient, epochs=40), falling(40), steps=STEPS // 2, accuracies=[1])[1] == 6 + 4


def test_short_epochs_count_as_parts_of_one() -> None:
    quarter = STEPS // 4
    assert schedule.warmup_steps(SETTINGS, quarter) == STEPS
    ending, done, taken = run(SETTINGS, [1.0], steps=quarter)
    # Four epochs are one of 64 steps, so means are taken of four, twice, and eight are the shortest decay.
    assert (ending.stopped, done) == (schedule.FLAT, 4 + 4 + 8)
    assert taken[STEPS] == pytest.approx(SETTINGS.learning_rate) and float(ending.rate(done * quarter)) == 0


def test_a_loss_that_falls_in_leaps_is_not_called_flat() -> None:
    # Lower than ever in each fourth epoch only, as on 1,769 images; the lowest loss so far would end it after four.
    leaps = [0.95**number * (1.0 if number % 4 == 0 else 1.2) for number in range(16)]
    patient = replace(SETTINGS, epochs=40, flat_epochs=3)
    ending, done, _ = run(patient, [*leaps, *[leaps[-1]] * 10])
    assert ending.stopped == schedule.FLAT and done > 16 + 8


def test_a_flat_loss_ends_training_of_few_images_too() -> None:
    # With 13 steps an epoch, two means and a fall of half of their epochs took more than the 40, so it never did.
    short = replace(SETTINGS, epochs=40, flat_epochs=3)
    for steps in (7, 13, 24):
        ending, done, _ = run(short, [1.0], steps=steps)
        assert (ending.stopped, done <= 40) == (schedule.FLAT, True), steps
        # Nor does it take longer where more epochs are allowed, as of few images.
        assert run(replace(short, epochs=300), [1.0], steps=steps)[1] == done
    ending, done, _ = run(replace(short, epochs=300), [1.0], steps=2)
    assert ending.stopped == schedule.FLAT and 200 <= 2 * done <= 260
    ending, done, _ = run(replace(short, epochs=256), falling(100), steps=10)
    assert ending.stopped == schedule.FLAT and done > 100  # and what is still learning goes on


@pytest.mark.parametrize("epochs", range(1, 30))
@pytest.mark.parametrize("share", [0.1, 0.5, 2])
def test_the_rate_is_down_when_the_epochs_run_out(epochs: int, share: float) -> None:
    ending, done, taken = run(replace(SETTINGS, epochs=epochs, decay_share=share), falling(epochs))
    assert (ending.stopped, done, ending.end) == (schedule.EPOCHS, epochs, epochs)
    assert taken[-1] <= SETTINGS.learning_rate * 0.51 and max(taken) > 0
    # The step after the last would have none, so the fall was as long as it was meant to be.
    assert float(ending.rate(epochs * STEPS)) == 0


@pytest.mark.parametrize("seconds", [5.0, 7.0, 25.0])
def test_the_fall_fits_into_the_minutes(seconds: float) -> None:
    ending, done, _ = run(replace(SETTINGS, minutes=2), falling(20), seconds)
    longest = {5.0: schedule.EPOCHS, 7.0: schedule.MINUTES, 25.0: schedule.MINUTES}
    assert ending.stopped == longest[seconds]
    assert done * seconds <= 120
    assert float(ending.rate(done * STEPS)) == 0 and ending.has_fallen
    assert 120 - done * seconds < 3 * seconds or done == 20  # hardly any of it is left unused


def test_minutes_that_one_epoch_takes_end_training_after_it() -> None:
    ending, done, _ = run(replace(SETTINGS, minutes=1), falling(20), seconds=90)
    assert (ending.stopped, done) == (schedule.MINUTES, 1)
    assert not ending.has_fallen  # or the last of several epochs would be kept, whose rate had not fallen


def test_minutes_end_a_constant_rate_too() -> None:
    ending, done, taken = run(replace(SETTINGS, schedule="constant", warmup=0, minutes=1), falling(20), seconds=9)
    assert (ending.stopped, done) == (schedule.MINUTES, 6)
    assert set(taken) == {SETTINGS.learning_rate} and not ending.has_fallen


def test_a_cosine_takes_all_its_epochs_and_no_minutes() -> None:
    ending, done, taken = run(replace(SETTINGS, schedule="cosine", epochs=5), [1.0])
    assert (ending.stopped, done) == (schedule.EPOCHS, 5)
    assert taken[-1] < taken[STEPS] / 20 and ending.has_fallen
    with pytest.raises(ValueError, match=r"^phase2\.minutes: expected 0 where phase2\.schedule is cosine, received 5"):
        replace(DEFAULT, schedule="cosine", minutes=5)


def test_the_warm_up_is_in_epochs_and_half_of_all_at_most() -> None:
    def steps(**changes: Any) -> int:
        return schedule.warmup_steps(replace(SETTINGS, **changes), STEPS)

    assert [steps(warmup=warmup) for warmup in (0, 0.5, 1, 3)] == [0, 32, 64, 192]
    assert steps(warmup=3, epochs=4) == 128
    assert steps(epochs=1) == 32


def test_the_default_is_warm_up_stable_decay_with_averaged_weights() -> None:
    assert DEFAULT.schedule == phases.WSD and DEFAULT.average_epochs > 0 and DEFAULT.unfreeze == "auto"
