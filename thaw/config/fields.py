"""The fields of the configuration as data: meaning, range and type, read from the code of ``thaw.config.schema``.

The comment at a field is its meaning; its range is what ``between`` or ``one_of`` checks, or what stands before
`` | `` in the comment. The guides' tables, ``thaw explain`` and the JSON schema of editors are made of these.
"""

import ast
import functools
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from thaw.config import policy, schema

GROUPS: dict[str, Any] = {field.name: field.type for field in fields(schema.Project) if field.name != "compiled_from"}


@dataclass
class Range:
    """The values that a field takes, as a check of the schema has them."""

    choices: tuple[str, ...] = ()  # one of these words
    low: float | None = None
    high: float | None = None
    unit: str = ""


@dataclass
class Field:
    """A field of the configuration."""

    name: str  # whole, such as phase2.learning_rate
    kind: Any  # its type
    meaning: str
    stated: str  # its range in words, where the comment has it; else empty
    range: Range | None  # as a check has it; None: none does alone


@functools.cache
def every() -> dict[str, Field]:
    """Return all fields by their whole names, in the order of params.yaml."""
    found = {}
    for group, kind in GROUPS.items():
        for owner, name, whole in settings(kind, group):
            stated, _, meaning = comments(owner)[name].rpartition(" | ")
            found[whole] = Field(whole, types(owner)[name], meaning, stated, ranges(owner).get(name))
    return found


def settings(kind: Any, prefix: str) -> Iterator[tuple[Any, str, str]]:
    """Yield each field of a group and of the groups in it: the dataclass, the field's own name, its whole name."""
    for field in fields(kind):
        name = f"{prefix}.{field.name}"
        if is_dataclass(field.type):
            yield from settings(field.type, name)
        else:
            yield kind, field.name, name


def types(kind: Any) -> dict[str, Any]:
    """Return the type of each field of a dataclass."""
    return {field.name: field.type for field in fields(kind)}


@functools.cache
def comments(kind: Any) -> dict[str, str]:
    """Return the comment of each field of a dataclass: the lines above it and what stands behind it."""
    found: dict[str, str] = {}
    above: list[str] = []
    for line in inspect.getsource(kind).splitlines():
        if field := re.match(r"    (\w+): [^#]*?(?:  # (.*))?$", line):
            found[field[1]] = " ".join([*above, field[2] or ""]).strip()
        above = [*above, line.strip("# ")] if line.strip().startswith("#") else []
    return found


@functools.cache
def ranges(kind: Any) -> dict[str, Range]:
    """Return the range of each field that a group checks by ``between`` or ``one_of``."""
    if kind is policy.Policy:
        return {field.name: Range(policy.choices(field.name)) for field in fields(kind)}
    found: dict[str, Range] = {}
    module = vars(sys.modules[kind.__module__])
    for call in _checks(kind.__post_init__, module):
        name, *limits = (eval(ast.unparse(each), module) for each in call.args[1:])  # noqa: S307 -- our own code
        found[name] = Range(tuple(limits[0])) if ast.unparse(call.func) == "one_of" else Range((), *limits)
    return found


def _checks(function: Any, module: dict[str, Any]) -> Iterator[ast.Call]:
    """Yield the calls of ``between`` and ``one_of`` in a function, and in what it hands ``self`` to."""
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in ("between", "one_of"):
                yield node
            elif [ast.unparse(each) for each in node.args] == ["self"]:
                yield from _checks(module[node.func.id], module)


def number(value: float) -> str:
    """Return a number as a person writes it: 1e-8, not 1e-08."""
    return str(value) if isinstance(value, int) else re.sub(r"e-0", "e-", f"{value:g}")
