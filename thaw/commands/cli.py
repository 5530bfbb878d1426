"""The command ``thaw``: each subcommand is a function of the module that does the work, and only that is imported."""

import argparse
import contextlib
import difflib
import importlib
import io
import re
import sys
from collections.abc import Iterable
from importlib.metadata import version

from thaw import pipes

# By subcommand: the module whose ``add`` adds it. `thaw predict` answers within half a second: it waits for no other.
MODULES = {
    "new": "thaw.commands.new",
    "check": "thaw.commands.check",
    "run": "thaw.commands.run",
    "explain": "thaw.commands.explain",
    "report": "thaw.commands.report",
    "predict": "thaw.serving.predict",
    "serve": "thaw.serving.serve",
    "demo": "thaw.serving.demo",
    "sweep": "thaw.commands.sweep",
    "sweep-report": "thaw.sweep.report",
    "promote": "thaw.sweep.promote",
    "champion": "thaw.commands.champion",
    "verify": "thaw.commands.verify",
    "backbones": "thaw.commands.networks",
    "ui": "thaw.commands.ui",
    "completion": "thaw.commands.completion",
}
EPILOG = """\
`thaw COMMAND --help` has examples. Exit codes: 0 done, 1 refused or failed, with one
line that says why, 2 wrong words on the command line, 130 interrupted."""


def parser(asked: Iterable[str] = MODULES) -> argparse.ArgumentParser:
    """Return the parser of the command with some of its subcommands."""
    made = argparse.ArgumentParser(
        "thaw",
        description="Fine-tune pretrained image models in two phases.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"thaw {version('thaw')}")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in asked:
        importlib.import_module(MODULES[name]).add(commands)
    return made


def parse(words: list[str]) -> argparse.Namespace:
    """Return the options of a command line that begins with a subcommand; a mistake in it ends the process."""
    reader = parser([words[0]] if words[0] in MODULES else MODULES)
    options, more = reader.parse_known_args(words)
    if more and ("choices" not in options or any(word.startswith("-") for word in more)):
        reader.error(f"unrecognized arguments: {' '.join(more)}{_nearest(reader, options.command, more)}")
    if more:
        options.choices += more  # argparse takes positional words of no fixed number in one row only
    return options


@pipes.reader_may_leave()
def main() -> None:
    if sys.argv[1:2] == ["help"]:  # as of many commands: `thaw help run` is `thaw run --help`
        sys.argv[1:] = [*sys.argv[2:3], "--help"]
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    if first and not first.startswith("-") and first not in MODULES:
        print(f"thaw: {pipes.shown(first)}: {_unknown(first)}", file=sys.stderr)
        sys.exit(2)
    if not first:
        parser().print_help(sys.stderr)
        sys.exit(2)
    options = parse(sys.argv[1:])
    command = pipes.reader_may_leave()(options.run)  # here too, or pipes.run would call it an error
    resumes = options.command == "run" and not options.fast  # the others begin anew; a sweep speaks for itself
    pipes.run(lambda: command(options), f"thaw {options.command}", resumes=resumes)


def _nearest(reader: argparse.ArgumentParser, command: str, words: Iterable[str]) -> str:
    """Return which options of a command are near those that it does not have; empty if none is."""
    held = io.StringIO()
    with contextlib.redirect_stdout(held), contextlib.suppress(SystemExit):
        reader.parse_args([command, "--help"])
    known = re.findall(r"--[a-z][\w-]+", held.getvalue().partition("options:")[2])
    near = [each for word in words for each in difflib.get_close_matches(word.partition("=")[0], known, n=1)]
    return f"; did you mean {' '.join(near)}?" if near else ""


def _unknown(word: str) -> str:
    near = difflib.get_close_matches(word, MODULES, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(MODULES)}"
    return f"no such command; {hint}"


if __name__ == "__main__":
    main()
