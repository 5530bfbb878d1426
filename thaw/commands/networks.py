"""``thaw backbones``: the table of networks, or the blocks of one, as ``python -m thaw.backbone`` prints them."""

import argparse
from typing import Any

EXAMPLES = """\
examples:
  thaw backbones
  thaw backbones efficientnet_lite0
  thaw backbones mobilenet_v3_small 96
  thaw backbones --json"""


def add(commands: Any) -> None:
    """Add ``backbones`` to the command ``thaw``."""
    command = commands.add_parser(
        "backbones",
        help="list the networks, or the blocks of one that phase2.unfreeze can name",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("name", nargs="?", metavar="NAME", help="a network")
    command.add_argument("size", nargs="?", metavar="SIZE", help="of its input in pixels (default: as pretrained)")
    command.add_argument("--json", action="store_true", help="the same as JSON; shares of computation are 0 to 1")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print it."""
    from thaw.commands import backbones  # noqa: PLC0415 -- OmegaConf, which the help need not wait for

    backbones.main([word for word in (options.name, options.size) if word], as_json=options.json)
