"""``thaw promote``: make a sweep's trial an experiment of conf/, which ``dvc repro`` reproduces to the bit.

All that its result depends on is written out, so that the file stays what it is when the defaults change. Where each
image went, ``prepare`` remembers in a file of its own, and the workspace must have the trial's. The test set is looked
at only when the promoted experiment is run: once, for the one trial that was chosen.
"""

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from thaw import console, paths
from thaw.config import load, tracked
from thaw.runtime import threads
from thaw.sweep import experiments, ranking, results
from thaw.sweep.results import TrialResult

EXPERIMENTS = paths.CONF / "experiment"
# What no phase depends on, or hardly any: it is written where it differs from what conf/ chooses.
LATER = ("compute", "evaluate", "export")
# What an experiment depends on or leaves in git besides its own file.
KEPT = (paths.MEMORY, paths.CHOSEN, paths.PARAMS, paths.DVC_LOCK, paths.METRICS)

EXAMPLES = """\
examples:
  thaw promote 'lr=0.0001 depth=30%'
  thaw promote 0123abcd --name gentle
  thaw promote 0123abcd --json

`thaw sweep-report` lists the trials of the last sweep and names the one that it proposes."""


def add(commands: Any) -> None:
    """Add ``promote`` to the command ``thaw``."""
    command = commands.add_parser(
        "promote",
        help="make a sweep's trial an experiment of conf/",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("trial", metavar="TRIAL", help="its name, the eight characters at its end, or its label")
    command.add_argument("--name", help="of the experiment (default: made of what was swept)")
    command.add_argument("--json", action="store_true", help="what was written, and the commands, as JSON")
    command.set_defaults(run=_promote)


def _promote(options: argparse.Namespace) -> None:
    sweep, record = find(options.trial)
    name = options.name or re.sub(r"[^\w-]+", "_", record.label).strip("_-")
    there = (EXPERIMENTS / f"{name}.yaml").exists()
    path = write(name, sweep, record)
    if options.json:
        told = {"trial": record.name, "sweep": sweep, "experiment": name, "file": path.as_posix(), "was_there": there}
        kept = [path.as_posix(), *(each.as_posix() for each in KEPT)]
        print(json.dumps(told | {"command": command(name, record), "commit": kept}, indent=2))
        return
    print(
        f"{path} {'was there already, the same' if there else 'written'}. Run it, look at the test once, and export:"
    )
    print(f"  {command(name, record)}")
    print("Commit what it depends on and what comes of it:")
    print(f"  git add {path.as_posix()} {' '.join(path.as_posix() for path in KEPT)}")


def command(name: str, record: TrialResult) -> str:
    """Return what runs the experiment, with as many threads as the trial, whose record is given."""
    wanted = record.measured.threads or threads.used()
    with_threads = "" if wanted == threads.used() else f"{threads.VARIABLE}={wanted} "
    return f"python -m thaw.config +experiment={name} && {with_threads}dvc repro"


def _threads(record: TrialResult) -> str:
    count = record.measured.threads
    return f" ({threads.VARIABLE}={count})" if count else ""


def find(wanted: str) -> tuple[str, TrialResult]:
    """Return the finished trial that is meant, in whichever sweep.

    A label repeats from sweep to sweep. Only what the current commit still has an experiment of can be promoted, so of
    several that is meant.

    Returns:
        The sweep's name and the trial's record.

    Raises:
        ValueError: none is meant, or more than one.
    """
    found: dict[str, tuple[str, TrialResult]] = {}
    for folder in sorted(paths.SWEEPS.glob("*/")):
        for record in results.read(folder):
            known = (record.name, record.name.rsplit("-", 1)[1], record.label)
            if not record.failure and wanted in known:
                found[record.name] = (folder.name, record)
    if len(found) > 1:
        there = {name: of for name, of in found.items() if experiments.files(name, [paths.PARAMS.as_posix()]) != [""]}
        found = there or found
    if len(found) == 1:
        return next(iter(found.values()))
    names = f"several: {', '.join(sorted(found))}" if found else "none; `thaw sweep-report` lists them"
    raise ValueError(f"{wanted}: expected one finished trial of a sweep in {paths.SWEEPS}, found {names}")


def write(name: str, sweep: str, record: TrialResult) -> Path:
    """Write conf/experiment/<name>.yaml, and the trial's memory of where each image went if there is none here.

    Args:
        name: of the experiment: letters, digits, - and _.
        sweep: the trial's sweep.
        record: the trial's.

    Raises:
        ValueError: there is another experiment of this name, the images are divided in another way here, or conf/ no
            longer composes to what the trial was.
    """
    if not re.fullmatch(r"\w[\w-]*", name):
        raise ValueError(f"--name: expected letters, digits, - and _, received {name!r}")
    wanted = [paths.PARAMS.as_posix(), paths.MEMORY.as_posix()]
    params, memory = experiments.files(record.name, wanted, record.commit)
    if not (params and memory):
        raise ValueError(f"{record.name}: expected its experiment in git, found none; {experiments.RERUN}")
    _check_memory(record.name, memory)
    values, default = _tracked(params), _tracked(load.compose((), ()))
    told = {group: of for group, of in values.items() if group not in LATER or of != default[group]}
    body = yaml.safe_dump(told, sort_keys=False, allow_unicode=True)
    text = f"# @package _global_\n{_comment(name, sweep, record)}\n{body}"
    path = EXPERIMENTS / f"{name}.yaml"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise ValueError(f"{path}: expected no such file yet, found another; choose a name with --name")
    if not path.exists():
        _write_experiment(path, text, values, record.name)
    _write_memory(memory)
    return path


def _write_memory(memory: str) -> None:
    """Write each image where the trial had it, and say where that takes the place of another file, which git has."""
    if _remembers(memory):
        return
    if paths.MEMORY.is_file():
        console.warn(
            f"{paths.MEMORY} is the trial's now, which had images elsewhere; what other images and other shares the "
            f"former file remembers is lost here, and `git checkout {paths.MEMORY.as_posix()}` takes it back"
        )
    paths.MEMORY.parent.mkdir(parents=True, exist_ok=True)
    paths.MEMORY.write_text(memory, encoding="utf-8", newline="\n")


def _remembers(memory: str) -> bool:
    """Return whether the memory here would draw each of the trial's images as the trial did; it may know more."""
    if not paths.MEMORY.is_file():
        return False
    there, here = json.loads(memory), json.loads(paths.MEMORY.read_text(encoding="utf-8"))
    own = [part["images"] for part in (here, *here.get("others", [])) if part.get("drawn_with") == there["drawn_with"]]
    return any(
        all(set(contents) <= set(images.get(split, ())) for split, contents in there["images"].items())
        for images in own
    )


def _check_memory(name: str, memory: str) -> None:
    """Refuse to write over a memory that git does not have."""
    if _remembers(memory):
        return
    if paths.MEMORY.is_file() and paths.MEMORY.read_text(encoding="utf-8") != experiments.committed(paths.MEMORY):
        raise ValueError(
            f"{paths.MEMORY}: expected each image where {name} had it, or a file that git has, found another "
            "division; commit or copy it if you need it, delete it, and promote again, which writes the trial's"
        )


def _write_experiment(path: Path, text: str, values: Mapping[str, Any], trial_name: str) -> None:
    """Write the file, unless the configuration that it makes is not that of the trial."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
    try:
        same = _tracked(load.compose([f"+experiment={path.stem}"], ())) == values
    except ValueError:
        path.unlink()
        raise
    if not same:
        path.unlink()
        raise ValueError(f"{trial_name}: conf/ has changed since and no longer composes to it; {experiments.RERUN}")


def _tracked(params: str) -> dict[str, Any]:
    """Return what of the text of a params.yaml a result depends on."""
    values: dict[str, Any] = yaml.safe_load(params)
    project, found = vars(load.check(values)), tracked.of_run(values)
    return {key: found[key] for key in project if key in found}


def _comment(name: str, sweep: str, record: TrialResult) -> str:
    figures, ranked = record.measured, ranking.ranked(record)
    interval = f"{ranked.low:.1%} to {ranked.high:.1%}, {ranked.images} images"
    return "\n".join(
        (
            f"# Promoted from the sweep {sweep}: {record.label}",
            f"#   python -m thaw.config +experiment={name} && dvc repro",
            f"# Expect: validation accuracy {figures.val_accuracy:.1%} ({interval}),",
            f"# loss {figures.val_loss:.6f}, best epoch {figures.best_epoch}:",
            f"# to the bit, with the same code, images, kind of processor and number of threads{_threads(record)}.",
            "# It was chosen by these figures, so they look better than they are. What it is worth says the test.",
        )
    )
