"""One job of a sweep: a trial found finished, or run, and its record in the sweep's folder.

Hydra calls it in whichever process its launcher has for it, perhaps on another machine.
"""

import json
import math
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from thaw import config, layout, leash, ledger, pipeline_run, plan, records, room, sweep_table, trial, warmup

CHANGED = "code or images changed since the sweep began; give the command again"
console = Console(highlight=False, markup=False, soft_wrap=True)
stopped: list[bool] = []  # filled once a trial of this process was stopped


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
    try:
        return _run(composed)
    except KeyboardInterrupt:
        stopped.append(True)
        raise


def _run(composed: DictConfig) -> float:
    config.register()  # a launcher's worker has not
    settings: Any = HydraConfig.get()
    os.chdir(settings.runtime.cwd)
    folder, overrides = Path(settings.sweep.dir), list(settings.overrides.task)
    begun = records.read_json(folder / plan.FILE)
    values: Any = OmegaConf.to_container(composed, resolve=True)
    shown = plan.distinct(overrides, begun["swept"])
    name = trial.trial_name(shown, values, begun["state"])
    path = folder / f"{name}.json"
    known = records.read_json(path) if path.is_file() else {}
    found = trial.finished(name, begun["commit"])
    reused, failure, seconds, clock = found is not None, "", known.get("seconds"), time.time()
    if known.get("failure") and not reused and not settings.callbacks.trials.retry_failed:
        console.print(f"failed before: {' '.join(shown)}\n  {known['failure']} (--retry-failed runs it again)")
        return math.inf

    if found is None:
        of_all = f" of {begun['trials']}" if begun["trials"] else ""
        console.print(f"trial {settings.job.num + 1}{of_all}: {' '.join(shown)} …")
        start = time.monotonic()
        failure = begun["upstreams"].get(trial.upstream(values, begun["state"]), "") or _changed(begun)
        failure = failure or _trial(name, overrides, begun, folder)
        seconds = round(time.monotonic() - start, 1)
        found = None if failure else trial.finished(name, begun["commit"])
        if found and _changed(begun):
            # Nobody knows what it has run, and it would be found under a name that says what it has not.
            trial.forget(found.name, found.commit)
            found, failure = None, CHANGED
        if found is None and not failure:
            failure = f"DVC kept no {layout.metrics(trial.TARGET)} of it"
    record = {
        "name": found.name if found else name,
        "commit": found.commit if found else "",
        "overrides": overrides,
        "shown": " ".join(shown),
        "label": trial.label(shown),
        "failure": failure,
        "log": (folder / f"{name}.log").as_posix(),
        "seconds": seconds,
        "figures": found.figures if found else {},
    }
    records.write_json(path, record)
    if found and not reused:
        ledger.write("trial", values, seconds=seconds, inside=ledger.inside(name, clock))
    console.print(_outcome(record, reused=reused))
    return float(found.figures[sweep_table.OBJECTIVE]) if found else math.inf


def _changed(begun: dict[str, Any]) -> str:
    return CHANGED if trial.changed(Path(begun["raw"]), begun["state"]) else ""


def _trial(name: str, overrides: list[str], begun: dict[str, Any], folder: Path) -> str:
    """Run the trial; why it failed, empty if it did not. Ends this process if the sweep has ended meanwhile."""
    settings = HydraConfig.get()
    shown = plan.distinct(overrides, begun["swept"])
    told = {"sweep": folder.name, "parent": begun["parent"], "label": trial.label(shown)}
    told["swept"] = {key: value for key, _, value in (override.partition("=") for override in shown)}
    jobs = int(settings.launcher.get("n_jobs") or 1)
    environment = room.environment(settings.job.num, jobs if jobs > 0 else leash.cores())
    environment[pipeline_run.TRIAL] = json.dumps(told)
    kept = [override for override in overrides if not override.startswith("compute.depths=")]
    if begun["owner"] != leash.myself() and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a launcher's worker: the sweep stops its trial
    asked = [*kept, warmup.depths(begun["depths"])]
    try:
        return trial.run(name, asked, folder, begun["owner"], environment=environment)
    except KeyboardInterrupt:
        if not leash.alive(begun["owner"]):
            os._exit(1)  # a worker that has outlived its sweep
        raise


def _outcome(record: dict[str, Any], *, reused: bool) -> str:
    if record["failure"]:
        return f"  failed: {record['failure']} (all of it: {record['log']})"
    figures = record["figures"]
    text = f"validation accuracy {figures['val_accuracy']:.1%}, loss {figures[sweep_table.OBJECTIVE]:.4f}"
    return f"finished before: {record['shown']}\n  {text}" if reused else f"  {text}, {record['seconds']:.0f} s"
