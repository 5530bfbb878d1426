"""The command ``thaw``: each subcommand is a function of the module that does the work."""

import argparse

from thaw import pipes
from thaw.commands import new
from thaw.config import load
from thaw.serving import predict
from thaw.sweep import promote, report


@pipes.reader_may_leave()
def main() -> None:
    parser = argparse.ArgumentParser("thaw", description="Fine-tune pretrained image models in two phases.")
    commands = parser.add_subparsers(dest="command", required=True)
    for module in (new, predict, report, promote):
        module.add(commands)
    options, more = parser.parse_known_args()
    if more and ("choices" not in options or any(word.startswith("-") for word in more)):
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    if more:
        options.choices += more  # argparse takes positional words of no fixed number in one row only
    command = pipes.reader_may_leave()(options.run)  # here too, or config.run would call it an error
    load.run(lambda: command(options), f"thaw {options.command}")


if __name__ == "__main__":
    main()
