from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from thaw.config import load, phases

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=["phase1", "phase2"])
def sound(request: pytest.FixtureRequest) -> phases.Phase1 | phases.Phase2:
    """A phase as the repository is committed with."""
    settings = load.check(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))
    phase: phases.Phase1 | phases.Phase2 = getattr(settings, request.param)
    return phase


def test_classes_are_balanced_by_weights_or_by_draws(sound: phases.Phase1 | phases.Phase2) -> None:
    assert replace(sound, class_weight="balanced").class_weight == "balanced"
    assert replace(sound, sampler="balanced").sampler == "balanced"


def test_balancing_twice_is_refused(sound: phases.Phase1 | phases.Phase2) -> None:
    name = type(sound).__name__.lower()
    with pytest.raises(ValueError, match=rf"{name}\.sampler: expected shuffle where {name}\.class_weight is balanced"):
        replace(sound, class_weight="balanced", sampler="balanced")
