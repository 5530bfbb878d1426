"""``thaw verify EXPORT``: compare an export with what it says of itself. It needs no project, only the files."""

import json
from pathlib import Path
from typing import Any

from thaw import console, paths, records
from thaw.commands.comparison import OTHER, SAME, Finding
from thaw.exports import formats, hashes

# What each format carries of labels.json, where it can.
CARRIED = ("classes", "image", "pixels", "temperature", "provenance")


def report(path: Path, *, as_json: bool = False) -> None:
    """Say of each file whether it is the one that was exported, and what all came of.

    Args:
        path: a folder that the stage `export` wrote, or a file or folder in one.
        as_json: print all findings as JSON instead.

    Raises:
        ValueError: there is no export, or it is not what was written.
    """
    folder = path if (path / paths.HASHES).is_file() or not (path.parent / paths.HASHES).is_file() else path.parent
    found = findings(folder)
    wrong = [each for each in found if each.verdict != SAME]
    about = records.read_json(folder / paths.LABELS)
    if as_json:
        whole = {"as_exported": not wrong, "provenance": about.get("provenance", {})}
        print(json.dumps(whole | {"findings": list(map(vars, found))}, indent=2))
    for each in found if not as_json else ():
        console.result(each.verdict, f"{each.path}{each.note and f': {each.note}'}")
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise ValueError(
            f"not what was exported: {wrong[0].path}{more}; copy the whole folder again, or run `dvc pull`"
        )
    if as_json:
        return
    came_of = {name: f"{value:.12}" for name, value in about.get("provenance", {}).items()}
    told = f"thaw {came_of.get('thaw', '?')}, weights {came_of.get('weights', '?')}, images {came_of.get('data', '?')}"
    console.result("verify", f"as it was exported: all {len(found)} parts, {len(about['classes'])} classes; by {told}")


def findings(folder: Path) -> list[Finding]:
    """Return what became of each part of an export.

    Raises:
        ValueError: hashes.json or labels.json is not there, or not of an export.
    """
    for name in (paths.HASHES, paths.LABELS):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder}: expected an export with {name} in it, found none; copy the whole folder that "
                "`dvc repro export` wrote"
            )
    recorded, about = hashes.read(folder), records.read_json(folder / paths.LABELS)
    came_of = about.get("provenance", {})  # which versions before had none
    texts = list(came_of.values()) if isinstance(came_of, dict) else [came_of]
    if not isinstance(about.get("classes"), list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(
            f"{folder}: expected {paths.LABELS} of an export, received another; copy the whole folder that "
            "`dvc repro export` wrote"
        )
    there = {path.name for path in folder.iterdir()} - {paths.HASHES}
    found = [
        Finding("export", name, *_verdict(folder / name, recorded.get(name)))
        for name in sorted(recorded.keys() | there)
    ]
    whole = {each.path for each in found if each.verdict == SAME}
    of = {form.about.file: name for name, form in formats.present(folder).items() if form.about.file in whole}
    return [
        Finding("export", each.path, *_says_the_same(folder, of[each.path], about)) if each.path in of else each
        for each in found
    ]


def _verdict(path: Path, expected: str | None) -> tuple[str, str]:
    if not path.exists():
        return OTHER, "gone"
    if expected is None:
        return OTHER, f"new: {paths.HASHES} does not know it"
    received = hashes.digest(path)
    return (SAME, "") if received == expected else (OTHER, f"sha256 {expected:.12}… → {received:.12}…")


def _says_the_same(folder: Path, name: str, about: dict[str, Any]) -> tuple[str, str]:
    """Load a format, and compare what it carries with labels.json."""
    try:
        loaded = formats.load(folder, name)
    except ImportError as error:
        return SAME, f"not loaded here ({error})"
    said = {"classes": loaded.classes, **loaded.about}
    other = [key for key in CARRIED if key in said and said[key] != about.get(key)]
    return (
        (OTHER, f"says other {', '.join(other)} than {paths.LABELS}") if other else (SAME, "loads, and says the same")
    )
