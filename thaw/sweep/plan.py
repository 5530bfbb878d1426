"""Plan a sweep: what will run, what is there already, what its trials have in common, and how long it will take.

``thaw.sweep.compose`` makes the plan. The rest comes from git and from what earlier runs left in ``.thaw``; nothing is
run.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from thaw import console, paths, records, timings
from thaw.config import schema
from thaw.config.unfreeze import Kind
from thaw.data import folders
from thaw.sweep import experiments, results, trial

DEPTH = "phase2.unfreeze"


@dataclass
class Trial:
    """One combination of the swept values, composed and checked."""

    overrides: list[str]
    values: dict[str, Any]  # the whole configuration, as params.yaml has it
    settings: schema.Project  # the same, checked
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
        found = {each.settings.phase2.unfreeze_spec for each in self.trials}
        ordered = sorted(found, key=lambda spec: (spec.kind is not Kind.LAYERS, spec.number, spec.text))
        return [spec.text for spec in ordered]


@dataclass
class SweepPlan:
    """The record that a sweep leaves in its folder for its jobs and its reports: ``plan.json``."""

    trials: int  # how many, 0: the sampler decides when it is enough
    swept: dict[str, list[str]]
    states: dict[str, str]
    commit: str
    depths: list[str]
    owner: str  # its process, as ``supervisor.myself`` names it
    tracking: schema.Tracking
    parent: str = ""  # its run in MLflow; empty: none
    upstreams: dict[str, str] = field(default_factory=dict)  # why what trials share has failed, by upstream

    @classmethod
    def read(cls, folder: Path) -> "SweepPlan | None":
        """Return the plan of a sweep by its folder; None where no sweep has begun.

        Raises:
            ValueError: the file is no such plan.
        """
        path = folder / results.PLAN
        if not path.is_file():
            return None
        record = records.read_json(path)
        try:
            kept = {each.name: record[each.name] for each in fields(cls) if each.name in record}
            return cls(**kept | {"tracking": schema.Tracking(**record["tracking"])})
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{path}: expected the plan of a sweep, received another file ({error}); delete it, and run the sweep "
                "again"
            ) from None

    @classmethod
    def of(cls, folder: Path) -> "SweepPlan":
        """Return the plan of a sweep that has begun.

        Raises:
            ValueError: none has in this folder.
        """
        found = cls.read(folder)
        if found is None:
            raise ValueError(f"expected a sweep's folder, as those in {paths.SWEEPS}, received {folder}")
        return found

    def write(self, folder: Path) -> None:
        """Write it into the sweep's folder."""
        records.write_json(folder / results.PLAN, asdict(self))


def check_images(plan: Plan) -> None:
    """Refuse images that ``prepare`` would refuse, or that would not get into a trial's copy of the project.

    Raises:
        ValueError: they are not there, not laid out as expected, or known to neither DVC nor git; one line.
    """
    for raw, nested in sorted({(each.settings.data.raw, each.settings.data.nested) for each in plan.trials}):
        if Path(raw) == paths.SAMPLE:
            continue  # which a stage makes
        if not folders.find(raw, nested).entries:
            raise ValueError(f"data.raw: expected images in the class folders, found none in {raw}; put them there")
        if not paths.is_remote(raw):
            experiments.check_images_travel(Path(raw))


def missing(plan: Plan, *, retry: bool) -> list[Trial]:
    """Return the trials that neither are finished nor have failed before.

    Args:
        retry: those that have failed count as missing too.
    """
    return [
        each
        for each in plan.trials
        if experiments.finished(each.name, plan.commit) is None and (retry or not failure(plan.folder, each))
    ]


def failure(folder: Path, each: Trial) -> str:
    """Return why the trial failed when the sweep ran before; empty if it did not."""
    known = results.of_trial(folder / f"{each.name}.json")
    return known.failure if known else ""


def shared(plan: Plan, wanted: Sequence[Trial]) -> list[Trial]:
    """Return one trial for each upstream that several of the wanted ones share and no earlier sweep has left."""
    keys = {key.strip("+~") for key in plan.ranges}
    if trial.before_phase2() & {*keys, *(key.partition(".")[0] for key in keys)}:
        return []  # each trial will have its own
    found: dict[str, list[Trial]] = {}
    for each in wanted:
        found.setdefault(each.upstream, []).append(each)
    return [of[0] for key, of in found.items() if (len(of) > 1 or not plan.grid) and not experiments.left(key)]


def alone(plan: Plan, wanted: Sequence[Trial], first: Sequence[Trial]) -> list[Trial]:
    """Return the wanted trials that compute what comes before phase 2 themselves: no other has it in common."""
    known = {each.upstream for each in first}
    return [each for each in wanted if each.upstream not in known and not experiments.left(each.upstream)]


def describe(plan: Plan, wanted: Sequence[Trial], first: Sequence[Trial]) -> list[str]:
    """Return the plan in lines for people.

    Args:
        wanted: what ``missing`` gives.
        first: what ``shared`` gives.
    """
    parts = " × ".join(f"{key} ({'range' if key in plan.ranges else len(of)})" for key, of in plan.swept.items())
    first_trial = plan.trials[0].settings
    lines = [f"sweep on {first_trial.data.raw}: {plan.count or ''} trials, {parts or 'nothing swept'} → {plan.folder}"]
    if plan.added:
        lines.append(f"  {plan.added}")
    if plan.grid:
        failed = sum(1 for each in plan.trials if each not in wanted and failure(plan.folder, each))
        before = f"{plan.count - len(wanted) - failed} finished before"
        again = f", {failed} failed before (--retry-failed runs them again)" if failed else ""
        lines.append(f"  trials: {before}{again}, {len(wanted)} to run")
    depths = f"activations at depth {', '.join(plan.depths())}, {first_trial.augment.views} views"
    if first:
        times = f"{len(first)} times, one for each" if len(first) > 1 else "once for all"
        lines.append(f"  before them, {times}: prepare, phase 1, {depths}, in one pass")
    elif wanted and any(experiments.left(each.upstream) for each in wanted):
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
    """Return the numbers of training and validation images: as ``prepare`` counted, or as the shares will come to."""
    counted = experiments.left(each.upstream)
    if counted:
        return counted["images"]["train"], counted["images"]["val"]
    data = each.settings.data
    raw = paths.local(data.raw)
    # The lines of a table; in Parquet they are hardly a guess.
    files = raw.read_bytes().count(b"\n") if raw.is_file() else sum(1 for path in raw.rglob("*") if path.is_file())
    return files * (1 - data.val - data.test), files * data.val


def _upstream_seconds(each: Trial, around: float | None) -> float | None:
    train, val = _images(each)
    about = {key: value for key, value in timings.about(each.values).items() if key != "unfreeze"}
    a_pass, a_step = timings.seconds_each("extraction", **about), timings.seconds_each("phase1", **about)
    if a_pass is None or a_step is None or around is None or not train:
        return None
    views, epochs = each.settings.augment.views, each.settings.phase1.epochs
    return float(a_pass * (train * views + val) + a_step * train * epochs + around)


def _trial_seconds(each: Trial) -> float | None:
    a_step, around = timings.seconds_each("phase2", **timings.about(each.values)), timings.seconds_around("trial")
    phase, images = each.settings.phase2, _images(each)[0]
    if phase.unfreeze_spec.kind is Kind.NONE:
        return around
    if a_step is None or around is None or not images:  # those of the demonstration may not be there yet
        return None
    most = 60 * phase.minutes if phase.minutes else math.inf
    return float(min(a_step * images * phase.most_epochs(int(images)), most) + around)
