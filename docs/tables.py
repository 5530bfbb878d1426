"""Write the tables of the guides from the code and conf/: ``python -m docs.tables``, which is ``make docs``.

A table stands between two marks, ``<!-- NAME: written by make docs -->`` and ``<!-- end of NAME -->``. Nothing between
them is edited by hand. The sources are the dataclasses of ``thaw.config`` with the comments at their fields, the files
of conf/, the table of backbones, and the docstrings of packages and modules.
"""

import ast
import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from thaw.catalog import backbones, pixel_contracts
from thaw.config import backbone, json_schema, load, policy, schema
from thaw.config.fields import GROUPS as GROUPS  # noqa: PLC0414  how a type checker is told
from thaw.config.fields import Range, comments, number, settings
from thaw.config.fields import ranges as checked
from thaw.data import issues

ROOT = Path(__file__).resolve().parents[1]
MARKS = re.compile(r"(<!-- (\w+): written by make docs -->\n\n).*?(\n<!-- end of \2 -->)", re.DOTALL)


def ranges(kind: Any) -> dict[str, str]:
    """Return the range of each field that a check of its group settles, or that is a truth value, in words."""
    found = {field.name: "`true`, `false`" for field in fields(kind) if field.type is bool}
    return found | {name: allowed(each) for name, each in checked(kind).items()}


def allowed(found: Range) -> str:
    """Return the range that a check has, in words."""
    if found.choices:
        return in_ticks(found.choices)
    return " ".join([number(found.low or 0), "to", number(found.high or 0), *([found.unit] if found.unit else [])])


def in_ticks(words: Iterable[str]) -> str:
    """Return words as a list for people, each between backticks."""
    return ", ".join(f"`{word}`" for word in words)


def value(given: Any) -> str:
    """Return a default as YAML has it; texts are between backticks, quoted where YAML would read another type."""
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, list):
        return f"[{', '.join(map(str, given))}]"
    if isinstance(given, str):
        return f"`{given}`" if given and isinstance(yaml.safe_load(given), str) else f"`{given!r}`"
    return number(given)


def linked(text: str) -> str:
    """Return a text of the code for the guides: paths such as docs/data.md become links."""
    return re.sub(r"docs/([\w-]+\.md)((?:#[\w-]+)?)", r"[\1](\1\2)", text)


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    first, *others = (f"| {' | '.join(line)} |\n".replace("|  |", "| |") for line in (tuple(heads), *rows))
    return "".join([first, "|---" * (first.count("|") - 1), "|\n", *others])


def configuration() -> str:
    """Return the table of all fields, with the defaults of ``data=folder``."""
    composed = load.check(yaml.safe_load(load.compose(["data=folder"], ())))
    rows = []
    for group, kind in GROUPS.items():
        for owner, field, name in settings(kind, group):
            current: Any = composed
            for part in name.split("."):
                current = getattr(current, part)
            stated, _, meaning = comments(owner)[field].rpartition(" | ")
            limits = linked(stated) or ranges(owner).get(field)
            if not limits or not meaning:
                raise ValueError(
                    f"{name}: expected a comment at the field, and its range from a check or before ` | ` in it"
                )
            rows.append((f"`{name}`", value(current), limits, linked(meaning)))
    return table(("field", "default", "range", "meaning"), rows)


def sentence(text: str) -> str:
    """Return the first sentence of a docstring or of a comment, without its full stop, on one line."""
    first = re.split(r"\.(?:\s|$)|\n\n|\n(?=[A-Z])", text.strip(), maxsplit=1)[0]
    return " ".join(first.split()).replace("``", "`")


def option(path: Path) -> str:
    """Return the first sentence of the comment that an option's file begins with."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines += [] if line.startswith("# @package") else [line.removeprefix("# ")]
    return linked(sentence("\n".join(lines)))


def options() -> str:
    """Return the table of the groups: the option that conf/config.yaml chooses, the others, the subject."""
    listed = yaml.safe_load((ROOT / "conf" / "config.yaml").read_text(encoding="utf-8"))["defaults"]
    chosen = {group: name for each in listed if isinstance(each, dict) for group, name in each.items()}
    rows = []
    for group, kind in GROUPS.items():
        names = sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))
        others = in_ticks(sorted(set(names) - {chosen[group], backbone.COMMON}, key=lambda name: (len(name), name)))
        if group == "backbone":
            others += linked(", each network of docs/backbones.md#which")
        rows.append((f"`{group}`", f"`{chosen[group]}`", others, linked(sentence(inspect.getdoc(kind) or ""))))
    return table(("group", "default", "others", "what it settles"), rows)


def purposes() -> str:
    """Return the table of what options are for, where their files say it; networks have a guide of their own."""
    paths = [
        path for group in GROUPS if group != "backbone" for path in sorted((ROOT / "conf" / group).rglob("*.yaml"))
    ]
    named = ((path, path.relative_to(ROOT / "conf").parent.as_posix()) for path in paths)
    return table(
        ("option", "what it is"), ((f"`{group}={path.stem}`", text) for path, group in named if (text := option(path)))
    )


def augmentations() -> str:
    """Return the table of what each option of ``augment`` sets, those of fewer views first."""
    paths = sorted((ROOT / "conf" / "augment").glob("*.yaml"))
    files = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in paths}
    files = dict(sorted(files.items(), key=lambda item: item[1]["views"]))
    rows = (
        (f"`{field.name}`", *(value(each[field.name]) for each in files.values())) for field in fields(schema.Augment)
    )
    return table(("field", *(f"`{name}`" for name in files)), rows)


def kinds() -> str:
    """Return the table of bad and odd files: what is done by default, what they are, what a person can do."""
    said = comments(policy.Policy)
    defaults = yaml.safe_load((ROOT / "conf/data/policy/default.yaml").read_text(encoding="utf-8"))
    rows = ((f"`{kind}`", f"`{defaults[kind]}`", said[kind], remedy) for kind, remedy in issues.REMEDIES.items())
    return table(("kind", "default", "what it is", "what to do"), rows)


def networks() -> str:
    """Return the table of networks."""
    heads = ("`backbone.name`", "size", "smallest", "parameters", "pixels", "weights", "note")
    return table(heads, backbones.documented())


def contracts() -> str:
    """Return the table of pixel contracts."""
    return table(("contract", "what becomes of a pixel"), pixel_contracts.documented())


def modules() -> str:
    """Return the list of packages and modules, each with the first sentence of its docstring."""
    rows = []
    for folder in ("", *sorted(path.parent.name + "/" for path in ROOT.glob("thaw/*/__init__.py"))):
        for path in sorted((ROOT / "thaw" / folder).glob("*.py")):
            name = f"**`{folder or 'thaw/'}`**" if path.stem == "__init__" else f"`{folder}{path.stem}`"
            if path.stem != "__main__":
                rows.append((name, sentence(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")))
    return table(("module", "what is there"), rows)


WRITERS: dict[str, dict[str, Callable[[], str]]] = {
    "architecture.md": {"modules": modules},
    "backbones.md": {"backbones": networks, "contracts": contracts},
    "configuration.md": {
        "options": options,
        "purposes": purposes,
        "augmentations": augmentations,
        "fields": configuration,
    },
    "data.md": {"kinds": kinds},
}


def text(document: str) -> str:
    """Return a guide with its tables made anew.

    Raises:
        ValueError: the marks in it are not those of its tables.
    """
    old, writers = (ROOT / "docs" / document).read_text(encoding="utf-8"), WRITERS[document]
    if sorted(marks[1] for marks in MARKS.findall(old)) != sorted(writers):
        raise ValueError(f"docs/{document}: expected the marks of the tables {', '.join(writers)}, each once")
    return MARKS.sub(lambda marks: f"{marks[1]}{writers[marks[2]]()}{marks[3]}", old)


def main() -> None:
    """Write all tables into their guides, the schemas for editors, and what has VS Code use them."""
    for path, content in (*json_schema.files(), *json_schema.editor()):
        (ROOT / path).parent.mkdir(exist_ok=True)
        (ROOT / path).write_text(content, encoding="utf-8", newline="\n")
    for document in WRITERS:
        (ROOT / "docs" / document).write_text(text(document), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
