"""The command ``thaw``: each subcommand is a function of the module that does the work, and only that is imported."""

import argparse
import importlib
import sys

from thaw import pipes

# By subcommand: the module whose ``add`` adds it. `thaw predict` answers within half a second: it waits for no other.
MODULES = {
    "predict": "thaw.serving.predict",
    "serve": "thaw.serving.serve",
    "demo": "thaw.serving.demo",
    "report": "thaw.evaluation.report",
    "sweep-report": "thaw.sweep.report",
    "promote": "thaw.sweep.promote",
    "champion": "thaw.commands.champion",
    "verify": "thaw.commands.verify",
}


@pipes.reader_may_leave()
def main() -> None:
    parser = argparse.ArgumentParser("thaw", description="Fine-tune pretrained image models in two phases.")
    commands = parser.add_subparsers(dest="command", required=True)
    asked = MODULES.get(sys.argv[1] if len(sys.argv) > 1 else "")
    for module in [asked] if asked else MODULES.values():
        importlib.import_module(module).add(commands)
    options = parser.parse_args()
    command = pipes.reader_may_leave()(options.run)  # here too, or pipes.run would call it an error
    pipes.run(lambda: command(options), f"thaw {options.command}")


if __name__ == "__main__":
    main()
