"""What ``python -m benchmarks.claims`` makes of images and of finished trials."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks import claim_trials, claims, project
from thaw import paths, records
from thaw.config import load
from thaw.training import improvement

ROWS = [
    {"path": f"{label}/{number}.png", "label": label, "split": split}
    for label, count in (("a", 20), ("b", 3))
    for split, some in (("train", count), ("val", 2), ("test", 2))
    for number in range(some)
]


def trial(right: str, history: tuple[float, ...] = (), worse: bool = False) -> claim_trials.Trial:
    answers = np.array([letter == "1" for letter in right])
    rows = {"phase1": [{"val_accuracy": "0.4"}], "phase2": [{"val_accuracy": str(value)} for value in history]}
    seconds = {"phase1": 10.0, "phase2": 40.0}
    return claim_trials.Trial({"phase1": answers, "phase2": answers}, np.arange(len(right)), seconds, rows, worse)


def test_a_share_thins_training_alone_and_keeps_each_class() -> None:
    def of(rows: Sequence[Mapping[str, str]], split: str) -> set[str]:
        return {row["path"] for row in rows if row["split"] == split}

    some, more = claim_trials.thinned(ROWS, 0.1), claim_trials.thinned(ROWS, 0.5)
    assert len(of(some, "train")) == 2 + 1 and len(of(more, "train")) == 10 + 2
    assert of(some, "train") < of(more, "train") < of(claim_trials.thinned(ROWS, 1), "train")
    for split in ("val", "test"):
        assert of(some, split) == of(list(ROWS), split)


def test_the_time_to_an_accuracy_counts_the_epochs_until_it_and_all_of_phase_1() -> None:
    found, both = trial("1", (0.5, 0.7, 0.6, 0.8)), ("phase1", "phase2")
    assert claims.reached(found, 0.3, both) == 10
    assert claims.reached(found, 0.65, both) == 10 + 20
    assert claims.reached(found, 0.65, ("phase2",)) == 20
    assert claims.reached(found, 0.9, both) == float("inf")
    two, scratch = claims.against_scratch([trial("11", (0.9, 0.95))], [trial("10", (0.2, 0.6))])
    assert two["seconds to scratch's best"] == 10 + 20 and scratch["seconds to scratch's best"] == 40
    assert two["seconds to its best"] == 10 + 40
    assert (two["accuracy"], scratch["accuracy"]) == (1, 0.5)


def test_seeds_are_pooled_as_answers_to_the_same_images_not_as_more_images() -> None:
    one, two = trial("1" * 30 + "0" * 10), trial("1" * 30 + "0" * 10, worse=True)
    found = claim_trials.pooled([one, two])
    assert found.right["phase2"].shape == (80,) and not found.worse
    alone, both = claims.figures("x", [one]), claims.figures("x", [one, two])
    assert both["accuracy"] == alone["accuracy"]
    assert both["high"] - both["low"] > 0.95 * (alone["high"] - alone["low"])


def test_each_training_is_done_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    paths.PHASE2.mkdir(parents=True)
    asked: list[tuple[str, ...]] = []

    def run_one(rows: object, overrides: Sequence[str], *_: object, **__: object) -> claim_trials.Trial:
        asked.append(tuple(overrides))
        return trial("11")

    monkeypatch.setattr(claim_trials, "run", run_one)
    run = claims.Experiment(ROWS, ["image=px64"], 2, None)
    run.trials()
    run.trials()
    run.trials(claims.ONE_RATE)
    assert len(asked) == 4 and len(set(asked)) == 4
    assert asked[0] == ("image=px64", "phase1.seed=0", "phase2.seed=0", "augment.seed=0")
    assert asked[3][-2:] == claims.ONE_RATE and claims.STANDARD.is_dir()


def test_phase_1_is_trained_once_for_all_that_follow_on_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = load.check(yaml.safe_load(load.compose(["data=folder"], ())))
    monkeypatch.chdir(tmp_path)
    asked: list[str] = []

    def run_one(stage: str) -> None:
        asked.append(stage)
        for folder in claim_trials.OF_PHASE1:
            records.write_text(folder / "made", str(len(asked)))

    monkeypatch.setattr(project, "run", run_one)
    taken = claim_trials._head(ROWS, settings, cold=False)
    records.write_text(paths.PHASE2 / "model", "of a trial")
    other_phase2 = replace(settings, phase2=replace(settings.phase2, learning_rate=1e-5))
    assert claim_trials._head(ROWS, other_phase2, cold=False) == taken
    assert asked == ["environment", "prepare", "phase1_head"]
    assert (paths.METRICS / "made").read_text() == "3" and not paths.PHASE2.exists()

    claim_trials._head(ROWS, replace(settings, phase1=replace(settings.phase1, seed=1)), cold=False)
    claim_trials._head(ROWS[1:], settings, cold=False)
    claim_trials._head(ROWS, settings, cold=True)
    assert len(asked) == 4 * 3


def test_what_is_forgotten_of_imagenet_is_told_by_its_own_classifier() -> None:
    head = claim_trials.imagenet_head("efficientnet_lite0")
    assert head and [each.shape for each in head] == [(1000, 1280), (1000,)]
    assert claim_trials.imagenet_head("mobilenet_v2") is None
    kernel, bias = np.eye(3), np.zeros(3)
    before = np.array([[4.0, 0, 0], [0, 4, 0], [0, 0, 4], [4, 0, 0]])
    assert claim_trials.forgotten(before, before, kernel, bias) == {"same answer": 1, "KL": 0}
    after = before[:, [1, 0, 2]]  # of two classes each now says the other
    sure, less = np.exp(4) / (np.exp(4) + 2), 1 / (np.exp(4) + 2)
    found = claim_trials.forgotten(before, after, kernel, bias)
    assert found["same answer"] == 0.25 and found["KL"] == pytest.approx(0.75 * 4 * (sure - less))


def test_the_rule_that_keeps_the_start_is_off_and_what_it_would_have_said_is_kept() -> None:
    losses = np.ones(9), np.linspace(2, 3, 9)
    assert improvement.compare(*losses, range(9)).is_worse
    with claim_trials._start_not_kept() as said:
        assert not improvement.compare(*losses, range(9)).is_worse
    assert said == [True] and improvement.compare(*losses, range(9)).is_worse


def test_a_pitfall_costs_points_on_the_same_images() -> None:
    row = claims.cost("x", "guard", trial("1" * 40), trial("1" * 30 + "0" * 10))
    assert row["points"] == -25 and row["low"] < -25 < row["high"] < 0


@pytest.mark.parametrize("switched", [claims.SCRATCH, *(switched for switched, _ in claims.PITFALLS.values())])
def test_what_a_variant_sets_is_a_configuration(switched: tuple[str, ...]) -> None:
    assert load.compose(switched, ())
