"""The command ``thaw``: each subcommand is a function of the module that does the work."""

import argparse

from thaw import pipes
from thaw.config import load
from thaw.evaluation import report
from thaw.serving import predict
from thaw.sweep import promote
from thaw.sweep import report as sweep_report


@pipes.reader_may_leave()
def main() -> None:
    parser = argparse.ArgumentParser("thaw", description="Fine-tune pretrained image models in two phases.")
    commands = parser.add_subparsers(dest="command", required=True)
    for module in (predict, report, sweep_report, promote):
        module.add(commands)
    options = parser.parse_args()
    command = pipes.reader_may_leave()(options.run)  # here too, or config.run would call it an error
    load.run(lambda: command(options), f"thaw {options.command}")


if __name__ == "__main__":
    main()
