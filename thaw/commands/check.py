"""``thaw check``: what `prepare` would say of images, before anything is set up, and without writing anything."""

import argparse
import contextlib
import json
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from thaw import console, paths, pipes

SHOWN = 3  # findings of a kind that are named
# Where `prepare` says that it has written a list, which is not written here.
LISTED = re.compile(rf"[;:] {re.escape(paths.QUARANTINE.as_posix())} lists [^;]*")
EXAMPLES = """\
examples:
  thaw check ~/pictures/flowers
  thaw check list.csv --json
  thaw check ~/pictures/flowers data.nested=true data.policy.small=keep

exit codes: 0 prepare would go on, 1 it would stop"""


def add(commands: Any) -> None:
    """Add ``check`` to the command ``thaw``."""
    command = commands.add_parser(
        "check",
        help="what prepare would say of a folder of images, or a table of them",
        description="Read every image of DIR as the stage prepare does, and say the same. Nothing is written.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("dir", metavar="DIR", help="a folder of images, or a .csv or .parquet of them")
    command.add_argument(
        "choices", nargs="*", default=[], metavar="GROUP.FIELD=VALUE", help="such as data.nested=true"
    )
    command.add_argument("--json", action="store_true", help="all that was found, as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Look, and say it."""
    found, stops = look(options.dir, options.choices)
    print(json.dumps(found | {"stops": stops or None}, indent=2) if options.json else "\n".join(lines(found)))
    if stops:
        raise ValueError(f"prepare would stop: {stops}")


def look(raw: str, words: list[str]) -> tuple[dict[str, Any], str]:
    """Return the figures of ``prepare`` for images, and why it would stop; empty if it would not.

    Args:
        raw: a folder, or a table, or an address in an object store, which is downloaded for the time being.
        words: choices on top of the project's, or of the defaults outside of one.

    Raises:
        ValueError: nothing is there, it is not laid out as expected, or a choice is wrong.
    """
    import yaml  # noqa: PLC0415 -- Hydra and the decoders, which the help need not wait for

    from thaw.config import load  # noqa: PLC0415
    from thaw.data import splits, validation  # noqa: PLC0415
    from thaw.project import create, template  # noqa: PLC0415

    create.check_named(raw, "DIR")
    create.check_once(raw, words)
    whole = raw if paths.is_remote(raw) else str(paths.whole(raw))
    if not paths.is_remote(raw) and not Path(whole).exists():
        raise ValueError(f"expected a folder of images, or a table of them, found nothing at {whole}")
    at_home = paths.CONF.is_dir()
    with contextlib.chdir(Path() if at_home else template.source()):
        choices = ["data=folder", f"data.raw={whole}", *words]
        data = load.check(yaml.safe_load(load.compose(choices, None if at_home else ()))).data
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        found = validation.read(data, console.track)
        figures: dict[str, Any] = validation.figures(found) | {"classes": dict(_sizes(found)), "splits": {}}
        try:
            validation.check(found, data)
            division = splits.divide(found.samples, data, {})
        except ValueError as error:
            return figures, LISTED.sub("", str(error))
        figures |= splits.figures(found.samples, found.classes, division) | {"classes": figures["classes"]}
        figures["warnings"] = list(splits.warnings(found.samples, division))
    return figures, ""


def _sizes(found: Any) -> list[tuple[str, int]]:
    counts = Counter(sample.label for sample in found.samples)
    return [(label, counts[label]) for label in found.classes]


def lines(found: dict[str, Any]) -> list[str]:
    """Return the figures in lines for people."""
    sizes = found["classes"]
    total = sum(sizes.values())
    said = [f"{total:,} usable images of {len(sizes)} classes"]
    if sizes:
        least, most = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
        one = f", {sizes[least]:,} each"
        said[0] += (
            one
            if sizes[least] == sizes[most]
            else (
                f", {sizes[least]:,} ({pipes.on_one_line(least)}) to {sizes[most]:,} ({pipes.on_one_line(most)}) each"
            )
        )
    if found["splits"]:
        said.append("split: " + ", ".join(f"{each['images']:,} {name}" for name, each in found["splits"].items()))
        alike = found["near_duplicates"]
        said.append(
            f"duplicates: {found['duplicates']:,} with the bytes of another; near-duplicates: {alike['images']:,} "
            f"images in {alike['clusters']:,} groups, each kept in one split; "
            f"{found['label_conflicts']:,} label conflicts"
        )
    said.append(f"left out: {found['refused']:,} files; passed over: {found['ignored']:,} hidden ones")
    for kind, count in found["kinds"].items():
        listed = [each for each in (*found["quarantine"], *found["kept"]) if each["kind"] == kind]
        if count:
            said.append(f"{kind}: {count:,} {listed[0]['action']}: {listed[0]['remedy']}")
            said += [f"  {pipes.on_one_line(each['path'])}: {each['reason']}" for each in listed[:SHOWN]]
            said += [f"  … and {count - SHOWN:,} more"] if count > SHOWN else []
    return said + [f"warning: {text}" for text in found.get("warnings", [])]
