"""Each option of a phase reaches what trains, and what a phase has no option for is off."""

from dataclasses import MISSING, asdict, fields, replace
from pathlib import Path

import pytest
import yaml

from thaw.config import load, phases
from thaw.runtime import devices
from thaw.training import fit_settings
from thaw.training.fit_settings import FitSettings

ROOT = Path(__file__).resolve().parents[2]
PROJECT = load.check(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))
NAMES = {field.name for field in fields(FitSettings)}
IMAGES = 4096
OFF = {field.name: field.default for field in fields(FitSettings) if field.default is not MISSING}
# Options that no training reads.
ELSEWHERE = {"canary", "unfreeze", "batch_norm", "allow_high_rate", "activations", "stored_as"}


def taken(phase: phases.Phase1 | phases.Phase2) -> FitSettings:
    return fit_settings.phase1(phase) if isinstance(phase, phases.Phase1) else fit_settings.phase2(phase, IMAGES)


@pytest.mark.parametrize("phase", [PROJECT.phase1, replace(PROJECT.phase2, schedule="constant", epochs=30)])
def test_every_option_of_a_phase_becomes_one_of_training(phase: phases.Phase1 | phases.Phase2) -> None:
    own = {field.name for field in fields(phase)}
    assert own - NAMES <= ELSEWHERE
    plain = taken(phase)
    for name in own & NAMES:
        before = getattr(phase, name)
        changed = "cosine" if name == "schedule" else "changed" if isinstance(before, str) else before + 1
        altered = replace(phase)
        setattr(altered, name, changed)  # past the check of its range
        assert getattr(plain, name) == before
        # It alone: no other option moves with it.
        expected = {**asdict(plain), name: changed}
        assert asdict(taken(altered)) == expected


@pytest.mark.parametrize("phase", [PROJECT.phase1, PROJECT.phase2])
def test_what_a_phase_has_no_option_for_is_off(phase: phases.Phase1 | phases.Phase2) -> None:
    own, settings = {field.name for field in fields(phase)}, taken(phase)
    assert {name: getattr(settings, name) for name in OFF.keys() - own} == {
        name: off for name, off in OFF.items() if name not in own
    }
    assert settings.phase == type(phase).__name__.lower()


def test_a_schedule_that_ends_by_itself_is_not_stopped_early() -> None:
    phase = replace(PROJECT.phase2, schedule=phases.WSD, epochs=30, patience=2)
    assert fit_settings.phase2(phase, IMAGES).patience == 30
    assert fit_settings.phase2(replace(phase, schedule="cosine"), IMAGES).patience == 2


def test_all_devices_become_their_number() -> None:
    several = fit_settings.phase2(PROJECT.phase2, IMAGES, replace(PROJECT.compute, devices="all"))
    assert several.devices == len(devices.several("all")) >= 1
    assert fit_settings.phase2(PROJECT.phase2, IMAGES, replace(PROJECT.compute, devices=1)).devices == 1
