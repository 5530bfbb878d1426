"""Error messages for a wrong configuration, in one line: what was expected, what was received, the remedy.

``check_keys`` finds keys that do not exist; ``explain`` makes a line of what Hydra, OmegaConf and PyYAML raise.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_origin

import yaml
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, InterpolationResolutionError, OmegaConfBaseException

from thaw import paths
from thaw.config import backbone, chosen, schema

# What OmegaConf says of a value of a wrong type, and what was expected then.
TYPES = {
    r"Value '(.*)' of type '\w+' could not be converted to Integer": "a whole number",
    r"Value '(.*)' of type '\w+' could not be converted to Float": "a number",
    r"Value '(.*)' is not a valid bool": "true or false",
    r"Cannot convert '\w+' to string: '(.*)'": "a text",
    r"Invalid value assigned: (\w+) is not a ListConfig": "a list, such as [128]",
    r"(?:field '.*' is not (Optional)|Incompatible value '(None)')": "a value",
    r"Invalid type assigned: (\w+) is not a subclass of": "a group of keys",
}
SEVERAL = "{0}: expected one value, received {1}; `thaw sweep '{0}={1}'` tries several"
COMPUTED = "compiled_from"  # the field that nobody sets
SHOWN = 12  # options of a group that a line names
# What Hydra says of an override that it cannot apply, and what to make of that.
OVERRIDES = {
    r"Ambiguous value for argument '([^=]+)=(.*)'": f"{SEVERAL}; a list is written '{{0}}=[{{1}}]'",
    r"Sweep parameters '([^=]+)=(.*)' requires": SEVERAL,
    r"Could not append to config. An item is already at '(.*)'": "{0}: expected a new key after +, received one that "
    "is there; leave the + out",
    r"Error merging override ~(\S+)": "~{0}: expected a value, since no field can be taken away; set it: {0}=…",
    r"Could not override 'experiment'. No match": "experiment: expected a + before it, received none: "
    "+experiment=NAME",
    r"Could not delete from config. '(.*)' does not exist": "~{0}: no such key",
}


def check_keys(values: dict[str, Any], expected: type = schema.Project, prefix: str = "") -> None:
    """Require that every key is a field of the dataclass, or of those in it.

    Raises:
        ValueError: one is not, or is no group where a group is expected; one line.
    """
    known = {field.name: field.type for field in fields(expected)}
    for key, value in values.items():
        if key not in known:
            near = [f"{prefix}{name}" for name in nearest(str(key), known.keys() - {COMPUTED})]
            inner = [f"{name}.{key}" for name, kind in known.items() if key in _names(kind)]
            meant = near or [f"{prefix}{name}" for name in inner]
            hint = f"did you mean {' or '.join(meant)}?" if meant else f"known: {_listed(expected)}"
            shown = key if str(key).isprintable() else repr(key)
            raise ValueError(f"{prefix}{shown}: no such key; {hint}")
        kind = known[key]
        if isinstance(kind, type) and is_dataclass(kind):
            if not isinstance(value, dict):
                raise ValueError(f"{prefix}{key}: expected a group of keys, received {value!r}")
            check_keys(value, kind, f"{prefix}{key}.")
        elif isinstance(value, dict):
            wanted = "a list, such as [128]" if get_origin(kind) is list else "a value"
            raise ValueError(f"{prefix}{key}: expected {wanted}, received {value!r}, a group of keys")
        elif isinstance(value, list) and any(isinstance(each, list | dict) for each in value):
            raise ValueError(f"{prefix}{key}: expected a list of single values, such as [128], received {value!r}")


def check_words(words: Sequence[str]) -> None:
    """Require of overrides what Hydra does not, or does without naming the key.

    Raises:
        ValueError: one sets ``compiled_from``, takes a group away, or gives it something else than the name of an
            option; one line.
        hydra.errors.OverrideParseException: one is not in Hydra's grammar.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser  # noqa: PLC0415 -- stages never do

    parsed = OverridesParser.create().parse_overrides([chosen.quoted(word) for word in words])
    for word, override in zip(words, parsed, strict=True):
        name = chosen.key(word)
        if name == COMPUTED:
            raise ValueError(f"{COMPUTED}: no such key; known: {_listed(schema.Project)}")
        if not (paths.CONF / name).is_dir() or override.is_sweep_override():
            continue
        if override.is_delete():
            raise ValueError(f"~{name}: expected an option, since no group can be taken away; {_known(name, '')}")
        value = override.value()
        if not isinstance(value, str) and not (name == chosen.EXPERIMENT and isinstance(value, list)):
            received = word.partition("=")[2]
            raise ValueError(f"{name}: expected the name of an option, received {received}; {_known(name, received)}")


def nearest(word: str, known: Iterable[str], n: int = 1) -> list[str]:
    """Return the names that a mistyped or an abbreviated one may mean, the likeliest first: lr is learning_rate."""
    names = list(known)
    short = [name for name in names if "_" in name and "".join(part[:1] for part in name.split("_")) == word]
    return short or difflib.get_close_matches(word, names, n=n)


def _names(kind: Any) -> set[str]:
    return {field.name for field in fields(kind)} if is_dataclass(kind) else set()


def _listed(kind: type) -> str:
    """Return the keys that can be set, in their order."""
    return ", ".join(field.name for field in fields(kind) if field.name != COMPUTED)


def explain(error: Exception) -> str:
    """Return one line for the chain of exceptions that composing conf/ raises."""
    if isinstance(error, yaml.YAMLError):
        return _syntax(error)
    opening = str(error).strip().partition("\n")[0]
    return _of_override(error, opening) or _of_file(error, opening) or _of_causes(error, opening)


def _of_override(error: Exception, opening: str) -> str:
    """Return Hydra's objection to an override; empty if it is something else."""
    from hydra.errors import OverrideParseException  # noqa: PLC0415 -- stages never import Hydra

    if isinstance(error, OverrideParseException):
        if error.override.startswith("-"):
            return f"{error.override}: expected key=value or group=option, received an option; there is only --help"
        return f"{error.override}: expected key=value or group=option; quote a value with signs: 'key=\"a value\"'"
    found = ((re.match(said, opening), line) for said, line in OVERRIDES.items())
    said = next((line.format(*match.groups()) for match, line in found if match), "")
    is_group = (paths.CONF / said.partition(":")[0]).is_dir()
    return said.partition("; a list is")[0] if is_group else said


def _of_file(error: Exception, opening: str) -> str:
    """Return Hydra's objection to a file that is missing or not made of keys; empty if it is something else."""
    from hydra.errors import MissingConfigException  # noqa: PLC0415 -- stages never import Hydra

    text = " ".join(str(error).split())
    if isinstance(error, MissingConfigException):
        return _no_option(error, text, opening)
    if isinstance(error, InterpolationResolutionError):
        said, _, key = text.split("resolving interpolation: ")[-1].partition(" full_key: ")
        return f"{key.split()[0]}: {said}" if key and not key.startswith("compiled_from") else said
    _, _, reason = text.partition(" raised while composing config: ")
    return "" if _blamed(error) or not reason else _type(reason.partition(" full_key:")[0]) + _where(opening)


def _no_option(error: Any, text: str, opening: str) -> str:
    """Return what there is in place of an option that is not there."""
    group, _, name = str(error.missing_cfg_file or "").rpartition("/")
    if not group:
        return text.partition(" Config search path:")[0].removeprefix("In 'config': ")
    place = "" if opening.startswith("In 'config'") else _where(opening)  # which may be the command line's mistake
    return f"{group}={name}: no such option; {_known(group, name)}{place}"


def _known(group: str, name: str) -> str:
    """Return which options a group has, or which of many are near a name."""
    known = {path.stem for path in (paths.CONF / group).glob("*.yaml")}
    known |= set(backbone.options()) if group == "backbone" else set()
    near = nearest(name, sorted(known), n=3)
    if len(known) <= SHOWN:
        return f"known: {', '.join(sorted(known)) or 'none'}"
    return f"did you mean {' or '.join(near)}?" if near else f"`thaw {group}s` lists them"


def _of_causes(error: Exception, opening: str) -> str:
    """Return OmegaConf's objection to a key or its value, or else the first line of the first cause."""
    if blamed := _blamed(error):
        return of_value(blamed) + _where(opening)
    lines = [*str(list(_causes(error))[-1]).splitlines(), type(error).__name__]
    first = next(line.strip() for line in lines if line.strip())
    override = re.search(r"override '?([\w.@/+~]+)", opening)
    return f"{override[1]}: {first}" if override and override[1] not in first else first


def _blamed(error: Exception) -> OmegaConfBaseException | None:
    """Return the first exception of the chain that names a key."""
    return next((each for each in _causes(error) if isinstance(each, OmegaConfBaseException) and each.full_key), None)


def of_value(error: OmegaConfBaseException) -> str:
    """Return OmegaConf's objection to one key or its value."""
    first = str(error).splitlines()[0]
    if isinstance(error, ConfigKeyError | ConfigAttributeError) and error.full_key:
        *groups, key = str(error.full_key).split(".")
        return _unknown_key(groups, key)
    return f"{error.full_key}: {_type(first, str(error.full_key))}" if error.full_key else first


def _type(said: str, key: str = "KEY") -> str:
    for pattern, expected in TYPES.items():
        if found := re.match(pattern, said):
            received = next(filter(None, found.groups()), "''")
            received = {"Optional": "null", "None": "null"}.get(received, received)
            return f"expected {expected}, received {received}; `thaw explain {key.partition('[')[0]}` has the range"
    return said


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception, and those that it was raised from or while handling."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _where(opening: str) -> str:
    """Return the file of conf/ that Hydra names."""
    named = re.match(r"In '([\w/-]+)'", opening)
    path = paths.CONF / f"{named[1]}.yaml" if named else None
    return f" (in {path.as_posix()})" if path and path.is_file() else ""


def _unknown_key(groups: Sequence[str], key: str) -> str:
    values: dict[str, Any] = {key: None}
    for group in reversed(groups):
        values = {group: values}
    try:
        check_keys(values)
    except ValueError as error:
        return str(error)
    return f"{'.'.join([*groups, key])}: no such key"


def _syntax(error: yaml.YAMLError) -> str:
    """Return where a file is no YAML, and why."""
    mark = getattr(error, "problem_mark", None)
    path = Path(mark.name if mark else getattr(error, "name", "conf"))
    name = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    place = f"{name.as_posix()}, line {mark.line + 1}" if mark else name.as_posix()
    problem = " ".join(str(getattr(error, "problem", "") or str(error).partition("\n")[0]).split())
    hint = "indent with spaces" if r"\t" in problem else "mend this line, or what is still open above it"
    return f"{place}: expected YAML, received what is none: {problem}; {hint}"
