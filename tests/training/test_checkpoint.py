"""A training that is interrupted and goes on ends with the bits of one that is not."""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.training import short
from thaw import paths
from thaw.config import phases
from thaw.runtime import devices, seeds
from thaw.runtime.framework import keras
from thaw.training import checkpoint, feed, fit, mixing, resume
from thaw.training.fit_settings import FitSettings

RANDOM = np.random.default_rng(0)
VIEWS, COUNT = 3, 100
LABELS = np.arange(COUNT) % 3
POINTS = (np.eye(3)[LABELS] + RANDOM.normal(size=(VIEWS, COUNT, 3))).astype(np.float32)
SHARED = replace(short.SETTINGS, phase="phase1", epochs=6, batch_size=4, has_verdict=False)
CASES = {
    "phase 1": replace(SHARED, plateau_patience=1, plateau_factor=0.5, sampler="balanced"),
    "phase 2": replace(
        SHARED,
        phase="phase2",
        has_verdict=True,
        patience=6,
        schedule=phases.WSD,
        warmup=1,
        decay_share=0.5,
        min_improvement=0.01,
        average_epochs=1,
        weight_decay=0.01,
        mixup=0.4,
    ),
    "early stopping": replace(
        SHARED,
        phase="phase2",
        has_verdict=True,
        schedule="early stopping",
        learning_rate=0.5,
        layer_decay=0.7,
        patience=2,
    ),
}


@pytest.fixture(autouse=True)
def keep_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every epoch of these short ones."""
    monkeypatch.setattr(phases, "FEWEST_STEPS", 1)
    monkeypatch.setattr(resume, "SHARE", np.inf)


def network() -> keras.Model:
    seeds.fix(0)
    inputs = keras.Input((3,), name="points")
    values = keras.layers.Dense(8, "relu", name="hidden")(inputs)
    values = keras.layers.Dropout(0.5, name="dropout")(values)
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(values), name="head")


class Points:
    """The points as the cache keeps activations, in float16: a card takes them all."""

    shape: tuple[int, ...] = (3,)
    row_bytes = 6

    def half(self, indices: np.ndarray, views: np.ndarray) -> np.ndarray:
        rows: np.ndarray = POINTS[views, indices].astype(np.float16)
        return rows

    def __call__(self, indices: np.ndarray, views: np.ndarray) -> np.ndarray:
        rows: np.ndarray = self.half(indices, views).astype(np.float32)
        return rows


def train(
    settings: FitSettings, file: Path | None, report: Callable[..., None] = lambda *_: None, *more: Any
) -> tuple[list[bytes], fit.History]:
    model, depths = network(), {"head/hidden/kernel": 1} if settings.layer_decay < 1 else {}

    source = Points()
    size = settings.batch_size
    chances = LABELS + 1.0 if settings.sampler == "balanced" else None
    batches = mixing.Mixed(source, LABELS, size, VIEWS, 0, chances=chances, classes=3, alpha=settings.mixup)
    val = mixing.Mixed(source, LABELS[:30], size, classes=3, alpha=0)
    history = fit.fit(model, batches, val, settings, report, "test", depths, keep=file, callbacks=more)
    return [np.asarray(variable).tobytes() for variable in model.variables], history


def interrupted_after(epoch: int) -> Callable[..., None]:
    def report(_phase: str, number: int, _values: object) -> None:
        if number == epoch:
            raise KeyboardInterrupt

    return report


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, tuple[list[bytes], fit.History]]:
    """What each case comes to."""
    with pytest.MonkeyPatch.context() as here:
        here.setattr(phases, "FEWEST_STEPS", 1)
        return {name: train(settings, None) for name, settings in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_what_goes_on_ends_as_what_was_not_interrupted(
    name: str, undisturbed: dict[str, tuple[list[bytes], fit.History]], tmp_path: Path
) -> None:
    weights, history = undisturbed[name]
    file = tmp_path / "a.npz"
    # Before the last epoch is kept, so that the last begins where the whole history was kept but the stage's files.
    for epoch in (2, len(history.rows)):
        with pytest.raises(KeyboardInterrupt):
            train(CASES[name], file, interrupted_after(epoch))
        assert checkpoint.read(file).epoch == epoch - 1
    again, came = train(CASES[name], file)
    assert again == weights
    assert (came.rows, came.best, came.start, came.verdict) == (
        history.rows,
        history.best,
        history.start,
        history.verdict,
    )
    kept = checkpoint.read(file)
    assert kept.ended and kept.epoch == len(history.rows)
    # Killed behind the last epoch: nothing is trained again.
    told: list[int] = []
    once_more, came = train(CASES[name], file, lambda _phase, number, _values: told.append(number))
    assert once_more == weights and came.rows == history.rows and told == []


def test_the_cases_end_in_different_ways(undisturbed: dict[str, tuple[list[bytes], fit.History]]) -> None:
    """What is not exercised is not shown: a plateau, early stopping, a fall of the rate, an early best epoch."""
    rates = {name: [row["learning_rate"] for row in history.rows] for name, (_, history) in undisturbed.items()}
    assert len(set(rates["phase 1"])) > 1 and len(rates["early stopping"]) < 6
    assert 0 < undisturbed["early stopping"][1].best < len(rates["early stopping"])
    assert undisturbed["phase 2"][1].verdict["stopped"] and rates["phase 2"][-1] < max(rates["phase 2"])


def test_within_an_epoch_the_order_dropout_and_the_figures_go_on(
    undisturbed: dict[str, tuple[list[bytes], fit.History]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "MINUTE", 0)
    file = tmp_path / "a.npz"
    for epoch, step in ((0, 16), (1, 16), (1, 24)):
        with pytest.raises(KeyboardInterrupt):
            train(CASES["phase 2"], file, lambda *_: None, short.Break(epoch, step))
        kept = checkpoint.read(file)  # the break came before the checkpoint of its own step
        assert (kept.epoch, kept.step) == (epoch, step - 8)
    weights, history = undisturbed["phase 2"]
    again, came = train(CASES["phase 2"], file)
    assert again == weights and came.rows == history.rows and came.verdict == history.verdict


@pytest.mark.parametrize("free", [10**9, 0], ids=["on the card", "sent to the card"])
def test_what_a_card_is_fed_goes_on_within_an_epoch_too(
    free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "on_gpu", lambda: True)
    monkeypatch.setattr(feed, "free_memory", lambda: free)
    settings = replace(CASES["phase 2"], epochs=3)
    weights, history = train(settings, None)
    monkeypatch.setattr(resume, "MINUTE", 0)
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "a.npz", lambda *_: None, short.Break(1, 16))
    again, came = train(settings, tmp_path / "a.npz")
    assert again == weights and came.rows == history.rows


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "pickle"])
def test_what_is_damaged_is_left_aside_with_a_line(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.npz"
    checkpoint.write(file, checkpoint.State(3, arrays={"model": [POINTS]}))
    assert checkpoint.read(file).epoch == 3 and np.array_equal(checkpoint.read(file).arrays["model"][0], POINTS)
    whole = file.read_bytes()
    if damage == "pickle":
        with file.open("wb") as opened:
            np.savez(opened, plain=np.array([{"epoch": 1}], dtype=object))
    else:
        at = whole.index(b"model/0") + 200
        flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        file.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "flipped": flipped}[damage])
    capsys.readouterr()
    assert checkpoint.read(file) == checkpoint.State()
    (line,) = capsys.readouterr().err.splitlines()
    assert "a.npz is damaged" in line and "from the beginning" in line


def test_a_full_disk_costs_the_checkpoint_and_not_the_training(
    undisturbed: dict[str, tuple[list[bytes], fit.History]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    weights, _ = train(CASES["early stopping"], tmp_path / "a.npz")
    assert weights == undisturbed["early stopping"][0] and list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err.count("No space left on device") == 1


def test_checkpoints_take_a_hundredth_of_the_time_and_are_written_that_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, written = [0.0], list[float]()

    def slow(_file: Path, _state: checkpoint.State) -> None:
        now[0] += 0.05
        written.append(now[0])

    monkeypatch.setattr(checkpoint, "write", slow)
    monkeypatch.setattr(resume, "SHARE", 0.01)
    model = network()
    model.compile("adam", "mse")
    keep = resume.Checkpoints(tmp_path / "a.npz", checkpoint.State(), [], [], [], 1, lambda: now[0])
    keep.set_model(model)
    keep.on_train_begin()
    for epoch in range(1000):
        now[0] += 0.1
        keep.on_epoch_end(epoch)
    assert 0.005 < 0.05 * len(written) / now[0] <= 0.011
    # The first once it would take a hundredth, were it as dear as is guessed; then each as the last one was.
    assert 2 <= written[0] < 2.5 and np.diff(written).max() < 5.5


@pytest.mark.usefixtures("project", "tiny_images")
def test_the_place_is_of_the_inputs_and_others_go() -> None:
    paths.PREPARED.mkdir(parents=True)
    paths.MANIFEST.write_text("1")
    first = checkpoint.place("phase1_head")
    assert checkpoint.place("phase1_head") == first and checkpoint.place("phase1_head", "cached") != first
    checkpoint.write(first, checkpoint.State())
    other = first.with_name("phase2_finetune-0.npz")
    for left in (other, first.with_name(f"{first.name}.99.part")):
        left.touch()
    assert checkpoint.place("phase1_head") == first and first.exists()
    assert {path.name for path in first.parent.iterdir()} == {first.name, other.name}

    code = Path("thaw/training/schedule.py")
    code.write_text(code.read_text() + "\n# a remark\n")
    assert checkpoint.place("phase1_head") == first
    code.write_text(code.read_text() + "\nMORE = 1\n")
    second = checkpoint.place("phase1_head")
    assert second != first and not first.exists()
    paths.MANIFEST.write_text("2")
    third = checkpoint.place("phase1_head")
    values = yaml.safe_load(paths.PARAMS.read_text())
    values["phase1"]["learning_rate"] *= 2
    paths.PARAMS.write_text(yaml.safe_dump(values))
    fourth = checkpoint.place("phase1_head")
    values["phase2"]["learning_rate"] *= 2  # which phase 1 does not depend on
    paths.PARAMS.write_text(yaml.safe_dump(values))
    assert checkpoint.place("phase1_head") == fourth and len({second, third, fourth}) == 3


def test_the_checkpoints_of_an_isolated_experiment_outlive_its_copy(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path_factory.mktemp("copy") / "project"
    shutil.copytree(project, copy)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(project))
    file = checkpoint.place("phase1_head")
    assert file.parent == project / paths.CHECKPOINTS / "experiments"
    checkpoint.write(file, checkpoint.State())
    checkpoint.place("phase1_head", "of another trial")  # may run beside it
    assert file.exists()
    week = time.time() - 8 * 86400
    os.utime(file, (week, week))
    checkpoint.place("phase1_head", "of another trial")
    assert not file.exists()
