"""``thaw completion``: a script that completes subcommands, options and files in a shell."""

import argparse
from typing import Any

SHELLS = ("bash", "zsh", "fish")
EXAMPLES = """\
examples:
  thaw completion bash > ~/.local/share/bash-completion/completions/thaw
  thaw completion zsh > ~/.zfunc/_thaw                # with fpath+=~/.zfunc before compinit in ~/.zshrc
  thaw completion fish > ~/.config/fish/completions/thaw.fish"""


def add(commands: Any) -> None:
    """Add ``completion`` to the command ``thaw``."""
    command = commands.add_parser(
        "completion",
        help="print the completion of a shell",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("shell", choices=SHELLS)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print it."""
    import shtab  # noqa: PLC0415 -- only here

    from thaw.commands import cli  # noqa: PLC0415 -- which imports this module

    print(shtab.complete(cli.parser(), shell=options.shell))
