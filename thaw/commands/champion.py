"""``thaw champion``: list the exports in MLflow's registry, and say which of them is the champion."""

import argparse
import contextlib
import json
import sys
from typing import Any

from thaw.evaluation import intervals
from thaw.tracking import registry

ACCURACY = "thaw.test_accuracy"  # a tag of a version
EXAMPLES = """\
examples:
  thaw champion                                       # all versions, the champion with a star
  thaw champion 3                                     # if it is better, by the paired test
  thaw champion 3 --force
  thaw champion --json"""


def add(commands: Any) -> None:
    """Add ``champion`` to the command ``thaw``."""
    command = commands.add_parser(
        "champion",
        help="list the registered exports, or make one the champion",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("version", nargs="?", help="of the registered model (default: list all)")
    command.add_argument("--force", action="store_true", help="also where the paired test does not call it better")
    command.add_argument("--json", action="store_true", help="the same as JSON")
    command.set_defaults(run=_champion)


def _champion(options: argparse.Namespace) -> None:
    if options.force and not options.version:
        raise ValueError("--force: expected a version with it, received none; `thaw champion` lists them")
    with contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext():
        registry.make_up(intervals.mcnemar)
    client, name = registry.settings()
    if options.version:
        said = registry.challenge(client, name, options.version, intervals.mcnemar, force=options.force)
        if not options.json:
            print(f"version {options.version} of {name}: {said}")
            return
    found = registry.versions(client, name)
    if not found:
        raise ValueError(f"expected a registered version of {name}, found none; `dvc repro` registers what it exports")
    holder = registry.champion(client, name)
    if options.json:
        versions = [
            {
                "version": str(each.version),
                "champion": holder is not None and str(each.version) == str(holder.version),
                "test_accuracy": float(each.tags[ACCURACY]) if ACCURACY in each.tags else None,
                "reason": each.tags.get(registry.REASON, ""),
            }
            for each in found
        ]
        print(json.dumps({"model": name, "versions": versions}, indent=2))
        return
    for each in found:
        mark = "*" if holder and str(each.version) == str(holder.version) else " "
        accuracy = float(each.tags.get(ACCURACY, "nan"))
        print(f"{mark} {each.version}\t{accuracy:.1%}\t{each.tags.get(registry.REASON, '')}")
