"""``thaw sweep``: a hyperparameter sweep, as ``python -m thaw.sweep`` runs it."""

import argparse
import sys
from typing import Any

EXAMPLES = """\
examples:
  thaw sweep phase2.learning_rate=1e-4,3e-4 phase2.unfreeze=30%,75%
  thaw sweep --retry-failed
  thaw sweep-report

All words are given to Hydra, as `python -m thaw.sweep` does; the guide on sweeps has samplers and launchers."""


def add(commands: Any) -> None:
    """Add ``sweep`` to the command ``thaw``."""
    command = commands.add_parser(
        "sweep",
        help="try several configurations, one isolated experiment each",
        description="Run every combination of the values, or those of conf/sweep.yaml.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("choices", nargs="*", default=[], metavar="GROUP.FIELD=VALUE,VALUE", help="what to try")
    command.add_argument("-m", "--multirun", action="store_true", help="understood, as Hydra does; it is always meant")
    command.add_argument("--retry-failed", action="store_true", help="run trials again that have failed before")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Hand over to Hydra."""
    from thaw.sweep import multirun  # noqa: PLC0415 -- Hydra and DVC, which the help need not wait for

    sys.argv[1:] = [*options.choices, *([multirun.RETRY] if options.retry_failed else [])]
    multirun.main()
