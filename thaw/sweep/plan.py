"""Plan a sweep: what will run, what is there already, what its trials have in common, and how long it will take.

It all comes from the composed configurations, from git and from what earlier runs left in ``.thaw``; nothing is run.
"""

import itertools
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from thaw import console, paths, records, timings
from thaw.config import errors, phases
from thaw.data import folders
from thaw.sweep import trial

DEPTH = "phase2.unfreeze"
FILE = "plan.json"  # in the sweep's folder


@dataclass
class Trial:
    """One combination of the swept values, composed and checked."""

    overrides: list[str]
    values: dict[str, Any]  # the whole configuration
    name: str
    upstream: str  # the same in trials that share all before phase 2


@dataclass
class Plan:
    """A sweep before it runs."""

    swept: dict[str, list[str]]  # the swept overrides by key, each choice; of a range its two ends
    ranges: list[str]  # the keys that are swept over a range
    trials: list[Trial]  # of a grid all of them; where a sampler decides, its corners
    count: int  # of trials, 0: the sampler decides when it is enough
    grid: bool
    states: dict[str, str]  # what ``trial.fingerprint`` finds, by ``trial.inputs``
    folder: Path
    commit: str  # whose experiments are its trials
    added: str = ""  # what is swept because conf/ says so, and not the command line; for people

    def depths(self) -> list[str]:
        """Return the values of ``phase2.unfreeze`` that are known to come."""
        found = {str(each.values["phase2"]["unfreeze"]) for each in self.trials}
        return sorted(found, key=lambda depth: (not depth.isdecimal(), depth.zfill(4)))


def make(composed: DictConfig) -> Plan:
    """Compose all trials.

    Args:
        composed: Hydra's configuration of the whole sweep.

    Raises:
        ValueError: a trial's configuration is wrong, or a grid is asked for a range; one line.
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
    count = len(trials) if grid else int(sweeper.get("n_trials") or 0)
    # The same trials have the same folder, in whichever order they are given. More of a sampler's trials go on there.
    told: Any = OmegaConf.to_container(sweeper, resolve=False)
    sampler = {} if grid else {key: value for key, value in told.items() if key not in ("params", "n_trials")}
    what = {"trials": sorted(each.name.rsplit("-", 1)[1] for each in trials), "sampler": sampler}
    readable = "-".join(re.sub(r"\W", "", key.rsplit(".", 1)[-1]) for key in swept) or "single"
    name = f"{readable[: trial.NAME_LENGTH]}-{trial.digest(what, '')}"
    folder = Path(composed.hydra.sweep.dir) / name
    before = records.read_json(folder / FILE) if (folder / FILE).is_file() else {}
    commit = before.get("commit", "") or trial.head()
    unasked = [item for item in preset if parsed[item.get_key_element()] is item and item.is_sweep_override()]
    added = _added(unasked, str(composed.hydra.runtime.choices["hydra/sweeper"]))
    return Plan(swept, ranges, trials, count, grid, states, folder, commit, added)


def _added(unasked: Sequence[Override], sweeper: str) -> str:
    """Return what the sweeper's preset sweeps though the command line does not say it, and what stops that."""
    instead = " ".join(f"{item.get_key_element()}=VALUE" for item in unasked)
    what = " ".join(str(item.input_line) for item in unasked)
    return f"hydra/sweeper={sweeper} adds {what}; {instead} on the command line stops that" if unasked else ""


def _compose(overrides: list[str], swept: Collection[str], states: dict[str, str]) -> Trial:
    shown = distinct(overrides, swept)
    try:
        composed = hydra.compose("config", overrides=overrides)
        OmegaConf.resolve(composed)  # which runs the schema's checks
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ValueError(f"{errors.explain(error)} (trial {' '.join(shown)})") from None
    values: Any = OmegaConf.to_container(composed)
    if (key := trial.inputs(values)) not in states:
        states[key] = trial.fingerprint(values)
    state = states[key]
    return Trial(overrides, values, trial.trial_name(shown, values, state), trial.upstream(values, state))


def choices(override: Override) -> list[str]:
    """Return the overrides that a swept one stands for; of a range its two ends."""
    key = override.get_key_element()
    if override.is_discrete_sweep():
        return [f"{key}={value}" for value in override.sweep_string_iterator()]
    interval: Any = override.value()
    return [f"{key}={interval.start}", f"{key}={interval.end}"]


def distinct(overrides: Sequence[str], swept: Collection[str]) -> list[str]:
    """Return the overrides that tell a trial from the others of its sweep; all of them if nothing is swept."""
    return [override for override in overrides if override.split("=", 1)[0] in swept] or list(overrides)


def check_images(plan: Plan) -> None:
    """Refuse images that ``prepare`` would refuse, or that would not get into a trial's copy of the project.

    Raises:
        ValueError: they are not there, not laid out as expected, or known to neither DVC nor git; one line.
    """
    for raw, nested in sorted({(each.values["data"]["raw"], each.values["data"]["nested"]) for each in plan.trials}):
        if Path(raw) == paths.SAMPLE:
            continue  # which a stage makes
        if not folders.find(raw, nested).entries:
            raise ValueError(f"data.raw: expected images in the class folders, found none in {raw}; put them there")
        trial.check_images_travel(Path(raw))


def missing(plan: Plan, *, retry: bool) -> list[Trial]:
    """Return the trials that neither are finished nor have failed before.

    Args:
        retry: those that have failed count as missing too.
    """
    return [
        each
        for each in plan.trials
        if trial.finished(each.name, plan.commit) is None and (retry or not failure(plan.folder, each))
    ]


def failure(folder: Path, each: Trial) -> str:
    """Return why the trial failed when the sweep ran before; empty if it did not."""
    path = folder / f"{each.name}.json"
    return str(records.read_json(path)["failure"]) if path.is_file() else ""


def shared(plan: Plan, wanted: Sequence[Trial]) -> list[Trial]:
    """Return one trial for each upstream that several wanted ones have in common and no earlier sweep has left."""
    groups = {group for stage in trial.SHARED for group in trial.stages()[stage]["params"]}
    if groups & {key.split(".")[0].strip("+~") for key in plan.ranges}:
        return []  # each trial will have its own
    found: dict[str, list[Trial]] = {}
    for each in wanted:
        found.setdefault(each.upstream, []).append(each)
    return [of[0] for key, of in found.items() if (len(of) > 1 or not plan.grid) and not trial.left(key)]


def alone(plan: Plan, wanted: Sequence[Trial], first: Sequence[Trial]) -> list[Trial]:
    """Return the wanted trials that compute what comes before phase 2 themselves: no other has it in common."""
    known = {each.upstream for each in first}
    return [each for each in wanted if each.upstream not in known and not trial.left(each.upstream)]


def describe(plan: Plan, wanted: Sequence[Trial], first: Sequence[Trial]) -> list[str]:
    """Return the plan in lines for people.

    Args:
        wanted: what ``missing`` gives.
        first: what ``shared`` gives.
    """
    parts = " × ".join(f"{key} ({'range' if key in plan.ranges else len(of)})" for key, of in plan.swept.items())
    raw = plan.trials[0].values["data"]["raw"]
    lines = [f"sweep on {raw}: {plan.count or ''} trials, {parts or 'nothing swept'} → {plan.folder}"]
    if plan.added:
        lines.append(f"  {plan.added}")
    if plan.grid:
        failed = sum(1 for each in plan.trials if each not in wanted and failure(plan.folder, each))
        before = f"{plan.count - len(wanted) - failed} finished before"
        again = f", {failed} failed before (--retry-failed runs them again)" if failed else ""
        lines.append(f"  trials: {before}{again}, {len(wanted)} to run")
    views = plan.trials[0].values["augment"]["views"]
    depths = f"activations at depth {', '.join(plan.depths())}, {views} views"
    if first:
        times = f"{len(first)} times, one for each" if len(first) > 1 else "once for all"
        lines.append(f"  before them, {times}: prepare, phase 1, {depths}, in one pass")
    elif wanted and any(trial.left(each.upstream) for each in wanted):
        lines.append(f"  kept from before: phase 1; of the {depths}, what is not in the cache is computed in one pass")
    if own := alone(plan, wanted, first):
        which = "each trial" if len(own) == len(wanted) else f"{len(own)} of the trials"
        lines.append(f"  in {which}, shared with no other: prepare, phase 1, activations at its depth")
    if wanted:
        again = "prepare again (from its cache of validated images) unless the workspace has run it, "
        lines.append(f"  in each of them: {again}then phase 2; what has run before comes out of DVC's cache")
        lines.append(f"  time: {_time(plan, wanted, first)}")
    return lines


def _time(plan: Plan, wanted: Sequence[Trial], first: Sequence[Trial]) -> str:
    """Estimate how long it will take, from what was measured here before."""
    around = timings.seconds_around("upstream")
    before, trials = [_upstream_seconds(each, around) for each in first], [_trial_seconds(each) for each in wanted]
    trials += [_upstream_seconds(each, 0.0) for each in alone(plan, wanted, first)]  # the trial's own start is counted
    if None in before or None in trials:
        return "unknown yet, nothing like it was measured here"
    scale = plan.count / len(plan.trials) if plan.count else 1
    early = sum(filter(None, before))
    total = early + scale * sum(filter(None, trials))
    text = f"at most about {console.duration(total)}, one trial after the other"
    return f"{text}; {console.duration(early)} of it before the trials" if first else text


def _images(each: Trial) -> tuple[float, float]:
    """Return the numbers of training and validation images: what ``prepare`` counted, or else what the shares will
    come to.
    """
    counted = trial.left(each.upstream)
    if counted:
        return counted["images"]["train"], counted["images"]["val"]
    data = each.values["data"]
    raw = Path(data["raw"])
    # The lines of a table; in Parquet they are hardly a guess.
    files = raw.read_bytes().count(b"\n") if raw.is_file() else sum(1 for path in raw.rglob("*") if path.is_file())
    return files * (1 - data["val"] - data["test"]), files * data["val"]


def _upstream_seconds(each: Trial, around: float | None) -> float | None:
    train, val = _images(each)
    about = {key: value for key, value in timings.about(each.values).items() if key != "unfreeze"}
    a_pass, a_step = timings.seconds_each("extraction", **about), timings.seconds_each("phase1", **about)
    if a_pass is None or a_step is None or around is None or not train:
        return None
    views, epochs = each.values["augment"]["views"], each.values["phase1"]["epochs"]
    return float(a_pass * (train * views + val) + a_step * train * epochs + around)


def _trial_seconds(each: Trial) -> float | None:
    a_step, around = timings.seconds_each("phase2", **timings.about(each.values)), timings.seconds_around("trial")
    if str(each.values["phase2"]["unfreeze"]) == "none":
        return around
    phase, images = each.values["phase2"], _images(each)[0]
    if a_step is None or around is None or not images:  # those of the demonstration may not be there yet
        return None
    epochs = phases.epochs(phase["epochs"], math.ceil(images / phase["batch_size"]))
    return float(a_step * images * epochs + around)
