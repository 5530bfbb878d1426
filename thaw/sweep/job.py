"""Run one job of a sweep: a trial found finished, or run, and its record in the sweep's folder.

Hydra calls it in whichever process its launcher has for it, perhaps on another machine.
"""

import json
import math
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from thaw import paths, timings
from thaw.config import load, schema, tracked
from thaw.sweep import compose, experiments, locks, resources, results, shared, supervisor, trial
from thaw.sweep.plan import SweepPlan
from thaw.sweep.results import TrialResult
from thaw.tracking import naming, pipeline

CHANGED = "code, images, splits, weights, packages or conf/ changed since the sweep began; give the command again"
console = Console(highlight=False, markup=False, soft_wrap=True)
stopped: list[bool] = []  # filled once a trial of this process was stopped


@dataclass
class Job:
    """A trial, and the sweep that it belongs to."""

    name: str
    shown: list[str]  # the overrides that tell it from others
    overrides: list[str]
    values: dict[str, Any]  # the whole configuration, as params.yaml has it
    settings: schema.Project  # the same, checked
    begun: SweepPlan
    state: str  # of all that determines it besides its values, as it was when the sweep began
    folder: Path  # the sweep's

    @property
    def path(self) -> Path:
        """Return the path of its record."""
        return self.folder / f"{self.name}.json"

    @property
    def log(self) -> Path:
        """Return the log: all that DVC and the stages said."""
        return self.folder / f"{self.name}.log"

    def known(self) -> TrialResult | None:
        """Return its record, if there is one."""
        return results.of_trial(self.path)


def run(composed: DictConfig) -> float:
    """Run one trial, or find it finished.

    Returns:
        The objective, for sweepers that learn from it; infinite if the trial failed.

    Raises:
        KeyboardInterrupt: the trial was stopped, or an earlier one in this process.
    """
    # A launcher takes it from its worker as a result like others, and gives it the next job.
    if stopped:
        raise KeyboardInterrupt
    load.register_check()  # a launcher's worker has not
    told = HydraConfig.get()
    os.chdir(told.runtime.cwd)
    folder, overrides = Path(told.sweep.dir), list(told.overrides.task)
    begun = SweepPlan.of(folder)
    values = cast("dict[str, Any]", OmegaConf.to_container(composed, resolve=True))
    settings, shown = load.check(values), compose.distinct(overrides, begun.swept)
    # What a sampler alone comes to was not looked at before.
    state = begun.states.get(trial.inputs(settings)) or trial.fingerprint(settings)
    name = trial.trial_name(shown, values, state)
    this = Job(name, shown, overrides, values, settings, begun, state, folder)
    try:
        record = _known(this)
        if record is None:
            with locks.hold(_digest(this), name, begun.owner):
                record = _known(this) or _attempt(this)
    except KeyboardInterrupt:
        if not supervisor.alive(begun.owner):
            os._exit(1)  # a worker that has outlived its sweep
        stopped.append(True)
        raise
    return record.figures.val_loss if record.figures else math.inf


def _known(this: Job) -> TrialResult | None:
    """Return the record of a trial that is finished, or has failed and is not to run again; None of any other."""
    known = this.known()
    found = experiments.finished(this.name, this.begun.commit)
    # One that DVC composed from another conf/ is left where its sweep was killed before it looked.
    if found and not _composed(this, found):
        experiments.forget(found.name, found.commit)
        found = None
    if found:
        record = _record(this, found, "", _seconds(this))
        console.print(f"finished before: {record.shown}\n  {_figures(record.measured)}")
        return record
    retry = HydraConfig.get().callbacks["trials"].retry_failed
    if known and known.failure and not retry:
        console.print(f"failed before: {known.shown}\n  {known.failure} (--retry-failed runs it again)")
        return known
    return None


def _attempt(this: Job) -> TrialResult:
    """Run the trial, and write its record."""
    number, trials = int(HydraConfig.get().job.num) + 1, this.begun.trials
    console.print(f"trial {number}{f' of {trials}' if trials else ''}: {' '.join(this.shown)} …")
    start, clock = time.monotonic(), time.time()
    failure = this.begun.upstreams.get(trial.upstream(this.values, this.state), "")
    failure = failure or _changed(this) or _trial(this)
    seconds: float | None = round(time.monotonic() - start, 1)
    # Looked for after a failure too: what is there, whoever has made it, is not lost for it.
    found = experiments.finished(this.name, this.begun.commit)
    if found and not failure and (_changed(this) or not _composed(this, found)):
        # Nobody knows what it has run, and it would be found under a name that says what it has not.
        experiments.forget(found.name, found.commit)
        found, failure = None, CHANGED
    if found is None and not failure:
        failure = f"DVC kept no {paths.metrics(experiments.TARGET)} of it"
    restored = found is not None and (failure != "" or not trial.ran(this.log))
    if restored:
        seconds = _seconds(this)  # what it took to train, not to restore
    elif found:
        inside = timings.inside(this.name, clock)
        timings.write("trial", this.values, seconds=seconds, inside=inside, trial=_digest(this))
    record = _record(this, found, "" if found else failure, seconds)
    if found:
        took = "restored" if restored else f"{seconds:.0f} s"
        console.print(f"  {_figures(found.figures)}, {took}")
    else:
        console.print(f"  failed: {failure} (all of it: {record.log})")
    return record


def _record(this: Job, found: experiments.Finished | None, failure: str, seconds: float | None) -> TrialResult:
    """Write the record of the trial, and return it."""
    record = TrialResult(
        name=found.name if found else this.name,
        overrides=this.overrides,
        shown=" ".join(this.shown),
        label=naming.label(this.shown),
        failure=failure,
        log=this.log.as_posix(),
        seconds=seconds,
        figures=found.figures if found else None,
        commit=found.commit if found else "",
    )
    results.keep(this.path, record)
    return record


def _seconds(this: Job) -> float | None:
    """Return what the trial took when it was run, if anyone still knows."""
    known = this.known()
    if known and known.seconds is not None and not known.failure:
        return known.seconds
    return next((float(line["seconds"]) for line in timings.lines(what="trial", trial=_digest(this))), None)


def _digest(this: Job) -> str:
    return this.name.rsplit("-", 1)[1]


def _changed(this: Job) -> str:
    return CHANGED if trial.changed(this.settings, this.state) else ""


def _composed(this: Job, found: experiments.Finished) -> bool:
    """Return whether an experiment has the configuration of its trial: DVC composes conf/ anew when it starts."""
    (text,) = experiments.files(found.name, [paths.PARAMS.as_posix()], found.commit)
    return tracked.of_run(yaml.safe_load(text) if text else {}) == tracked.of_run(this.values)


def _trial(this: Job) -> str:
    """Run the trial; why it failed, empty if it did not."""
    hydra, begun = HydraConfig.get(), this.begun
    told = {
        "sweep": this.folder.name,
        "parent": begun.parent,
        "label": naming.label(this.shown),
        "swept": {key: value for key, _, value in (override.partition("=") for override in this.shown)},
    }
    environment = resources.environment(hydra.job.num, resources.at_once(hydra.launcher, hydra.sweeper))
    environment[pipeline.TRIAL] = json.dumps(told)
    kept = [override for override in this.overrides if not override.startswith("compute.depths=")]
    if begun.owner != supervisor.myself() and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a launcher's worker: the sweep stops its trial
    asked = [*kept, shared.depths(begun.depths)]
    return trial.run(this.name, asked, this.folder, begun.owner, environment=environment)


def _figures(figures: results.Figures) -> str:
    return f"validation accuracy {figures.val_accuracy:.1%}, loss {figures.val_loss:.4f}"
