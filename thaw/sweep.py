"""A sweep is a Hydra multirun, and each of its jobs is one isolated DVC experiment over the same pipeline.

``python -m thaw.sweep phase2.learning_rate=1e-5,3e-5 phase2.unfreeze=20,40`` runs every combination. DVC gives a trial
its own copy of the project and restores every stage that an earlier run has already computed. Nothing in the
workspace changes. A trial that is already finished, with the same configuration, code and images, is not run again.
"""

import itertools
import math
import os
import shlex
import signal
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from thaw import config, layout, records, trial

# What sweepers minimise and the table is sorted by. Accuracy moves in steps of one image, the loss does not.
OBJECTIVE = "val_loss"
PLAN = "plan.json"

console = Console(highlight=False, markup=False, soft_wrap=True)


def job(composed: DictConfig) -> float:
    """One trial, called by Hydra.

    Returns:
        The objective, for sweepers that learn from it; nan if the trial failed.
    """
    settings, start = HydraConfig.get(), time.monotonic()
    folder, overrides = Path(settings.sweep.dir), list(settings.overrides.task)
    plan = records.read_json(folder / PLAN)
    values: Any = OmegaConf.to_container(composed, resolve=True)
    shown = _swept(overrides, plan["swept"])
    name = trial.trial_name(shown, values)
    log = folder / f"{name}.log"

    before = found = trial.finished(name)
    failure = ""
    if before is None:
        of_all = f" of {plan['trials']}" if plan["trials"] else ""
        console.print(f"trial {settings.job.num + 1}{of_all}: {' '.join(shown)} …")
        failure = trial.run(name, overrides, log)
        found = None if failure else trial.finished(name)
        if found is None and not failure:
            failure = f"DVC kept no {layout.metrics(trial.TARGET)} of it"
    record = {
        "name": found[0] if found else name,
        "overrides": overrides,
        "shown": " ".join(shown),
        "reused": before is not None,
        "failure": failure,
        "log": "" if before else log.as_posix(),
        "seconds": round(time.monotonic() - start, 1),
        "figures": found[1] if found else {},
    }
    records.write_json(folder / f"{name}.json", record)
    console.print(_outcome(record))
    return float(found[1][OBJECTIVE]) if found else math.nan


def _outcome(record: dict[str, Any]) -> str:
    if record["failure"]:
        return f"  failed after {record['seconds']:.0f} s: {record['failure']} (all of it: {record['log']})"
    text = f"validation accuracy {record['figures']['val_accuracy']:.1%}, loss {record['figures'][OBJECTIVE]:.4f}"
    if record["reused"]:
        return f"finished before: {record['shown']}\n  {text}"
    return f"  {text}, {record['seconds']:.0f} s"


class Trials(Callback):
    """What happens once before the trials and once after them. Hydra makes it, as conf/sweep.yaml says."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Refuse what cannot run before anything does."""
        try:
            begin(config)
        except (ValueError, OSError) as error:  # of which Hydra would only warn
            sys.exit(f"thaw.sweep: {error}")

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Show all trials; exit code 1 if one has failed."""
        if conclude(Path(config.hydra.sweep.dir)):
            sys.exit(1)


def begin(composed: DictConfig) -> None:
    """Check all trials, give the sweep a folder, write its plan there and say what is to come.

    Args:
        composed: Hydra's configuration of the whole sweep; the folder is set in it.

    Raises:
        ValueError: a trial's configuration is wrong, or no trial could run; one line.
    """
    trial.head()
    trial.check_images_travel(Path(composed.data.raw))
    given = [f"{key}={value}" for key, value in (composed.hydra.sweeper.get("params") or {}).items()]
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    # As in Hydra, the command line goes before conf/sweep.yaml.
    parsed = {
        item.get_key_element(): item for item in parser.parse_overrides([*given, *composed.hydra.overrides.task])
    }
    swept = {key: _choices(item) for key, item in parsed.items() if item.is_sweep_override()}
    for overrides in itertools.product(*(swept.get(key) or [str(item.input_line)] for key, item in parsed.items())):
        try:
            OmegaConf.resolve(hydra.compose("config", overrides=list(overrides)))  # which runs the schema's checks
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(f"{config.explain(error)} (trial {' '.join(_swept(overrides, swept))})") from None

    finite = all(item.is_discrete_sweep() for item in parsed.values() if item.is_sweep_override())
    trials = math.prod(len(found) for found in swept.values()) if finite else 0  # 0: the sweeper decides
    folder = Path(composed.hydra.sweep.dir) / time.strftime("%Y-%m-%d_%H-%M-%S")
    with read_write(composed.hydra), open_dict(composed.hydra):
        composed.hydra.sweep.dir = folder.as_posix()
        composed.hydra.overrides.hydra.append(f"hydra.sweep.dir={folder.as_posix()}")  # each job is composed anew
    records.write_json(folder / PLAN, {"trials": trials, "swept": swept})
    parts = " × ".join(f"{key} ({len(found) if finite else 'range'})" for key, found in swept.items())
    console.print(f"sweep on {composed.data.raw}: {trials or ''} trials, {parts or 'nothing swept'} → {folder}")


def _choices(override: Override) -> list[str]:
    """The overrides that a swept one stands for; of a range its two ends."""
    key = override.get_key_element()
    if override.is_discrete_sweep():
        return [f"{key}={value}" for value in override.sweep_string_iterator()]
    interval: Any = override.value()
    return [f"{key}={interval.start}", f"{key}={interval.end}"]


def _swept(overrides: Sequence[str], swept: Collection[str]) -> list[str]:
    """What tells a trial from the others of its sweep; all of it if nothing is swept."""
    return [override for override in overrides if override.split("=", 1)[0] in swept] or list(overrides)


def conclude(folder: Path) -> bool:
    """Print the sweep's trials, the best first, and where to look further.

    Returns:
        Whether a trial failed.
    """
    trials = [records.read_json(path) for path in folder.glob("*.json") if path.name != PLAN]
    trials.sort(key=lambda record: (bool(record["failure"]), record["figures"].get(OBJECTIVE, 0), record["shown"]))
    swept = list(records.read_json(folder / PLAN)["swept"])
    table = Table(*swept, "val loss", "val accuracy", "best epoch", "trial", box=None, header_style="bold")
    for record in trials:
        given = dict(override.split("=", 1) for override in record["overrides"])
        found, cells = record["figures"], ["failed", "", ""]
        if found:
            cells = [f"{found['val_loss']:.4f}", f"{found['val_accuracy']:.1%}", str(found["best_epoch"])]
        table.add_row(*(given.get(key, "") for key in swept), *cells, record["name"])
    # In a file or a pipe nothing need be cut to a screen's width.
    Console(width=None if console.is_terminal else 240, highlight=False, markup=False).print(table)
    failed = [record for record in trials if record["failure"]]
    for record in failed:
        console.print(f"failed: {record['shown']}: {record['failure']}")
    console.print(f"look: `make ui` (curves, comparison), `dvc exp show --only-changed`, {folder} (logs)")
    if len(failed) < len(trials):
        chosen = shlex.join(["python", "-m", "thaw.config", *trials[0]["overrides"]])
        console.print(f"take the best, test it and export it: {chosen} && dvc repro export")
    return bool(failed)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Hand over to Hydra, and turn what it raises into one line."""
    if not layout.CONF.is_dir():
        sys.exit(f"thaw.sweep: expected the folder conf/ here, received {Path.cwd()}; run this in the project's root")
    config.register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come through, instead of Hydra's paragraphs
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # which nohup sets
            signal.signal(number, _interrupt)
    try:
        hydra.main(version_base=None, config_path=str(layout.CONF.resolve()), config_name="sweep")(job)()
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        sys.exit(f"thaw.sweep: {config.explain(error)}")
    except KeyboardInterrupt:
        print("thaw.sweep: interrupted; the same command goes on with what is missing", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    # Launchers that start other processes send `job` there by its module's name, which must not be __main__.
    from thaw import sweep  # noqa: PLW0406

    sweep.main()
