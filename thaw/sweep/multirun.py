"""Run a sweep: a Hydra multirun, each of whose jobs is one isolated DVC experiment over the same pipeline.

``python -m thaw.sweep phase2.learning_rate=1e-5,3e-5 phase2.unfreeze=20,40`` runs every combination. DVC gives a trial
its own copy of the project and restores every stage that an earlier run has already computed. Nothing in the
workspace changes. What trials share is computed once, before them. The same command again goes on where the sweep was
stopped: a trial that is finished, with the same configuration, code and images, is not run again.
"""

import os
import shlex
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from thaw import paths
from thaw.config import chosen, errors, load, schema
from thaw.runtime import extras
from thaw.sweep import compose, experiments, job, locks, plan, report, results, shared, supervisor
from thaw.sweep.plan import SweepPlan
from thaw.tracking import sweep_run

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
# The extra of this package that brings each.
EXTRA = {
    "hydra-joblib-launcher": "joblib",
    "hydra-ray-launcher": "ray",
    "hydra-submitit-launcher": "slurm",
    "hydra-optuna-sweeper": "optuna",
}
LOCK = Path("requirements/sweeps.txt")
INSTALL = f"pip install --no-deps --require-hashes -r {LOCK.as_posix()}"  # in a clone; other projects have no lock


class Trials(Callback):
    """Callbacks of Hydra, once before the trials and once after them. Hydra makes it, as conf/sweep.yaml says.

    Args:
        retry_failed: run trials again that have failed when the sweep ran before.
    """

    def __init__(self, retry_failed: bool) -> None:
        self.retry_failed = retry_failed

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Refuse what cannot run before anything does."""
        with _through_hydra():
            begin(config, retry=self.retry_failed)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Show all trials and what is proposed; exit code 1 if one has failed."""
        folder = Path(config.hydra.sweep.dir)
        with _through_hydra():
            failed = conclude(folder)
            propose(folder)
            _close("FINISHED")
        if failed:
            sys.exit(1)


@contextmanager
def _through_hydra() -> Iterator[None]:
    """End the process by what is raised: Hydra would only warn of it, and run the trials on an older plan."""
    try:
        yield
    except Exception as error:
        _close("FAILED")
        if isinstance(error, ValueError | OSError):
            sys.exit(f"thaw.sweep: {error}")
        traceback.print_exc()
        sys.exit(1)


def begin(composed: DictConfig, *, retry: bool) -> None:
    """Check all trials, write the sweep's plan into its folder and say it, compute what the trials share.

    Args:
        composed: Hydra's configuration of the whole sweep; the folder is set in it.

    Raises:
        ValueError: a trial's configuration is wrong, or no trial could run; one line.
    """
    experiments.head()
    made, owner = compose.make(composed), supervisor.myself()
    plan.check_images(made)
    settings = schema.Tracking(**OmegaConf.to_container(composed.tracking, resolve=True))  # type: ignore[arg-type]
    written = SweepPlan(made.count, made.swept, made.states, made.commit, made.depths(), owner, settings)
    _claim(made.folder, written)
    supervisor.settle(made.folder.resolve().as_posix())  # of the same sweep, if it was killed a moment ago
    with read_write(composed.hydra), open_dict(composed.hydra):
        composed.hydra.sweep.dir = made.folder.as_posix()
        composed.hydra.overrides.hydra.append(f"hydra.sweep.dir={made.folder.as_posix()}")  # each job is composed anew
    wanted = plan.missing(made, retry=retry)
    first = plan.shared(made, wanted)
    for line in plan.describe(made, wanted, first):
        console.print(line)
    written.parent = sweep_run.begin(settings, made.folder.name, ", ".join(made.swept))
    written.write(made.folder)
    for each in first:
        console.print("what trials share …")
        failure = shared.run(made, each, owner)
        if failure:
            written.upstreams[each.upstream] = failure
        console.print(f"  failed: {failure}" if failure else "  done")
    written.write(made.folder)


def _claim(folder: Path, written: SweepPlan) -> None:
    """Write the plan, unless another process has written it and runs the sweep.

    Raises:
        ValueError: one does.
    """
    with locks.lock(folder.name):
        before = SweepPlan.read(folder)
        if before and before.owner != written.owner and (number := supervisor.number(before.owner)):
            raise ValueError(f"this sweep runs already, process {number}; wait for it, or stop it with Ctrl-C")
        written.write(folder)


def conclude(folder: Path) -> bool:
    """Print the sweep's trials, the best first, and where to look further.

    Returns:
        Whether a trial failed.
    """
    swept, trials = list(SweepPlan.of(folder).swept), results.read(folder)
    results.write(folder, swept, trials)
    results.show(swept, trials)
    failed = [each for each in trials if each.failure]
    for each in failed:
        console.print(f"failed: {each.shown}: {each.failure}")
    console.print(f"look: `thaw ui` (curves, comparison), `dvc exp show --only-changed`, {folder} (logs)")
    return bool(failed)


def propose(folder: Path) -> None:
    """Write the sweep's page, and say which trial it proposes; nothing where none is finished."""
    if any(not each.failure for each in results.read(folder)):
        ranked = report.write(folder)
        console.print(f"{report.verdict(ranked)} All of it: {folder / report.FILE}")
        console.print(f"test it and export it: thaw promote {shlex.quote(ranked.proposed.record.name)}")


def _own() -> dict[Path, SweepPlan]:
    """Return the folder of the sweep of this process with its plan, if it has begun."""
    found = {}
    for folder in paths.SWEEPS.glob("*/"):
        with suppress(ValueError):  # another's, unreadable
            begun = SweepPlan.read(folder)
            if begun and begun.owner == supervisor.myself():
                found[folder] = begun
    return found


def _close(status: str) -> None:
    """End the sweep's run in MLflow."""
    for folder, begun in _own().items():
        files = [folder / results.FILE, folder / report.FILE] if status != "KILLED" else []
        sweep_run.end(begun.tracking, begun.parent, files, status)


def _give_up(error: Exception) -> None:
    """End with what is there: a launcher has lost a job, or cannot go on."""
    known = isinstance(error, HydraException | OmegaConfBaseException | yaml.YAMLError | ValueError)
    said = (errors.explain(error) if known else str(error)).strip().partition("\n")[0]
    folders = _own()
    if folders:
        supervisor.interrupt(supervisor.myself())  # what the launcher has left behind
        with suppress(ValueError, OSError):
            for folder in folders:
                conclude(folder)
                propose(folder)
        _close("FAILED")
        said = f"{type(error).__name__}: {said}; the same command goes on with what is missing"
    elif not known:
        raise error
    if os.environ.get("THAW_TRACEBACK"):
        raise error
    sys.exit(f"thaw.sweep: {said}")


def _interrupt(*_: object) -> None:
    """Stop the trials in order, before a launcher kills its workers and all they have started."""
    for number in STOPS:
        signal.signal(number, signal.default_int_handler)  # again means at once
    supervisor.interrupt(supervisor.myself())
    raise KeyboardInterrupt


def install(package: str) -> str:
    """Return the command that installs one of ``EXTRAS`` here."""
    return INSTALL if LOCK.is_file() else extras.install(EXTRA[package])


def main() -> None:
    """Hand over to Hydra, and turn what it raises into one line."""
    if not paths.CONF.is_dir():
        sys.exit(f"thaw.sweep: expected the folder conf/ here, received {Path.cwd()}; run this in the project's root")
    load.register()
    # Several values stand between commas, so of these Hydra's grammar alone decides.
    sys.argv[1:] = [word if "," in word else chosen.quoted(word) for word in sys.argv[1:]]
    if RETRY in sys.argv:
        sys.argv[sys.argv.index(RETRY)] = "hydra.callbacks.trials.retry_failed=true"
    if not any(word.startswith("-") for word in sys.argv[1:]):
        sys.argv.append("--multirun")  # where conf/ has a mistake, Hydra does not learn from it that this is a sweep
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come through, instead of Hydra's paragraphs
    for number in STOPS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # which nohup sets
            signal.signal(number, _interrupt)
    try:
        hydra.main(version_base=None, config_path=str(paths.CONF.resolve()), config_name="sweep")(job.run)()
    except Exception as error:
        lacking = [package for preset, package in EXTRAS.items() if f"'{preset}" in str(error)]
        if lacking:
            remedy = install(lacking[0])
            sys.exit(f"thaw.sweep: expected the package {lacking[0]}, found none; install it with `{remedy}`")
        _give_up(error)
    except KeyboardInterrupt:
        _close("KILLED")
        print("thaw.sweep: interrupted; the same command goes on with what is missing", file=sys.stderr)
        sys.exit(130)
