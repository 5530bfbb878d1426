"""``thaw run``: compile the configuration, run what has changed, and say what came of it."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

EXAMPLES = """\
examples:
  thaw run                                            # what has changed since the last run
  thaw run --fast                                     # a first look, on some of the images
  thaw run --fast backbone=resnet50                   # the same with another network, for this time
  thaw run backbone=mobilenet_v3_small phase2.epochs=20    # remembered from then on

exit codes: 0 done, 1 a stage or the configuration is wrong, 2 wrong words on the command line, 130 interrupted"""


def add(commands: Any) -> None:
    """Add ``run`` to the command ``thaw``."""
    command = commands.add_parser(
        "run",
        help="run what has changed, and say what came of it",
        description="Compile conf/ to params.yaml, run `dvc repro`, and say the verdict and where the report lies.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "choices",
        nargs="*",
        default=[],
        metavar="GROUP=OPTION",
        help="choices to remember, as thaw.config takes; with --fast they hold for this look only",
    )
    command.add_argument("--reset", action="store_true", help="forget what was chosen before")
    command.add_argument(
        "--fast", action="store_true", help="a first look on some of the images, which changes and remembers nothing"
    )
    command.add_argument("--json", action="store_true", help="the outcome as JSON; what stages say goes to stderr")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Do it."""
    from thaw.config import composition, load  # noqa: PLC0415 -- Hydra and DVC, which the help need not wait for
    from thaw.project import first_look, pipeline_run, stale  # noqa: PLC0415

    pipeline_run.check_here()
    made = composition.make(options.choices, reset=options.reset)
    values = made.values()
    pipeline_run.check_images(values["data"]["raw"])  # what is refused is not remembered
    line = ""
    if options.fast:
        found, line = first_look.run(load.check(values), values, quiet=options.json)
    else:
        for said in filter(None, (composition.remember(made), stale.upgrade())):
            print(said, file=sys.stderr if options.json else sys.stdout)
        pipeline_run.reproduce(Path(), *pipeline_run.targets(), quiet=options.json)
        found = pipeline_run.outcome(Path())
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print("\n".join([*filter(None, [line]), *pipeline_run.lines(found)]))
