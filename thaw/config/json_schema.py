"""JSON schemas of params.yaml and conf/, by which editors complete keys and mark mistakes; where VS Code uses each.

They are made of ``thaw.config.fields``; ``make docs`` writes them to schemas/, and `thaw new` into each project. What
groups must agree on is no part of them: the check of a composition has that.
"""

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from thaw.config.fields import GROUPS, Field, every, number

FOLDER = Path("schemas")
EXPERIMENT = FOLDER / "experiment.json"
VSCODE = Path(".vscode")
EXTENSION = "redhat.vscode-yaml"  # that of VS Code with YAML's language server
WIDE = ("data", "backbone")  # groups whose options may set fields of others too, as experiments do
DIALECT = "http://json-schema.org/draft-07/schema#"  # the one that YAML's language server knows best
KINDS = {bool: "boolean", int: "integer", float: "number", str: "string"}


def files() -> Iterator[tuple[Path, str]]:
    """Yield the schema files with their text: of params.yaml, of each group's options in conf/, of experiments."""
    known = every()
    groups = {name: _group(kind, name, known) for name, kind in GROUPS.items()}
    compiled = {"type": "string", "description": "digest of the conf/ that this file was compiled from"}
    whole = _object({"compiled_from": compiled, **groups}) | {"required": ["compiled_from", *groups]}
    yield FOLDER / "params.json", _text("params.yaml of a project of thaw", whole)
    for name, group in groups.items():
        inner = [each for each in group["properties"].values() if each.get("type") == "object"]  # of conf/GROUP/FIELD
        options = [_option(each["properties"]) for each in (group, *inner)]
        options += [{"$ref": f"./{EXPERIMENT.name}"}] if name in WIDE else []
        one = {"anyOf": options} if len(options) > 1 else options[0]
        yield FOLDER / f"{name}.json", _text(f"an option of conf/{name}", one)
    yield EXPERIMENT, _text("an experiment, or an option of conf/ that sets fields of several groups", _option(groups))


def editor() -> Iterator[tuple[Path, str]]:
    """Yield the files that have VS Code use the schemas in a project, with their text."""
    used = {"params": ["params.yaml"]}
    used |= {name: [f"conf/{name}/*.yaml", f"conf/{name}/*/*.yaml"] for name in (*GROUPS, EXPERIMENT.stem)}
    schemas = {f"./{FOLDER.as_posix()}/{name}.json": patterns for name, patterns in used.items()}
    yield VSCODE / "settings.json", json.dumps({"yaml.schemas": schemas}, indent=2) + "\n"
    yield VSCODE / "extensions.json", json.dumps({"recommendations": [EXTENSION]}, indent=2) + "\n"


def _group(kind: Any, prefix: str, known: dict[str, Field]) -> dict[str, Any]:
    properties = {}
    for field in fields(kind):
        name = f"{prefix}.{field.name}"
        properties[field.name] = _group(field.type, name, known) if is_dataclass(field.type) else _field(known[name])
    return _object(properties)


def _option(properties: dict[str, Any]) -> dict[str, Any]:
    return _object({"defaults": {"type": "array"}, **properties})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _field(field: Field) -> dict[str, Any]:
    """Return the schema of one field. A range that only words have is part of its description."""
    found: dict[str, Any] = {"description": ": ".join(filter(None, [field.stated, field.meaning])).replace("`", "")}
    if get_origin(field.kind) is list:
        found |= {"type": "array", "items": {"type": KINDS[get_args(field.kind)[0]]}}
    elif field.kind in KINDS:
        found["type"] = KINDS[field.kind]
    if field.range and field.range.choices:
        found["enum"] = list(field.range.choices)
    elif field.range:
        low, high = field.range.low or 0, field.range.high or 0
        found |= {"minimum": low, "maximum": high}
        found["description"] += f" ({' '.join(filter(None, [number(low), 'to', number(high), field.range.unit]))})"
    return found


def _text(title: str, schema: dict[str, Any]) -> str:
    return json.dumps({"$schema": DIALECT, "title": title, **schema}, indent=1, ensure_ascii=False) + "\n"
