"""What ``python -m benchmarks.accuracy`` makes of finished trials, and the probes of the first epoch."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks import accuracy, subset
from thaw.config import load
from thaw.runtime.framework import keras
from thaw.training import averaging, fit_settings, mixing, schedule, validation

POINTS = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
LABELS = np.arange(40) % 2


def row(recipe: str, seed: int, right: str) -> accuracy.Row:
    return accuracy.Row(recipe, seed, ["a=1"], right, 3.0)


def test_a_finished_trial_is_found_again_and_another_is_not(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    accuracy.Results(path).add(row("default", 0, "10"))
    again = accuracy.Results(path)
    assert again.rows == [row("default", 0, "10")]
    assert again.has("default", 0, ["a=1"])
    assert not again.has("default", 1, ["a=1"]) and not again.has("default", 0, ["a=2"])


def test_the_table_compares_the_same_images_with_the_default() -> None:
    rows = [row("default", 0, "1100"), row("default", 1, "1110"), row("article", 0, "1000"), row("article", 1, "1100")]
    article = {line["recipe"]: line for line in accuracy.table(rows)}["article"]
    # Shares of the two: 1, 0.5, 0, 0 against 1, 1, 0.5, 0.
    assert article["points from the default"] == f"-25.0 ± {100 * 1.96 * np.std([0, -0.5, -0.5, 0], ddof=1) / 2:.1f}"
    assert article["by seed"] == "25.0%, 50.0%"
    lines = accuracy.markdown(accuracy.table(rows)).splitlines()
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1


@pytest.mark.parametrize(("steps", "epochs"), [(1, 20), (9, 15), (43, 3), (5000, 3)])
def test_the_former_default_had_three_epochs_or_128_steps(steps: int, epochs: int) -> None:
    former = accuracy.recipes(steps)["former default"]
    assert f"phase2.epochs={epochs}" in former


@pytest.mark.parametrize("steps", [1, 7, 10, 64, 500])
@pytest.mark.parametrize("epochs", [10, 30])
def test_a_cosine_warms_up_over_a_tenth_of_its_epochs_however_short_they_are(steps: int, epochs: int) -> None:
    composed = yaml.safe_load(load.compose(accuracy.cosine("all", epochs, steps), []))
    phase = load.check(composed).phase2
    settings = fit_settings.phase2(phase, images=steps * phase.batch_size)
    assert schedule.warmup_steps(settings, steps) == pytest.approx(epochs * steps / 10, abs=0.6)


def test_the_tenths_are_of_what_would_be_kept_and_change_nothing() -> None:
    def trained(*callbacks: keras.callbacks.Callback) -> keras.Model:
        keras.utils.set_random_seed(0)
        inputs = keras.Input((3,))
        model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
        optimizer = keras.optimizers.Adam(0.05, **averaging.options(1, steps=20))
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
        last = [*callbacks, averaging.Averaging()]
        model.fit(batches(2), validation_data=batches(40), epochs=2, verbose=0, shuffle=False, callbacks=last)
        return model

    def batches(size: int) -> mixing.Mixed:
        return mixing.Mixed(lambda indices, _: POINTS[indices], LABELS, size, classes=2, alpha=0)

    probe = accuracy.Tenths(batches(40), steps=20)
    probed, plain = trained(probe), trained()
    for one, two in zip(probed.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert len(probe.losses) == accuracy.TENTHS and len(set(probe.losses)) == accuracy.TENTHS
    assert np.isfinite(validation.answers(validation.forward(plain), batches(40)).loss).all()


def listed(table: Path) -> list[tuple[str, str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return [(line["path"], line["label"], line["split"]) for line in csv.DictReader(file)]


def test_fewer_images_are_drawn_from_each_class_alike(tmp_path: Path) -> None:
    for label, count in (("a", 60), ("b", 20)):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(count):
            (tmp_path / "images" / label / f"{number}.png").touch()
    overrides = subset.fewer(tmp_path / "images", 16, tmp_path / "fewer.csv")
    rows = listed(tmp_path / "fewer.csv")
    expected = {("a", ""): 12, ("b", ""): 4, ("a", "val"): 3, ("b", "val"): 1, ("a", "test"): 45, ("b", "test"): 15}
    assert Counter((label, split) for _, label, split in rows) == expected
    assert len({path for path, *_ in rows}) == 80 and all(Path(path).is_file() for path, *_ in rows)
    assert overrides == [f"data.raw={tmp_path / 'fewer.csv'}"]
    subset.fewer(tmp_path / "images", 1000, tmp_path / "fewer.csv")
    assert sum(split == "" for *_, split in listed(tmp_path / "fewer.csv")) == 40


def test_fewer_images_leave_a_ready_made_test_as_it_is(tmp_path: Path) -> None:
    for split, count in (("train", 40), ("val", 20), ("test", 10)):
        for label in "ab":
            (tmp_path / "images" / split / label).mkdir(parents=True)
            for number in range(count):
                (tmp_path / "images" / split / label / f"{number}.png").touch()
    subset.fewer(tmp_path / "images", 40, tmp_path / "fewer.csv")
    assert Counter(split for *_, split in listed(tmp_path / "fewer.csv")) == {"train": 40, "val": 10, "test": 20}
