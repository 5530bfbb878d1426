"""The trials of a sweep, composed by Hydra as overrides and sweeper say, and checked before any of them runs."""

import itertools
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, cast

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from thaw.config import errors, load, tracked
from thaw.sweep import experiments, trial
from thaw.sweep.plan import Plan, SweepPlan, Trial


def make(composed: DictConfig) -> Plan:
    """Return the plan of a sweep: all its trials composed, none run.

    Args:
        composed: Hydra's configuration of the whole sweep.

    Raises:
        ValueError: a trial's configuration is wrong, a grid is asked for a range, or no result hangs on what is
            swept; one line.
    """
    sweeper = composed.hydra.sweeper
    given = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    preset, said = parser.parse_overrides(given), parser.parse_overrides([*composed.hydra.overrides.task])
    # As in Hydra, the command line goes before conf/.
    parsed = {item.get_key_element(): item for item in [*preset, *said]}
    swept = {key: choices(item) for key, item in parsed.items() if item.is_sweep_override()}
    grid = str(sweeper.get("_target_")).endswith("BasicSweeper")
    states: dict[str, str] = {}
    every = itertools.product(*(swept.get(key) or [str(item.input_line)] for key, item in parsed.items()))
    trials = [_compose(list(overrides), swept, states) for overrides in every]
    ranges = [key for key in swept if not parsed[key].is_discrete_sweep()]
    if grid and ranges:
        key = ranges[0]
        raise ValueError(
            f"{key}: expected choices, since all combinations are run, received the range {parsed[key].input_line}; "
            "write its values, or let a sampler choose: hydra/sweeper=random or hydra/sweeper=tpe"
        )
    _check_results(trials)
    count = len(trials) if grid else int(sweeper.get("n_trials") or 0)
    # The same trials have the same folder, in whichever order they are given. More of a sampler's trials go on there.
    told: Any = OmegaConf.to_container(sweeper, resolve=False)
    sampler = {} if grid else {key: value for key, value in told.items() if key not in ("params", "n_trials")}
    what = {"trials": sorted(each.name.rsplit("-", 1)[1] for each in trials), "sampler": sampler}
    readable = "-".join(re.sub(r"\W", "", key.rsplit(".", 1)[-1]) for key in swept) or "single"
    name = f"{readable[: trial.NAME_LENGTH]}-{trial.digest(what, '')}"
    folder = Path(composed.hydra.sweep.dir) / name
    before = SweepPlan.read(folder)
    commit = before.commit if before else experiments.head()
    unasked = [item for item in preset if parsed[item.get_key_element()] is item and item.is_sweep_override()]
    added = _added(unasked, str(composed.hydra.runtime.choices["hydra/sweeper"]))
    return Plan(swept, ranges, trials, count, grid, states, folder, commit, added)


def _check_results(trials: Sequence[Trial]) -> None:
    """Refuse trials that differ only in what DVC tracks for no stage: all would have the first one's result."""
    first: dict[str, dict[str, Any]] = {}
    for each in trials:
        known = first.setdefault(each.name.rsplit("-", 1)[1], each.values)
        for group in tracked.UNTRACKED.keys() & each.values.keys():
            for name, value in each.values[group].items():
                if value != known[group][name]:
                    raise ValueError(
                        f"{group}.{name}: expected one value, since DVC tracks it for no stage and would give each "
                        f"trial the result of the first, received {known[group][name]!r} and {value!r} in trials "
                        "that are the same else; to compare activations that are cached and fresh ones, sweep "
                        "phase2.activations=cached,streaming"
                    )


def _added(unasked: Sequence[Override], sweeper: str) -> str:
    """Return what the sweeper's preset sweeps though the command line does not say it, and what stops that."""
    instead = " ".join(f"{item.get_key_element()}=VALUE" for item in unasked)
    what = " ".join(str(item.input_line) for item in unasked)
    return f"hydra/sweeper={sweeper} adds {what}; {instead} on the command line stops that" if unasked else ""


def _compose(overrides: list[str], swept: Collection[str], states: dict[str, str]) -> Trial:
    shown = distinct(overrides, swept)
    try:
        composed = hydra.compose("config", overrides=overrides)
        load.resolve(composed)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ValueError(f"{errors.explain(error)} (trial {' '.join(shown)})") from None
    values = cast("dict[str, Any]", OmegaConf.to_container(composed))
    settings = load.check(values)
    if (key := trial.inputs(settings)) not in states:
        states[key] = trial.newest(settings)
    state = states[key]
    return Trial(overrides, values, settings, trial.trial_name(shown, values, state), trial.upstream(values, state))


def choices(override: Override) -> list[str]:
    """Return the overrides that a swept one stands for; of a range its two ends."""
    key = override.get_key_element()
    if override.is_discrete_sweep():
        return [f"{key}={value}" for value in override.sweep_string_iterator()]
    interval: Any = override.value()
    return [f"{key}={interval.start}", f"{key}={interval.end}"]


def distinct(overrides: Sequence[str], swept: Collection[str]) -> list[str]:
    """Return what tells a trial from the others of its sweep; all of it if nothing is swept."""
    return [override for override in overrides if override.split("=", 1)[0] in swept] or list(overrides)
