"""A sweep is a Hydra multirun, and each of its jobs is one isolated DVC experiment over the same pipeline.

``python -m thaw.sweep phase2.learning_rate=1e-5,3e-5 phase2.unfreeze=20,40`` runs every combination. DVC gives a trial
its own copy of the project and restores every stage that an earlier run has already computed. Nothing in the
workspace changes. A trial that is already finished, with the same configuration, code and images, is not run again.
"""

import hashlib
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from hydra import main as hydra_main
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

from thaw import config, layout, records

# A trial ends here: the test set is for the one trial that is chosen in the end, not for choosing.
TARGET = "phase2_finetune"
# What sweepers minimise and the table is sorted by. Accuracy moves in steps of one image, the loss does not.
OBJECTIVE = "val_loss"
GRACE = 60  # seconds that DVC has to put things in order after Ctrl-C before it is killed
NAME_LENGTH = 150  # characters of the readable part; a file system takes 255 in all
PLAN = "plan.json"

console = Console(highlight=False, soft_wrap=True)


def trial_name(overrides: Sequence[str], values: dict[str, Any]) -> str:
    """A name for people and for git, the same for the same trial and another for another.

    Args:
        overrides: in Hydra's grammar; they are the readable part.
        values: the whole configuration. The hash at the end covers it, the code and the state of the images.
    """
    # These two characters are all of git's and DVC's that are also of use here: model.size=3,model.depth=2
    readable = re.sub(r"[^\w.=,+-]+", "_", ",".join(overrides))
    readable = re.sub(r"\.{2,}", ".", readable).lstrip("+-.")[:NAME_LENGTH]
    kept = {key: value for key, value in values.items() if key not in config.UNTRACKED and key != "compiled_from"}
    total = hashlib.sha256(json.dumps(kept, sort_keys=True).encode())
    for path in sorted([Path("dvc.yaml"), *Path("thaw").glob("*.py"), *Path("stages").glob("*.py")]):
        total.update(path.as_posix().encode() + path.read_bytes())
    raw = Path(values["data"]["raw"])
    # Sizes and times stand for the bytes. If they mislead, DVC is asked in vain, and it looks at the bytes.
    if raw != layout.SAMPLE:
        for path in sorted(raw.rglob("*")):
            state = path.stat()
            if not path.is_dir():
                total.update(f"{path.as_posix()} {state.st_size} {state.st_mtime_ns}\n".encode())
    return f"{readable}-{total.hexdigest()[:8]}"


def figures(name: str) -> dict[str, Any] | None:
    """What phase 2 of a finished experiment recorded; None if there is no such experiment on the current commit."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    place = f"refs/exps/{head[:2]}/{head[2:]}/{name}:./{layout.metrics(TARGET).as_posix()}"
    shown = subprocess.run(["git", "show", place], capture_output=True, text=True, check=False)
    if shown.returncode:
        return None
    found = json.loads(shown.stdout)
    return found if isinstance(found, dict) and OBJECTIVE in found else None


def run(name: str, overrides: Sequence[str], log: Path) -> str:
    """Run one trial in a temporary copy of the project.

    Args:
        log: gets all that DVC and the stages say.

    Returns:
        Why it failed, one line; empty if it did not.
    """
    words = [sys.executable, "-m", "dvc", "--wait-for-lock", "exp", "run", "--temp", "--name", name]
    for override in overrides:
        words += ["-S", override]
    # The stages' `python` must be this one, also if its environment is not activated.
    here = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": here + os.pathsep + os.environ.get("PATH", "")}
    with log.open("w", encoding="utf-8") as file:
        # A session of its own: a stop reaches DVC, its stage and what that has started, once and together.
        process = subprocess.Popen(
            [*words, TARGET], stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            failed = process.wait() != 0
        except BaseException:
            _stop(process)
            raise
    return reason(log.read_text(encoding="utf-8", errors="replace")) if failed else ""


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C to a trial and all it has started; DVC then gives back its locks and what it has set aside."""
    try:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(GRACE)
    except ProcessLookupError:
        pass
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def reason(log: str) -> str:
    """The line of a failed trial's log that says why: a stage's own message stands before DVC's."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [index for index, line in enumerate(lines) if line.startswith("ERROR: ")]
    if not errors:
        return lines[-1] if lines else "it ended without a word"
    first = errors[0]
    stage = re.match(r"ERROR: failed to reproduce '(\w+)'", lines[first])
    if stage and first and not lines[first - 1].startswith(">"):
        return lines[first - 1]
    return lines[first].removeprefix("ERROR: ")


def job(composed: DictConfig) -> float:
    """One trial, called by Hydra.

    Returns:
        The objective, for sweepers that learn from it; nan if the trial failed.
    """
    hydra = HydraConfig.get()
    folder, overrides = Path(hydra.sweep.dir), list(hydra.overrides.task)
    values = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(values, dict)
    name = trial_name(overrides, {str(key): value for key, value in values.items()})
    log, start = folder / f"{name}.log", time.monotonic()

    found, why, reused = figures(name), "", True
    if found is None:
        total = records.read_json(folder / PLAN)["trials"]
        console.print(f"trial {hydra.job.num + 1}{total and f' of {total}'}: {' '.join(overrides)} …", markup=False)
        reused, why = False, run(name, overrides, log)
        found = None if why else figures(name)
        if found is None and not why:
            why = f"DVC kept no {layout.metrics(TARGET)} of it"
    record = {
        "name": name,
        "overrides": overrides,
        "reused": reused,
        "failure": why,
        "log": "" if reused else log.as_posix(),
        "seconds": round(time.monotonic() - start, 1),
        "figures": found or {},
    }
    records.write_json(folder / f"{name}.json", record)
    console.print(_outcome(record), markup=False)
    return float(found[OBJECTIVE]) if found else math.nan


def _outcome(record: dict[str, Any]) -> str:
    if record["failure"]:
        return f"  failed after {record['seconds']:.0f} s: {record['failure']} (all of it: {record['log']})"
    text = f"validation accuracy {record['figures']['val_accuracy']:.1%}, loss {record['figures'][OBJECTIVE]:.4f}"
    if record["reused"]:
        return f"finished before: {' '.join(record['overrides'])}\n  {text}"
    return f"  {text}, {record['seconds']:.0f} s"


class Trials(Callback):  # type: ignore[misc]  # Hydra's base is untyped
    """What happens once before the trials and once after them. Hydra makes it, as conf/sweep.yaml says."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Refuse what cannot run before anything does, give the sweep its folder, say what is to come."""
        try:
            start(config)
        except (ValueError, HydraException) as error:  # Hydra would only warn of it
            sys.exit(f"thaw.sweep: {error}")

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Show all trials; exit code 1 if one has failed."""
        if finish(Path(config.hydra.sweep.dir)):
            sys.exit(1)


def start(composed: DictConfig) -> None:
    """Check every trial of the sweep and write its plan.

    Args:
        composed: Hydra's configuration of the whole sweep; its folder is set here.

    Raises:
        ValueError: a trial's configuration is wrong; one line.
    """
    given = [f"{key}={value}" for key, value in (composed.hydra.sweeper.get("params") or {}).items()]
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    # As in Hydra, the command line goes before conf/sweep.yaml.
    parsed = {item.get_key_element(): item for item in parser.parse_overrides([*given, *composed.hydra.overrides.task])}
    swept = {key: choices(item) for key, item in parsed.items() if item.is_sweep_override()}
    for overrides in itertools.product(*(swept.get(key) or [item.input_line] for key, item in parsed.items())):
        config.compose(overrides)

    exact = all(item.is_discrete_sweep() for item in parsed.values() if item.is_sweep_override())
    trials = math.prod(len(found) for found in swept.values()) if exact else 0
    folder = Path(composed.hydra.sweep.dir) / time.strftime("%Y-%m-%d_%H-%M-%S")
    folder.mkdir(parents=True, exist_ok=True)
    with read_write(composed.hydra), open_dict(composed.hydra):
        composed.hydra.sweep.dir = folder.as_posix()
    records.write_json(folder / PLAN, {"trials": trials, "swept": swept})

    size = f"{trials} trials" if trials else "trials"
    parts = " × ".join(f"{key} ({len(found) if exact else 'range'})" for key, found in swept.items())
    console.print(f"sweep: {size}, {parts or 'nothing swept'} → {folder}", markup=False)
    if differing := _not_in_workspace(composed, swept):
        console.print(f"note: params.yaml has another {differing}; a sweep starts from conf/ and its own command line")


def choices(override: Override) -> list[str]:
    """The overrides that a swept one stands for; of a range its two ends."""
    key = override.get_key_element()
    if override.is_discrete_sweep():
        return [f"{key}={value}" for value in override.sweep_string_iterator()]
    interval: Any = override.value()
    return [f"{key}={interval.start}", f"{key}={interval.end}"]


def _not_in_workspace(composed: DictConfig, swept: dict[str, list[str]]) -> str:
    """The groups in which params.yaml differs from what all trials have in common, as a person would list them."""
    if not layout.PARAMS.is_file():
        return ""
    there = yaml.safe_load(layout.PARAMS.read_text(encoding="utf-8"))
    common = OmegaConf.to_container(OmegaConf.masked_copy(composed, list(there)))
    assert isinstance(common, dict)
    groups = {key.split(".")[0].split("@")[0] for key in swept} | {"compiled_from"} | set(config.UNTRACKED)
    return ", ".join(key for key, value in there.items() if key not in groups and common.get(key) != value)


def finish(folder: Path) -> bool:
    """Print the sweep's trials, the best first, and where to look further.

    Returns:
        Whether a trial failed.
    """
    trials = [records.read_json(path) for path in folder.glob("*.json") if path.name != PLAN]
    trials.sort(key=lambda trial: (bool(trial["failure"]), trial["figures"].get(OBJECTIVE), trial["name"]))
    swept = list(records.read_json(folder / PLAN)["swept"])
    table = Table(*swept, box=None, header_style="bold")
    for title in ("val loss", "val accuracy", "best epoch", "trial"):
        table.add_column(title, justify="left" if title == "trial" else "right", overflow="fold")
    for trial in trials:
        given = dict(override.split("=", 1) for override in trial["overrides"])
        found = trial["figures"]
        shown = [f"{found['val_loss']:.4f}", f"{found['val_accuracy']:.1%}", f"{found['best_epoch']}"] if found else ["failed", "", ""]
        table.add_row(*(given.get(key, "") for key in swept), *shown, trial["name"])
    Console(width=None if console.is_terminal else 200, highlight=False).print(table)
    failed = [trial for trial in trials if trial["failure"]]
    for trial in failed:
        console.print(f"failed: {' '.join(trial['overrides'])}: {trial['failure']}", markup=False)
    console.print(f"look: `make ui` (curves, comparison), `dvc exp show --only-changed`, {folder} (logs)", markup=False)
    if len(failed) < len(trials):
        console.print(f"take the best: `dvc exp apply {trials[0]['name']}`, then `dvc repro` tests it", markup=False)
    return bool(failed)


def _terminated(*_: int | FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Hand over to Hydra, and turn what it raises into one line."""
    if not layout.CONF.is_dir():
        sys.exit(f"thaw.sweep: expected the folder conf/ here, received {Path.cwd()}; run this in the project's root")
    config.register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come through, instead of Hydra's paragraphs
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminated)
    try:
        hydra_main(version_base=None, config_path=str(layout.CONF.resolve()), config_name="sweep")(job)()
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        sys.exit(f"thaw.sweep: {config.explain(error)}")
    except KeyboardInterrupt:
        print("thaw.sweep: interrupted; the same command goes on with what is missing", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    # Launchers that start other processes send `job` there by its module's name, which must not be __main__.
    from thaw import sweep

    sweep.main()
