"""``thaw report``: the report of the test, from ``thaw.evaluation.report``, with examples in its help."""

import argparse
from typing import Any

from thaw.evaluation import report

EXAMPLES = """\
examples:
  thaw report
  thaw report --no-browser --output flowers.html      # one file, to pass on"""


def add(commands: Any) -> None:
    """Add ``report`` to the command ``thaw``: that of its module, on whose code the stage `evaluate` hangs."""
    report.add(commands)
    command = commands.choices["report"]
    command.epilog, command.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
