"""The command ``thaw``: its subcommands, each a function of the module that does the work."""

import argparse

from thaw import config, predict, promote, sweep_report


def main() -> None:
    parser = argparse.ArgumentParser("thaw", description="Fine-tune pretrained image models in two phases.")
    commands = parser.add_subparsers(dest="command", required=True)
    for module in (predict, sweep_report, promote):
        module.add(commands)
    options = parser.parse_args()
    config.run(lambda: options.run(options), f"thaw {options.command}")


if __name__ == "__main__":
    main()
