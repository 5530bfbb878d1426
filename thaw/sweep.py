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
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
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

from thaw import config, layout, records

# A trial ends here: the test set is for the one trial that is chosen in the end, not for choosing.
TARGET = "phase2_finetune"
# What sweepers minimise and the table is sorted by. Accuracy moves in steps of one image, the loss does not.
OBJECTIVE = "val_loss"
GRACE = 60  # seconds that DVC has to put things in order after Ctrl-C before it is killed
NAME_LENGTH = 150  # characters of a name's readable part; a file system takes 255 in all
PLAN = "plan.json"

console = Console(highlight=False, markup=False, soft_wrap=True)


def trial_name(overrides: Sequence[str], values: dict[str, Any]) -> str:
    """A name for people and for git: the same for the same trial, another for another.

    Args:
        overrides: in Hydra's grammar; the readable part.
        values: the whole configuration. The digest at the end covers it, the code and the state of the images.
    """
    readable = re.sub(r"[^\w.=,+-]+", "_", ",".join(overrides))
    readable = re.sub(r"\.{2,}", ".", readable).lstrip("+-.")[:NAME_LENGTH]
    kept = {key: value for key, value in values.items() if key not in config.UNTRACKED and key != "compiled_from"}
    total = hashlib.sha256(json.dumps(kept, sort_keys=True).encode())
    for path in sorted([Path("dvc.yaml"), *Path("thaw").glob("*.py"), *Path("stages").glob("*.py")]):
        total.update(path.as_posix().encode() + path.read_bytes())
    raw = Path(values["data"]["raw"])
    # Sizes and times stand for the bytes; where they change for nothing, DVC is asked, and it reads the bytes.
    for path in sorted(raw.rglob("*") if raw != layout.SAMPLE else ()):
        if path.is_file():
            state = path.stat()
            total.update(f"{path.as_posix()} {state.st_size} {state.st_mtime_ns}\n".encode())
    return f"{readable}-{total.hexdigest()[:8]}"


def finished(name: str) -> tuple[str, dict[str, Any]] | None:
    """The experiment of the same trial on the current commit, also if another sweep named it, and its figures.

    Where nothing is thawed, phase 2 has no validation figures of its own: its model is phase 1's, and so are they.
    """
    commit, digest = head(), name.rsplit("-", 1)[1]
    pattern = f"refs/exps/{commit[:2]}/{commit[2:]}/*-{digest}"
    for ref in _git("for-each-ref", "--format=%(refname)", pattern).split():
        phase1, phase2 = (_git("show", f"{ref}:./{layout.metrics(of).as_posix()}") for of in ("phase1_head", TARGET))
        if phase1 and phase2:
            return ref.rsplit("/", 1)[1], json.loads(phase1) | json.loads(phase2)
    return None


def head() -> str:
    """The current commit, to which DVC ties experiments.

    Raises:
        ValueError: there is none.
    """
    if commit := _git("rev-parse", "--verify", "HEAD").strip():
        return commit
    raise ValueError("expected a git repository with a commit, which experiments need; commit the project first")


def _git(*words: str) -> str:
    """What git says; nothing if it fails."""
    done = subprocess.run(["git", *words], capture_output=True, text=True, encoding="utf-8", check=False)
    return "" if done.returncode else done.stdout


def run(name: str, overrides: Sequence[str], log: Path) -> str:
    """Run one trial in a temporary copy of the project.

    Args:
        log: gets all that DVC and the stages say.

    Returns:
        Why it failed, one line; empty if it did not.
    """
    words = [sys.executable, "-m", "dvc", "--wait-for-lock", "exp", "run", "--temp", "--name", name]
    words += [word for override in overrides for word in ("-S", override)]
    # The `python` of the stages must be this one, also if its environment is not activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with log.open("w", encoding="utf-8") as file:
        # A session of its own: a stop reaches DVC, its stage and what that has started, once and together.
        process = subprocess.Popen(
            [*words, TARGET],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PATH": path},
            start_new_session=True,
        )
        try:
            failed = process.wait() != 0
        finally:
            _stop(process)
    return reason(log.read_text(encoding="utf-8", errors="replace")) if failed else ""


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C to a trial that still runs and all it has started, so that DVC gives back its locks."""
    if process.poll() is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(GRACE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def reason(log: str) -> str:
    """The line of a failed trial's log that says why: a stage's own message stands before DVC's."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    for before, line in itertools.pairwise(["", *lines]):
        if line.startswith("ERROR: "):
            of_stage = "failed to run:" in line and before and not before.startswith(">")
            return before if of_stage else line.removeprefix("ERROR: ")
    return lines[-1] if lines else "it ended without a word"


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
    name = trial_name(shown, values)
    log = folder / f"{name}.log"

    before = found = finished(name)
    failure = ""
    if before is None:
        of_all = f" of {plan['trials']}" if plan["trials"] else ""
        console.print(f"trial {settings.job.num + 1}{of_all}: {' '.join(shown)} …")
        failure = run(name, overrides, log)
        found = None if failure else finished(name)
        if found is None and not failure:
            failure = f"DVC kept no {layout.metrics(TARGET)} of it"
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
    head()
    _check_images_travel(Path(composed.data.raw))
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


def _check_images_travel(raw: Path) -> None:
    """A trial's copy of the project holds what git or DVC know, and no more."""
    if raw == layout.SAMPLE or raw.is_absolute() or any(Path(f"{path}.dvc").is_file() for path in (raw, *raw.parents)):
        return
    if not _git("ls-files", "--", str(raw)):
        raise ValueError(
            f"data.raw: expected {raw} to be known to DVC or git, so that a trial's copy of the project gets it; "
            f"run `dvc add {raw}`, then `git add {raw}.dvc`"
        )


def conclude(folder: Path) -> bool:
    """Print the sweep's trials, the best first, and where to look further.

    Returns:
        Whether a trial failed.
    """
    trials = [records.read_json(path) for path in folder.glob("*.json") if path.name != PLAN]
    trials.sort(key=lambda trial: (bool(trial["failure"]), trial["figures"].get(OBJECTIVE, 0), trial["shown"]))
    swept = list(records.read_json(folder / PLAN)["swept"])
    table = Table(*swept, "val loss", "val accuracy", "best epoch", "trial", box=None, header_style="bold")
    for trial in trials:
        given = dict(override.split("=", 1) for override in trial["overrides"])
        found, cells = trial["figures"], ["failed", "", ""]
        if found:
            cells = [f"{found['val_loss']:.4f}", f"{found['val_accuracy']:.1%}", str(found["best_epoch"])]
        table.add_row(*(given.get(key, "") for key in swept), *cells, trial["name"])
    # In a file or a pipe nothing need be cut to a screen's width.
    Console(width=None if console.is_terminal else 240, highlight=False, markup=False).print(table)
    failed = [trial for trial in trials if trial["failure"]]
    for trial in failed:
        console.print(f"failed: {trial['shown']}: {trial['failure']}")
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
