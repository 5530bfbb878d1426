"""What ``python -m benchmarks.claims`` makes of images and of finished trials."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from benchmarks import claims
from thaw.config import load

ROWS = [
    {"path": f"{label}/{number}.png", "label": label, "split": split}
    for label, count in (("a", 20), ("b", 3))
    for split, some in (("train", count), ("val", 2), ("test", 2))
    for number in range(some)
]


def trial(right: str, history: tuple[float, ...] = ()) -> claims.Trial:
    answers = np.array([letter == "1" for letter in right])
    rows = [{"val_accuracy": str(value)} for value in history]
    return claims.Trial({"phase1": answers, "phase2": answers}, np.arange(len(right)), 50.0, rows, 40.0)


def test_a_share_thins_training_alone_and_keeps_each_class() -> None:
    def of(rows: Sequence[Mapping[str, str]], split: str) -> set[str]:
        return {row["path"] for row in rows if row["split"] == split}

    some, more = claims.thinned(ROWS, 0.1), claims.thinned(ROWS, 0.5)
    assert len(of(some, "train")) == 2 + 1 and len(of(more, "train")) == 10 + 2
    assert of(some, "train") < of(more, "train") < of(claims.thinned(ROWS, 1), "train")
    for split in ("val", "test"):
        assert of(some, split) == of(list(ROWS), split)


def test_the_time_to_an_accuracy_counts_the_epochs_until_it_and_all_of_phase_1() -> None:
    found = trial("1", (0.5, 0.7, 0.6, 0.8))
    assert claims.reached(found, 0.65) == 10 + 20
    assert claims.reached(found, 0.8) == 50
    assert claims.reached(found, 0.9) == float("inf")
    two, scratch = claims.against_scratch(trial("11", (0.9, 0.95)), trial("10", (0.2, 0.6)))
    assert two["seconds to scratch's best"] == 10 + 20 and scratch["seconds to scratch's best"] == 50
    assert (two["accuracy"], scratch["accuracy"]) == (1, 0.5)


def test_a_pitfall_costs_points_on_the_same_images() -> None:
    row = claims.cost("x", "guard", trial("1" * 40), np.array([True] * 30 + [False] * 10))
    assert row["points"] == -25 and row["low"] < -25 < row["high"] < 0


@pytest.mark.parametrize("switched", [claims.SCRATCH, *(switched for switched, _ in claims.PITFALLS.values())])
def test_what_a_variant_sets_is_a_configuration(switched: tuple[str, ...]) -> None:
    assert load.compose([*claims.CHEAP, *switched], ())
