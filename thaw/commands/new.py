"""``thaw new``: a project of one's own, with its own images, in one command."""

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from thaw import paths

EXAMPLES = """\
examples:
  thaw new flowers --data ~/pictures/flowers
  thaw new flowers --data list.csv --backbone mobilenet_v3_small
  thaw new flowers --data ~/pictures/flowers --add image=px128 phase2.minutes=10
  thaw new flowers                                    # images come later, into flowers/data/raw"""


def add(commands: Any) -> None:
    """Add ``new`` to the command ``thaw``."""
    command = commands.add_parser(
        "new",
        help="make a project for your images",
        description="Make a DVC project in DIR, which is new or empty: pipeline, configuration, git.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("dir", metavar="DIR", type=Path, help="the project's folder")
    command.add_argument(
        "choices", nargs="*", default=[], metavar="GROUP=OPTION", help="choices, as `python -m thaw.config` takes"
    )
    command.add_argument("--data", metavar="PATH", help="a folder of images, or a .csv or .parquet of them")
    command.add_argument("--backbone", metavar="NAME", help="the network: `thaw backbones` lists them")
    command.add_argument("--preset", metavar="NAME", help="a recipe of conf/experiment, such as article")
    where = command.add_mutually_exclusive_group()
    where.add_argument("--link", action="store_true", help="read the images where they lie (default)")
    where.add_argument("--add", action="store_true", help="let DVC keep a copy of the images in the project")
    command.add_argument("--json", action="store_true", help="what was made, as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Make it, and say what comes next."""
    from thaw.project import create  # noqa: PLC0415 -- Hydra, which the help need not wait for

    if options.add and not options.data:
        raise ValueError("--add: expected --data FOLDER, the images that DVC is to keep, received none")
    if options.data is not None:
        create.check_named(options.data, "--data")
    _check_choices(options)
    words = [f"+experiment={options.preset}"] if options.preset else []
    words += [f"backbone={options.backbone}"] if options.backbone else []
    made = create.make(options.dir, options.data or "", [*words, *options.choices], keep=options.add)
    if options.json:
        print(json.dumps(vars(made) | {"folder": str(made.folder)}, indent=2))
        return
    print(f"{made.folder}: a project on the images of {made.raw}{_with(made.choices)}")
    if made.repository == "yours":
        print("nothing was committed to your repository; experiments need it: git add it and commit")
    elif not made.committed:
        print(f"nothing is committed, which experiments need: {made.uncommitted}")
    if not options.data:
        _print_place(made.folder, made.raw, options.dir)
    print(f"next: cd {_word(options.dir)} && thaw run")


def _print_place(folder: Path, raw: str, typed: Path) -> None:
    """Say where images are expected that were not given by ``--data``."""
    if paths.is_remote(raw) or paths.is_there(folder / raw):
        return
    if raw == "data/raw":
        print(f"put your images into {typed / raw}, a folder for each class")
    else:
        place = paths.whole(folder / raw)
        print(f"data.raw={raw} is a path from the project on: put your images into {place}, or name them by --data")


def _check_choices(options: argparse.Namespace) -> None:
    """Refuse words that are no choices: images given without --data, or a name with blanks in it."""
    for word in options.choices:
        if "=" in word or word.startswith("~"):
            continue
        if Path(word).exists() and not options.data:
            raise ValueError(
                f"{word}: expected GROUP=OPTION after DIR; if these are the images: --data {_word(Path(word))}"
            )
        raise ValueError(f"{word}: expected GROUP=OPTION after DIR; quote a name with blanks")


def _word(folder: Path) -> str:
    """Return a path as a shell takes it for one: Path leaves out the ./ that keeps - from being an option."""
    return shlex.quote(f"./{folder}" if str(folder).startswith("-") else str(folder))


def _with(choices: list[str]) -> str:
    own = [word for word in choices if not word.startswith("data.raw=")]
    return f", {shlex.join(own)}" if own else ""
