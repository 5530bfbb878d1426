"""``thaw promote``: a sweep's trial becomes an experiment of conf/, which ``dvc repro`` reproduces to the bit.

All that its result depends on is written out, so that the file stays what it is when the defaults change. The test set
is looked at only when the promoted experiment is run: once, for the one trial that was chosen.
"""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from thaw import config, layout, metrics, ranking, sweep_table, trial

EXPERIMENTS = layout.CONF / "experiment"
# Groups that no phase depends on: they are written where they differ from what conf/ chooses.
LATER = ("evaluate", "export")


def add(commands: Any) -> None:
    """Add ``promote`` to the command ``thaw``."""
    command = commands.add_parser("promote", help="make a sweep's trial an experiment of conf/")
    command.add_argument("trial", metavar="TRIAL", help="its name, the eight characters at its end, or its label")
    command.add_argument("--name", help="of the experiment (default: made of what was swept)")
    command.set_defaults(run=_promote)


def _promote(options: argparse.Namespace) -> None:
    sweep, record = find(options.trial)
    name = options.name or re.sub(r"[^\w-]+", "_", record["label"]).strip("_-")
    path = write(name, sweep, record)
    print(f"{path} written. Run it, look at the test once, and export:")
    print(f"  {command(name)}")


def command(name: str) -> str:
    """What runs the experiment."""
    return f"python -m thaw.config +experiment={name} && dvc repro"


def find(wanted: str) -> tuple[str, dict[str, Any]]:
    """The finished trial that is meant, in whichever sweep.

    Returns:
        The sweep's name and the trial's record.

    Raises:
        ValueError: none is meant, or more than one.
    """
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for folder in sorted(layout.SWEEPS.glob("*/")):
        for record in sweep_table.read(folder):
            known = (record["name"], record["name"].rsplit("-", 1)[1], record["label"])
            if not record["failure"] and wanted in known:
                found[record["name"]] = (folder.name, record)
    if len(found) == 1:
        return next(iter(found.values()))
    names = f"several: {', '.join(sorted(found))}" if found else "none; `thaw sweep-report` lists them"
    raise ValueError(f"{wanted}: expected one finished trial of a sweep in {layout.SWEEPS}, found {names}")


def write(name: str, sweep: str, record: Mapping[str, Any]) -> Path:
    """Write conf/experiment/<name>.yaml.

    Args:
        name: of the experiment: letters, digits, - and _.
        sweep: the trial's sweep.
        record: the trial's.

    Raises:
        ValueError: there is another experiment of this name, or conf/ no longer composes to what the trial was.
    """
    if not re.fullmatch(r"\w[\w-]*", name):
        raise ValueError(f"--name: expected letters, digits, - and _, received {name!r}")
    (params,) = trial.files(record["name"], [layout.PARAMS.as_posix()], record.get("commit", ""))
    if not params:
        raise ValueError(f"{record['name']}: expected its experiment in git, found none; {trial.RERUN}")
    values, default = _tracked(params), _tracked(config.compose())
    told = {group: of for group, of in values.items() if group not in LATER or of != default[group]}
    body = yaml.safe_dump(told, sort_keys=False, allow_unicode=True)
    text = f"# @package _global_\n{_comment(name, sweep, record)}\n{body}"
    path = EXPERIMENTS / f"{name}.yaml"
    if path.exists():
        if path.read_text(encoding="utf-8") == text:
            return path
        raise ValueError(f"{path}: expected no such file yet, found another; choose a name with --name")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
    try:
        same = _tracked(config.compose([f"+experiment={name}"])) == values
    except ValueError:
        path.unlink()
        raise
    if not same:
        path.unlink()
        raise ValueError(f"{record['name']}: conf/ has changed since and no longer composes to it; {trial.RERUN}")
    return path


def _tracked(params: str) -> dict[str, Any]:
    """The groups of the text of a params.yaml that a result depends on."""
    values: dict[str, Any] = yaml.safe_load(params)
    project = vars(config.check(values))
    return {key: values[key] for key in project if key not in (*config.UNTRACKED, "compiled_from")}


def _comment(name: str, sweep: str, record: Mapping[str, Any]) -> str:
    figures, images = record["figures"], trial.counted(record["name"], record.get("commit", ""))
    low, high = metrics.wilson(round(figures["val_accuracy"] * images), images, ranking.CONFIDENCE)
    return "\n".join(
        (
            f"# Promoted from the sweep {sweep}: {record['label']}",
            f"#   {command(name)}",
            f"# Expect: validation accuracy {figures['val_accuracy']:.1%} ({low:.1%} to {high:.1%}, {images} images),",
            f"# loss {figures['val_loss']:.6f}, best epoch {figures['best_epoch']}:",
            "# to the bit, with the same code, images and kind of processor.",
            "# It was chosen by these figures, so they look better than they are. What it is worth says the test.",
        )
    )
