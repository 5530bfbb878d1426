"""A sweep is a Hydra multirun, and each of its jobs is one isolated DVC experiment over the same pipeline.

``python -m thaw.sweep phase2.learning_rate=1e-5,3e-5 phase2.unfreeze=20,40`` runs every combination. DVC gives a trial
its own copy of the project and restores every stage that an earlier run has already computed. Nothing in the
workspace changes. What trials share is computed once, before them. The same command again goes on where the sweep was
stopped: a trial that is finished, with the same configuration, code and images, is not run again.
"""

import json
import math
import os
import shlex
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from thaw import (
    config,
    layout,
    leash,
    ledger,
    pipeline_run,
    plan,
    records,
    schema,
    sweep_report,
    sweep_run,
    sweep_table,
    trial,
    warmup,
)

console = Console(highlight=False, markup=False, soft_wrap=True)
RETRY = "--retry-failed"
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# What the presets of conf/hydra need besides what every installation has.
EXTRAS = {
    "hydra/launcher/joblib": "hydra-joblib-launcher",
    "hydra/launcher/ray": "hydra-ray-launcher",
    "hydra/launcher/submitit_slurm": "hydra-submitit-launcher",
    "hydra/launcher/submitit_local": "hydra-submitit-launcher",
    "hydra/sweeper/optuna": "hydra-optuna-sweeper",
    "hydra/sweeper/sampler": "hydra-optuna-sweeper",
}
INSTALL = "pip install --no-deps --require-hashes -r requirements/sweeps.txt"


def job(composed: DictConfig) -> float:
    """One trial, called by Hydra, in whichever process its launcher has for it.

    Returns:
        The objective, for sweepers that learn from it; infinite if the trial failed.
    """
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
    found = trial.finished(name)
    reused, failure, seconds, clock = found is not None, "", known.get("seconds"), time.time()
    if known.get("failure") and not reused and not settings.callbacks.trials.retry_failed:
        console.print(f"failed before: {' '.join(shown)}\n  {known['failure']} ({RETRY} runs it again)")
        return math.inf

    if found is None:
        of_all = f" of {begun['trials']}" if begun["trials"] else ""
        console.print(f"trial {settings.job.num + 1}{of_all}: {' '.join(shown)} …")
        start = time.monotonic()
        failure = begun["upstreams"].get(trial.upstream(values, begun["state"]), "")
        failure = failure or _run(name, overrides, begun, folder)
        seconds = round(time.monotonic() - start, 1)
        found = None if failure else trial.finished(name)
        if found is None and not failure:
            failure = f"DVC kept no {layout.metrics(trial.TARGET)} of it"
    record = {
        "name": found[0] if found else name,
        "overrides": overrides,
        "shown": " ".join(shown),
        "label": trial.label(shown),
        "failure": failure,
        "log": (folder / f"{name}.log").as_posix(),
        "seconds": seconds,
        "figures": found[1] if found else {},
    }
    records.write_json(path, record)
    if found and not reused:
        ledger.write("trial", values, seconds=seconds, inside=ledger.inside(name, clock))
    console.print(_outcome(record, reused=reused))
    return float(found[1][sweep_table.OBJECTIVE]) if found else math.inf


def _run(name: str, overrides: list[str], begun: dict[str, Any], folder: Path) -> str:
    """Run the trial; why it failed, empty if it did not. Ends this process if the sweep has ended meanwhile."""
    settings = HydraConfig.get()
    shown = plan.distinct(overrides, begun["swept"])
    told = {"sweep": folder.name, "parent": begun["parent"], "label": trial.label(shown)}
    told["swept"] = {key: value for key, _, value in (override.partition("=") for override in shown)}
    jobs = int(settings.launcher.get("n_jobs") or 1)
    environment = trial.environment(settings.job.num, jobs if jobs > 0 else leash.cores())
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


class Trials(Callback):
    """What happens once before the trials and once after them. Hydra makes it, as conf/sweep.yaml says.

    Args:
        retry_failed: run trials again that have failed when the sweep ran before.
    """

    def __init__(self, retry_failed: bool) -> None:
        self.retry_failed = retry_failed

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Refuse what cannot run before anything does."""
        try:
            begin(config, retry=self.retry_failed)
        except (ValueError, OSError) as error:  # of which Hydra would only warn
            sys.exit(f"thaw.sweep: {error}")

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Show all trials and what is proposed; exit code 1 if one has failed."""
        folder = Path(config.hydra.sweep.dir)
        failed = conclude(folder)
        propose(folder)
        begun = records.read_json(folder / plan.FILE)
        files = [folder / sweep_table.FILE, folder / sweep_report.FILE]
        sweep_run.end(schema.Tracking(**begun["tracking"]), begun["parent"], files)
        if failed:
            sys.exit(1)


def begin(composed: DictConfig, *, retry: bool) -> None:
    """Check all trials, write the sweep's plan into its folder and say it, compute what the trials share.

    Args:
        composed: Hydra's configuration of the whole sweep; the folder is set in it.

    Raises:
        ValueError: a trial's configuration is wrong, or no trial could run; one line.
    """
    trial.head()
    trial.check_images_travel(Path(composed.data.raw))
    made, owner = plan.make(composed), leash.myself()
    leash.settle(made.folder.resolve().as_posix())  # of the same sweep, if it was killed a moment ago
    with read_write(composed.hydra), open_dict(composed.hydra):
        composed.hydra.sweep.dir = made.folder.as_posix()
        composed.hydra.overrides.hydra.append(f"hydra.sweep.dir={made.folder.as_posix()}")  # each job is composed anew
    wanted = plan.missing(made, retry=retry)
    first = plan.shared(made, wanted)
    for line in plan.describe(made, wanted, first):
        console.print(line)
    made.folder.mkdir(parents=True, exist_ok=True)
    failed = {}
    for each in first:
        console.print("what trials share …")
        failure = warmup.run(made, each, owner)
        if failure:
            failed[each.upstream] = failure
        console.print(f"  failed: {failure}" if failure else "  done")
    settings = schema.Tracking(**OmegaConf.to_container(composed.tracking, resolve=True))  # type: ignore[arg-type]
    written = {
        "trials": made.count,
        "swept": made.swept,
        "state": made.state,
        "depths": made.depths(),
        "upstreams": failed,
        "owner": owner,
        "parent": sweep_run.begin(settings, made.folder.name, ", ".join(made.swept)),
        "tracking": vars(settings),
    }
    records.write_json(made.folder / plan.FILE, written)


def conclude(folder: Path) -> bool:
    """Print the sweep's trials, the best first, and where to look further.

    Returns:
        Whether a trial failed.
    """
    begun, trials = records.read_json(folder / plan.FILE), sweep_table.read(folder)
    swept = list(begun["swept"])
    sweep_table.write(folder, swept, trials)
    sweep_table.show(swept, trials)
    failed = [record for record in trials if record["failure"]]
    for record in failed:
        console.print(f"failed: {record['shown']}: {record['failure']}")
    console.print(f"look: `make ui` (curves, comparison), `dvc exp show --only-changed`, {folder} (logs)")
    return bool(failed)


def propose(folder: Path) -> None:
    """Write the sweep's page, and say which trial it proposes; nothing where none is finished."""
    if any(not record["failure"] for record in sweep_table.read(folder)):
        ranked = sweep_report.write(folder)
        console.print(f"{sweep_report.verdict(ranked)} All of it: {folder / sweep_report.FILE}")
        console.print(f"test it and export it: thaw promote {shlex.quote(ranked.proposed.record['name'])}")


def _interrupt(*_: object) -> None:
    """Stop the trials in order, before a launcher kills its workers and all they have started."""
    for number in STOPS:
        signal.signal(number, signal.default_int_handler)  # again means at once
    leash.interrupt(leash.myself())
    raise KeyboardInterrupt


def main() -> None:
    """Hand over to Hydra, and turn what it raises into one line."""
    if not layout.CONF.is_dir():
        sys.exit(f"thaw.sweep: expected the folder conf/ here, received {Path.cwd()}; run this in the project's root")
    config.register()
    if RETRY in sys.argv:
        sys.argv[sys.argv.index(RETRY)] = "hydra.callbacks.trials.retry_failed=true"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come through, instead of Hydra's paragraphs
    for number in STOPS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # which nohup sets
            signal.signal(number, _interrupt)
    try:
        hydra.main(version_base=None, config_path=str(layout.CONF.resolve()), config_name="sweep")(job)()
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        lacking = [package for preset, package in EXTRAS.items() if f"'{preset}" in str(error)]
        if lacking:
            sys.exit(f"thaw.sweep: expected the package {lacking[0]}, found none; install it with `{INSTALL}`")
        sys.exit(f"thaw.sweep: {config.explain(error)}")
    except KeyboardInterrupt:
        for path in layout.SWEEPS.glob(f"*/{plan.FILE}"):
            begun = records.read_json(path)
            if begun["owner"] == leash.myself():
                sweep_run.end(schema.Tracking(**begun["tracking"]), begun["parent"], [], "KILLED")
        print("thaw.sweep: interrupted; the same command goes on with what is missing", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    # Launchers that start other processes send `job` there by its module's name, which must not be __main__.
    from thaw import sweep  # noqa: PLW0406

    sweep.main()
