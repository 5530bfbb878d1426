"""``thaw explain``: what is configured and stale, how long it may take; or what a field of it means."""

import argparse
import contextlib
import json
import shutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from thaw import console, forecast, paths, records, timings

if TYPE_CHECKING:  # OmegaConf, which the help need not wait for
    from thaw.config import schema

SHOWN = ("data.raw", "backbone.name", "image.size", "augment.views", "head.units", "phase2.unfreeze", "phase2.epochs")
NEEDED = ("phase2.learning_rate", "phase2.minutes", "export.formats")
PHASES = ("phase1", "phase2")
LOOK = "first_look"  # the notes that one leaves
MEASURES = "nothing like it has run here; `thaw run --fast` measures it"
EXAMPLES = """\
examples:
  thaw explain
  thaw explain phase2.learning_rate
  thaw explain phase2 --json"""


def add(commands: Any) -> None:
    """Add ``explain`` to the command ``thaw``."""
    command = commands.add_parser(
        "explain",
        help="what is configured, what is stale and why, how long it may take; or what a field means",
        description="Without KEY: configuration, stale stages, time and disk, before anything runs. With KEY, a field "
        "or a group: meaning, range, default, value here, and what a change of it runs again.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("key", nargs="?", metavar="KEY", help="such as phase2.learning_rate or phase2")
    command.add_argument("--json", action="store_true", help="the same as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Say it."""
    if options.key:
        found = [field(name) for name in named(options.key)]
        text = "\n\n".join(_field_lines(each) for each in found)
        print(json.dumps(found, indent=2) if options.json else text)
    else:
        whole = project()
        print(json.dumps(whole, indent=2) if options.json else "\n".join(_project_lines(whole)))


def named(key: str) -> list[str]:
    """Return the fields that a key names: one, or those of a group.

    Raises:
        ValueError: there is none; the nearest is proposed.
    """
    from thaw.config import errors, fields  # noqa: PLC0415 -- OmegaConf, which the help need not wait for

    known = fields.every()
    found = [name for name in known if name == key or name.startswith(f"{key}.")]
    if not found:
        group, _, last = key.rpartition(".")
        inside = [name.removeprefix(f"{group}.") for name in known if group and name.startswith(f"{group}.")]
        if inside:
            near = [f"{group}.{name}" for name in errors.nearest(last, inside)]
        elif group:
            near = errors.nearest(key, known)
        else:
            meant = errors.nearest(key, [*fields.GROUPS, *dict.fromkeys(name.rpartition(".")[2] for name in known)])
            near = [name for name in (*fields.GROUPS, *known) if name.rpartition(".")[2] in meant[:1]]
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(inside or fields.GROUPS)}"
        raise ValueError(f"{key}: expected a field or a group of params.yaml; {hint}")
    return found


def field(name: str) -> dict[str, Any]:
    """Return what is known of a field: meaning, type, range, default, value here, what runs again."""
    from thaw.config import fields, tracked  # noqa: PLC0415 -- as above
    from thaw.project import stale, template  # noqa: PLC0415

    known = fields.every()[name]
    limits = known.range
    if limits and limits.choices:
        said = ", ".join(limits.choices)
    elif limits:
        said = " ".join(
            filter(None, [fields.number(limits.low or 0), "to", fields.number(limits.high or 0), limits.unit])
        )
    else:
        said = "true, false" if known.kind is bool else ""
    group = name.partition(".")[0]
    found = {"field": name, "meaning": known.meaning, "range": known.stated or said, "default": _at(_defaults(), name)}
    if paths.PARAMS.is_file():
        found["here"] = _at(yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8")), name)
    by_itself = name.partition(".")[2] in tracked.TRACKED.get(group, {})
    found["runs again"] = stale.runs_again(name if by_itself else group, template.stages())
    if group in tracked.UNTRACKED and not by_itself:
        found["runs again"] = []
        found["note"] = tracked.UNTRACKED[group]
    return found


@cache
def _defaults() -> dict[str, Any]:
    """Return what the package's conf/ compiles to with the images of a folder."""
    from thaw.config import load  # noqa: PLC0415 -- as above
    from thaw.project import template  # noqa: PLC0415

    with contextlib.chdir(template.source()):
        found: dict[str, Any] = yaml.safe_load(load.compose(["data=folder"], ()))
    return found


def _at(tree: Any, name: str) -> Any:
    for part in name.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _field_lines(found: dict[str, Any]) -> str:
    again = found["runs again"]
    lines = [f"{found['field']}: {found['meaning']}"]
    lines += [f"  {key}: {found[key]}" for key in ("range", "default", "here") if key in found]
    lines.append(f"  a change runs again: {', '.join(again) if again else 'nothing'}")
    return "\n".join([*lines, *([f"  {found['note']}"] if "note" in found else [])])


def project() -> dict[str, Any]:
    """Return what is configured here, what is stale, and estimates of time and disk.

    Raises:
        ValueError: this is no project, or its configuration is wrong.
    """
    from thaw.config import chosen, load  # noqa: PLC0415 -- as above
    from thaw.project import pipeline_run, stale  # noqa: PLC0415

    pipeline_run.check_here()
    settings, values = load.read()
    found = stale.reasons()
    return {
        "configuration": {name: _at(values, name) for name in (*SHOWN, *NEEDED)},
        "chosen": chosen.read(paths.CONF),
        "stale": found,
        "time": times(settings, found),
        "disk": disk(settings),
    }


def times(settings: "schema.Project", stale: dict[str, list[str]]) -> dict[str, float | None]:
    """Return the seconds that each costly step of what is stale may take at most, as earlier runs here took.

    None where nothing like it was measured here. Steps: the frozen layers for all views (nothing where the
    activations are in the cache), and the epochs of both phases.
    """
    images = _images(settings)
    if not images:
        return dict.fromkeys(("extraction", *PHASES))
    needed = {"extraction": "phase1_head", "phase1": "phase1_head", "phase2": "phase2_finetune"}
    known = forecast.seconds(settings, images)
    return {what: known[what] for what, stage in needed.items() if stage in stale}


def _images(settings: "schema.Project") -> dict[str, int]:
    """Return how many images there are to train on and to validate with; {} where that is not known yet.

    `prepare` has counted them; before that a first look has, and they are divided by the shares.
    """
    if paths.metrics("prepare").is_file():
        splits = records.read_json(paths.metrics("prepare"))["splits"]
        return {name: splits[name]["images"] for name in ("train", "val")}
    counted = [line["images"] for line in timings.lines(what=LOOK, raw=settings.data.raw)]
    if not counted:
        return {}
    val, test = (round(counted[-1] * share) for share in (settings.data.val, settings.data.test))
    return {"train": counted[-1] - val - test, "val": val}


def disk(settings: "schema.Project") -> dict[str, float | None]:
    """Return GB (10⁹ bytes): what the activation cache holds, needs and may hold at most, and what is free.

    What is needed is known by what a first look took for each view, and None without one.
    """
    from thaw.project import first_look  # noqa: PLC0415 -- as above

    folder = Path(settings.compute.cache_dir or paths.main_root() / ".thaw" / "activations")
    free = shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.is_dir())).free
    about = {"backbone": settings.backbone.name, "size": settings.image.size, "unfreeze": settings.phase2.unfreeze}
    looks = list(timings.lines(what=LOOK, stored_as=settings.phase2.stored_as, **about))
    images = _images(settings)
    needed = looks[-1]["bytes"] / looks[-1]["views"] * forecast.views(settings, images) if looks and images else None
    return {
        "cache": round(first_look.cached(settings) / 1e9, 3),
        "cache_needs": None if needed is None else float(f"{needed / 1e9:.2g}"),
        "cache_at_most": settings.compute.cache_gb,
        "free": round(free / 1e9, 1),
    }


def _project_lines(found: dict[str, Any]) -> list[str]:
    lines = ["configuration:", *(f"  {name}: {value}" for name, value in found["configuration"].items())]
    lines.append(f"chosen: {' '.join(found['chosen']) or 'nothing'}")
    lines.append("stale:" if found["stale"] else "stale: nothing")
    lines += [f"  {name}: {'; '.join(why)}" for name, why in found["stale"].items()]
    for what, seconds in found["time"].items() if found["stale"] else ():
        told = f"unknown yet, {MEASURES}" if seconds is None else f"{console.duration(seconds)}"
        lines.append(f"time of {what}: {'at most about ' if seconds is not None else ''}{told}")
    disk = found["disk"]
    needs = "unknown yet" if disk["cache_needs"] is None else f"about {disk['cache_needs']:g} GB"
    lines.append(
        f"disk: activation cache {disk['cache']:g} GB, needs {needs}, at most {disk['cache_at_most']:g} GB by "
        f"compute.cache_gb; {disk['free']:g} GB free"
    )
    return lines
