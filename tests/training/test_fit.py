import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.training import short
from thaw import paths, records
from thaw.config import phases
from thaw.images import manifest
from thaw.runtime import devices, seeds, threads
from thaw.runtime.framework import keras, tf
from thaw.training import fit, mixing
from thaw.training.fit_settings import FitSettings

SHARED = replace(short.SETTINGS, phase="phase1", epochs=10, learning_rate=0.01, patience=1000, has_verdict=False)
PHASE1 = replace(SHARED, plateau_patience=2, plateau_factor=0.5)
PHASE2 = replace(SHARED, phase="phase2", has_verdict=True, min_improvement=0.03, decay_share=0.5)
RANDOM = np.random.default_rng(0)
LABELS = np.arange(30) % 3
# Points around three corners, which a linear model can tell apart.
POINTS = (np.eye(3)[LABELS] * 3 + RANDOM.normal(size=(30, 3))).astype(np.float32)


@pytest.fixture(autouse=True)
def short_epochs_count_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an epoch of the few steps that these tests have count as one."""
    monkeypatch.setattr(phases, "FEWEST_STEPS", 1)


def batches(points: np.ndarray, labels: np.ndarray, size: int = 8, seed: int | None = None) -> manifest.Batches:
    return mixing.Mixed(lambda indices, _views: points[indices], labels, size, seed=seed, classes=3, alpha=0)


def network(*, zero: bool = False, dropout: float = 0) -> keras.Model:
    seeds.fix(0)
    inputs = keras.Input((3,), name="points")
    values = keras.layers.Dropout(dropout, name="dropout")(inputs)
    start = "zeros" if zero else "glorot_uniform"
    return keras.Model(inputs, keras.layers.Dense(3, kernel_initializer=start, name="logits")(values), name="head")


def fitted(
    model: keras.Model,
    settings: FitSettings,
    *,
    train: tuple[np.ndarray, np.ndarray] = (POINTS, LABELS),
    val: tuple[np.ndarray, np.ndarray] = (POINTS, LABELS),
    size: int = 8,
) -> fit.History:
    check = batches(*val)
    return fit.fit(model, batches(*train, size, seed=0), check, settings, lambda *_: None, "test")


def loss(model: keras.Model, points: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy by its definition."""
    logits = np.asarray(model(points, training=False), np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return float(-np.log(probabilities[np.arange(len(labels)), labels]).mean())


def rates(history: fit.History) -> list[float]:
    return [row["learning_rate"] for row in history.rows]


def test_training_learns_and_its_history_has_a_row_an_epoch() -> None:
    model = network()
    before = loss(model, POINTS, LABELS)
    history = fitted(model, replace(PHASE1, learning_rate=0.1))
    assert [set(row) for row in history.rows] == [set(fit.COLUMNS)] * 10
    assert [row["epoch"] for row in history.rows] == list(range(1, 11))
    assert history.start["val_loss"] == pytest.approx(before, rel=1e-5)
    assert history.rows[-1]["loss"] < history.rows[0]["loss"] < before
    assert history.at_best()["val_accuracy"] > 0.9


def test_figures_of_validation_count_every_image_once() -> None:
    model = network()
    # 30 images in batches of 8: the last has 6.
    history = fitted(model, replace(PHASE1, epochs=1))
    assert history.rows[0]["val_loss"] == pytest.approx(loss(model, POINTS, LABELS), rel=1e-5)
    right = (np.asarray(model(POINTS)).argmax(axis=1) == LABELS).mean()
    assert history.rows[0]["val_accuracy"] == pytest.approx(right)


# Few points of noise are learned by heart, and validation on others gets worse from some epoch on.
NOISE = RANDOM.normal(size=(12, 3)).astype(np.float32)
OTHERS = (RANDOM.normal(size=(300, 3)) + 0.35 * np.eye(3)[np.arange(300) % 3]).astype(np.float32)


@pytest.mark.parametrize(
    ("settings", "patience"),
    [(replace(PHASE1, plateau_factor=0.99), 3), (PHASE2, 3), (PHASE2, 1000)],
    ids=["phase 1", "phase 2", "phase 2 to the end"],
)
def test_the_weights_of_the_best_epoch_are_kept(settings: FitSettings, patience: int) -> None:
    model = network()
    model.layers[-1].kernel.assign(-3 * np.eye(3))  # so that there is something to win at first
    settings = replace(settings, epochs=30, patience=patience, learning_rate=0.3)
    train, val = (NOISE + np.eye(3)[np.arange(12) % 3], np.arange(12) % 3), (OTHERS, np.arange(300) % 3)
    history = fitted(model, settings, train=train, val=val)
    losses = [row["val_loss"] for row in history.rows]
    assert 0 < history.best < len(losses)
    assert history.best == int(np.argmin(losses)) + 1
    assert len(losses) == (history.best + 3 if patience == 3 else 30)
    assert loss(model, *val) == pytest.approx(min(losses), rel=1e-5)
    assert loss(model, *val) < losses[-1]
    assert history.at_best() is history.rows[history.best - 1]
    assert history.summary().startswith(f"epoch {history.best} of {len(losses)} is best, validation accuracy ")


@pytest.mark.parametrize("average", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_the_last_epoch_of_a_rate_that_fell_is_kept_unless_images_show_it_to_be_worse(average: float) -> None:
    def came(count: int) -> tuple[keras.Model, fit.History, list[float], tuple[np.ndarray, np.ndarray]]:
        model = network()
        model.layers[-1].kernel.assign(-3 * np.eye(3))
        settings = replace(PHASE2, schedule="cosine", epochs=30, learning_rate=0.3, average_epochs=average)
        val = OTHERS[:count], np.arange(count) % 3
        history = fitted(model, settings, train=(NOISE + np.eye(3)[np.arange(12) % 3], np.arange(12) % 3), val=val)
        return model, history, [row["val_loss"] for row in history.rows], val

    # The same training: 300 images tell that its end is worse, 12 of them do not.
    model, history, losses, val = came(300)
    assert history.best == int(np.argmin(losses)) + 1 < 30
    assert loss(model, *val) == pytest.approx(min(losses), rel=1e-5)
    model, history, losses, val = came(12)
    assert int(np.argmin(losses)) + 1 < history.best == 30
    assert loss(model, *val) == pytest.approx(losses[-1], rel=1e-5)
    assert history.summary().startswith("epoch 30 of 30 is kept, validation accuracy ")
    assert history.verdict["val_loss_change"] == pytest.approx(losses[-1] - history.start["val_loss"], rel=1e-3)


@pytest.mark.parametrize("settings", [PHASE1, PHASE2], ids=["phase 1", "phase 2"])
def test_if_nothing_is_better_than_the_start_the_start_is_kept(settings: FitSettings) -> None:
    model = network(zero=True)
    before = [weight.copy() for weight in model.get_weights()]
    wrong = (LABELS + 1) % 3  # what is learned from it is wrong in validation from the first step on
    history = fitted(model, replace(settings, patience=2), train=(POINTS, wrong))
    assert history.best == 0
    assert len(history.rows) == 3
    for weight, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)
    assert history.at_best() == history.start
    assert history.start["val_loss"] == pytest.approx(math.log(3))
    assert "the start, none of 3 epochs, is best" in history.summary()


def test_the_rate_is_cut_on_each_plateau() -> None:
    wrong = (LABELS + 1) % 3
    history = fitted(network(zero=True), replace(PHASE1, epochs=8), train=(POINTS, wrong))
    # The first epoch is the best there is. Two without a better one, then half the rate, and so on.
    expected = [0.01, 0.01, 0.01, 0.005, 0.005, 0.0025, 0.0025, 0.00125]
    np.testing.assert_allclose(rates(history), expected, rtol=1e-6)


def test_the_rate_stays_while_validation_gets_better() -> None:
    history = fitted(network(), PHASE1)
    losses = [row["val_loss"] for row in history.rows]
    assert losses == sorted(losses, reverse=True)
    np.testing.assert_allclose(rates(history), [0.01] * 10, rtol=1e-6)


def test_a_plateau_factor_of_one_never_cuts_the_rate() -> None:
    wrong = (LABELS + 1) % 3
    history = fitted(network(zero=True), replace(PHASE1, epochs=6, plateau_factor=1), train=(POINTS, wrong))
    np.testing.assert_allclose(rates(history), [0.01] * 6, rtol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [0.01] * 10),
        ("cosine", 0, [0.005 * (1 + math.cos(math.pi * step / 10)) for step in range(10)]),
        ("constant", 4, [0, 0.0025, 0.005, 0.0075, *[0.01] * 6]),
        (
            "cosine",
            4,
            [0, 0.0025, 0.005, 0.0075, *(0.005 * (1 + math.cos(math.pi * step / 6)) for step in range(6))],
        ),
        ("constant", 0.4, [0.01] * 10),  # less than half a step is none
    ],
)
def test_the_rate_follows_the_schedule(schedule: str, warmup: float, expected: list[float]) -> None:
    # One step an epoch, so that the history has the rate of every step.
    history = fitted(network(), replace(PHASE2, schedule=schedule, warmup=warmup), size=30)
    np.testing.assert_allclose(rates(history), expected, rtol=1e-5, atol=1e-9)


def test_a_schedule_is_over_all_steps_of_all_epochs() -> None:
    history = fitted(network(), replace(PHASE2, epochs=5, schedule="cosine"), size=8)  # 4 steps an epoch
    expected = [0.005 * (1 + math.cos(math.pi * epoch / 5)) for epoch in range(5)]
    np.testing.assert_allclose(rates(history), expected, rtol=1e-5)


def test_at_a_rate_of_zero_nothing_moves() -> None:
    model = network()
    before = model.get_weights()
    fitted(model, replace(PHASE2, epochs=1, warmup=0.5), size=15)  # two steps, the first of them at zero
    moved = [np.abs(one - two).max() for one, two in zip(before, model.get_weights(), strict=True)]
    assert max(moved) == pytest.approx(0.01, rel=0.05)  # Adam's first steps are as long as the rate, and there was one


@pytest.mark.parametrize("settings", [PHASE1, PHASE2], ids=["phase 1", "phase 2"])
def test_what_diverges_is_stopped_with_a_way_out(settings: FitSettings) -> None:
    bad = POINTS.copy()
    bad[17, 1] = np.nan
    with pytest.raises(
        ValueError, match=r"^training diverged in epoch 1: the loss is nan; choose a lower learning rate"
    ):
        fitted(network(), settings, train=(bad, LABELS))


def test_a_step_of_training_is_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[int] = []
    step = keras.Model.train_step

    def noted(self: keras.Model, *arguments: object) -> object:
        traced.append(1)
        return step(self, *arguments)

    monkeypatch.setattr(keras.Model, "train_step", noted)
    fitted(network(), replace(PHASE2, epochs=2, average_epochs=0.5))  # with a last batch that is smaller
    assert len(traced) == 1


def test_the_same_seed_gives_the_same_bytes() -> None:
    def trained(seed: int) -> bytes:
        model = network(dropout=0.5)
        train = batches(POINTS, LABELS, seed=seed)
        settings = replace(PHASE1, epochs=3)
        fit.fit(model, train, batches(POINTS, LABELS), settings, lambda *_: None, "test")
        return b"".join(weight.tobytes() for weight in model.get_weights())

    assert trained(0) == trained(0)
    assert trained(0) != trained(1)


def test_what_was_trained_is_saved_as_if_it_had_been_made_so(tmp_path: Path) -> None:
    trained, made = network(), network()
    fitted(trained, replace(PHASE1, epochs=1))
    made.set_weights(trained.get_weights())
    for name, model in (("trained", trained), ("made", made)):
        # Within another model, as the head is in the classifier.
        inputs = keras.Input((3,), name="input")
        keras.Model(inputs, model(inputs), name="whole").save_weights(tmp_path / f"{name}.weights.h5")
    # No optimiser and no numbered names: equal weights are equal files.
    assert (tmp_path / "trained.weights.h5").read_bytes() == (tmp_path / "made.weights.h5").read_bytes()


def test_every_epoch_is_reported_as_it_ends() -> None:
    told: list[tuple[str, int, Mapping[str, float]]] = []
    train, val = batches(POINTS, LABELS, seed=0), batches(POINTS, LABELS)
    settings = replace(PHASE1, epochs=3)
    history = fit.fit(network(), train, val, settings, lambda *each: told.append(each), "test")
    assert [(phase, epoch) for phase, epoch, _ in told] == [("phase1", 1), ("phase1", 2), ("phase1", 3)]
    for (*_, values), row in zip(told, history.rows, strict=True):
        assert values["seconds"] > 0
        assert {key: value for key, value in values.items() if key != "seconds"} == row


@pytest.mark.parametrize("wanted", ["float32", "mixed"])
def test_phase_2_computes_as_it_is_asked_to(wanted: str) -> None:
    inputs = keras.Input((3,), name="points")
    values = keras.layers.Conv2D(4, 1, name="wide")(keras.layers.Reshape((1, 1, 3))(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(values)))
    history = fitted(model, replace(PHASE2, precision=wanted))
    assert history.precision == ("mixed_bfloat16" if wanted == "mixed" else "float32")
    assert history.rows[-1]["val_loss"] < history.start["val_loss"]
    assert model.get_layer("wide").compute_dtype == "float32"  # whatever is tested later is exact


def test_a_penalty_counts_in_the_objective_and_in_nothing_that_is_compared() -> None:
    model = network()
    model.layers[-1].kernel_regularizer = keras.regularizers.L2(0.1)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    history = fitted(copy, replace(PHASE1, epochs=1, learning_rate=1e-8))
    penalty = 0.1 * float(np.square(copy.layers[-1].kernel).sum())
    plain = pytest.approx(loss(copy, POINTS, LABELS), rel=1e-4)
    assert penalty > 0.1
    assert [history.start["val_loss"], history.rows[0]["val_loss"], history.rows[0]["loss"]] == [plain] * 3
    assert history.rows[0]["objective"] == pytest.approx(history.rows[0]["loss"] + penalty, rel=1e-4)


class Costly(keras.layers.Layer):  # type: ignore[misc]  # Keras has no stubs
    """A layer of a network from outside that adds a loss of its own, here a constant."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        self.add_loss(tf.constant(7.0))
        return inputs


def test_losses_that_layers_add_count_in_the_objective_only() -> None:
    inputs = keras.Input((3,), name="points")
    model = keras.Model(inputs, keras.layers.Dense(3, kernel_initializer="zeros")(Costly()(inputs)))
    history = fitted(model, replace(PHASE2, epochs=2))
    assert history.start["val_loss"] == pytest.approx(math.log(3))
    for row in history.rows:
        assert row["objective"] == pytest.approx(row["loss"] + 7, rel=1e-5)
        assert max(row["loss"], row["val_loss"]) < math.log(3)


@pytest.mark.parametrize("factor", [0.5, 1])
def test_a_falling_penalty_is_no_better_validation(factor: float) -> None:
    # What is learned is wrong in validation from the first step on, while the penalty falls in each epoch.
    inputs, wrong = keras.Input((3,), name="points"), (LABELS + 1) % 3
    strong = keras.regularizers.L2(0.9)
    unused = keras.layers.Dense(3, kernel_initializer="ones", kernel_regularizer=strong)
    values = keras.layers.Dense(3, kernel_initializer="zeros")(inputs)
    model = keras.Model(inputs, keras.layers.Add()([values, 0 * unused(inputs)]))
    settings = replace(PHASE1, patience=4, plateau_factor=factor)
    history = fitted(model, settings, train=(POINTS, wrong))
    assert [row["objective"] for row in history.rows] == sorted((r["objective"] for r in history.rows), reverse=True)
    assert (history.best, len(history.rows)) == (0, 5)  # of early stopping, the first epoch is the best
    assert (rates(history)[-1] < 0.006) == (factor < 1)


def test_the_loss_of_training_is_of_all_images_alike_and_the_objective_has_their_weights() -> None:
    weights = np.where(LABELS == 0, 2.5, 0.25).astype(np.float32)
    model = network()
    train = mixing.Mixed(
        lambda indices, _views: POINTS[indices], LABELS, 30, seed=0, weights=weights, classes=3, alpha=0
    )
    settings = replace(PHASE1, epochs=1, learning_rate=1e-8)
    history = fit.fit(model, train, batches(POINTS, LABELS), settings, lambda *_: None, "test")
    each = np.array([loss(model, POINTS[[n]], LABELS[[n]]) for n in range(30)])
    assert history.rows[0]["loss"] == pytest.approx(each.mean(), rel=1e-4)
    assert history.rows[0]["objective"] == pytest.approx((weights * each).mean(), rel=1e-4)


def test_the_record_has_the_best_figures_and_what_they_were_made_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = Path("input.txt")
    source.write_text("x")
    history = fitted(network(), replace(PHASE1, epochs=3))
    fit.record("phase1_head", history, [source], boundary="none")
    rows = records.read_csv(paths.history("phase1_head"))
    assert list(rows[0]) == list(fit.COLUMNS)
    assert [{key: float(value) for key, value in row.items()} for row in rows] == history.rows
    figures = records.read_json(paths.metrics("phase1_head"))
    assert figures == {
        "best_epoch": 3,
        "boundary": "none",
        "epochs": 3,
        "made_from": records.made_from([source]),
        "precision": "float32",
        "threads": threads.used(),
        "device": devices.record(),
        "val_accuracy": history.rows[2]["val_accuracy"],
        "val_loss": history.rows[2]["val_loss"],
    }


def test_where_nothing_is_trained_the_record_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    nothing = fit.History([], 0, {})
    fit.record("phase2_finetune", nothing, [])
    assert records.read_json(paths.metrics("phase2_finetune")) == {
        "best_epoch": 0,
        "epochs": 0,
        "made_from": [],
        "precision": "float32",
        "threads": threads.used(),
        "device": devices.record(),
    }
    assert paths.history("phase2_finetune").read_text(encoding="utf-8") == ",".join(fit.COLUMNS) + "\n"
    assert nothing.summary() == "nothing to train, the model stays as it was"


def test_what_is_kept_is_the_averaged_weights_of_the_best_epoch_and_what_they_say_of_validation() -> None:
    model = network()
    history = fitted(model, replace(PHASE2, epochs=6, average_epochs=2))
    plain = fitted(network(), replace(PHASE2, epochs=6))
    assert history.rows[0]["val_loss"] != pytest.approx(plain.rows[0]["val_loss"], rel=1e-4)
    assert history.rows[0]["loss"] == plain.rows[0]["loss"]  # the weights that are trained are the same
    assert loss(model, POINTS, LABELS) == pytest.approx(history.at_best()["val_loss"], rel=1e-5)
    assert history.verdict["val_loss_change"] == pytest.approx(
        history.at_best()["val_loss"] - history.start["val_loss"], rel=1e-3
    )


def test_warm_up_stable_decay_ends_when_the_loss_is_flat() -> None:
    wrong = (LABELS + 1) % 3  # the loss of validation rises from the first epoch on
    settings = replace(PHASE2, schedule="warmup_stable_decay", epochs=40, warmup=1)
    history = fitted(network(zero=True), settings, train=(POINTS, wrong), size=30)
    # The first is the lowest, the second is flat, and two of decay.
    np.testing.assert_allclose(rates(history), [0, 0.01, 0.01, 0.005], rtol=1e-5)
    assert history.verdict["stopped"] == "flat"


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 7])
def test_the_decay_always_fits_in(epochs: int) -> None:
    settings = replace(PHASE2, schedule="warmup_stable_decay", epochs=epochs, warmup=1, min_improvement=0)
    history = fitted(network(), settings)
    assert len(history.rows) == epochs
    assert history.verdict["stopped"] == "epochs" and history.verdict["ended_too_early"]
    assert f"set phase2.epochs above {epochs}" in history.summary()


def test_training_is_kept_unless_the_images_show_that_it_is_worse() -> None:
    model, few = network(), replace(PHASE2, epochs=2, learning_rate=1e-4)
    wrong = np.where(np.arange(30) < 11, (LABELS + 1) % 3, LABELS)
    history = fitted(model, few, val=(POINTS, wrong))
    found = history.verdict
    error = (found["val_loss_high"] - found["val_loss_change"]) / stats.t.ppf(0.975, 29)
    assert (history.best == 0) == (found["val_loss_change"] > error)
    assert found["val_loss_low"] < found["val_loss_change"] < found["val_loss_high"] and found["units"] == 30


def test_images_that_are_alike_are_one_when_the_start_is_compared() -> None:
    train, val = batches(POINTS, LABELS, seed=0), batches(POINTS, LABELS)
    units = [number // 3 for number in range(30)]
    settings = replace(PHASE2, epochs=1)
    history = fit.fit(network(), train, val, settings, lambda *_: None, "test", units=units)
    assert history.verdict["units"] == 10


def test_statistics_that_move_are_kept_with_the_averaged_weights_that_were_validated_with_them() -> None:
    def trained() -> tuple[keras.Model, fit.History]:
        seeds.fix(0)
        inputs = keras.Input((3,), name="points")
        model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.BatchNormalization(momentum=0.5)(inputs)))
        settings = replace(PHASE2, average_epochs=1, schedule="warmup_stable_decay", warmup=1)
        return model, fitted(model, settings)

    (model, history), (again, _) = trained(), trained()
    assert loss(model, POINTS, LABELS) == pytest.approx(history.at_best()["val_loss"], rel=1e-4)
    assert [w.tobytes() for w in model.get_weights()] == [w.tobytes() for w in again.get_weights()]
