"""The choices made on the command line of ``thaw.config``, kept in conf/chosen.yaml for all later compositions.

conf/config.yaml includes it as the config ``remembered``, which ``register`` makes known to Hydra, so that the
compositions of ``dvc exp run -S`` and of sweeps have it too. A group whose option was chosen has one more there: that
one with the remembered fields on it. So fields go with the option that they were chosen with: another option, on
a later command line or by ``-S``, has its own. Fields chosen alone hold for whichever option.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from thaw import paths

NODE = "remembered"  # the config that conf/config.yaml includes
OPTION = "_remembered_"  # of a group: what was chosen, with the fields chosen for it
EXPERIMENT = "experiment"
# Free texts. Hydra's grammar would make a number of 2024_01 and a truth value of true, and refuses many signs.
PATHS = ("data.raw", "backbone.weights", "compute.cache_dir", "compute.shared_cache")
TEXTS = (*PATHS, "compute.ray", "backbone.builder", "tracking.uri", "tracking.experiment")
PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf)$)/?[a-z][\w./-]*", re.ASCII | re.IGNORECASE)  # same in Hydra
HEAD = """\
# What was chosen by `python -m thaw.config GROUP=OPTION GROUP.FIELD=VALUE`, one choice a line. It holds for all that
# is composed from conf/, by `thaw run`, `dvc exp run -S` and sweeps. `python -m thaw.config --reset` forgets it.
# Commit it together with params.yaml.
"""


def read(conf: Path) -> list[str]:
    """Return the remembered choices, as they were typed.

    Raises:
        ValueError: the file is not a list of choices.
    """
    path = conf / paths.CHOSEN.name
    if not path.is_file():
        return []
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        found = " ".join(str(error).split())
    if not isinstance(found, list) or not all(isinstance(word, str) and "=" in word for word in found):
        raise ValueError(
            f"{paths.CHOSEN}: expected a list of choices such as `- data=folder`, received {found!r}; mend it, or "
            "forget all choices: python -m thaw.config --reset"
        )
    return found


def write(words: Sequence[str], conf: Path) -> None:
    """Write the choices over those that were remembered."""
    listed = yaml.safe_dump(list(words), allow_unicode=True, width=10**6)
    (conf / paths.CHOSEN.name).write_text(HEAD + listed, encoding="utf-8", newline="\n")


def key(word: str) -> str:
    """Return the key that an override sets: a group with ``/``, or a field with dots."""
    return word.partition("=")[0].lstrip("+~")


def group(field: str, conf: Path) -> str:
    """Return the group whose options hold a field, ``data/policy`` for ``data.policy.few``."""
    parts = field.split(".")[:-1]
    groups = ("/".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((name for name in groups if (conf / name).is_dir()), "")


def without(before: Sequence[str], words: Sequence[str], conf: Path) -> list[str]:
    """Return the remembered choices that new ones leave as they are.

    An option that is chosen starts its group anew, and an experiment all that it sets.
    """
    replaced = {key(word) for word in words}
    for word in words:
        for name in _experiments(word):
            replaced |= {EXPERIMENT, *_sets(name, conf)}
    return [word for word in before if not _within(key(word), replaced, conf)]


def add(before: Sequence[str], words: Sequence[str], conf: Path) -> list[str]:
    """Return what is to be remembered after a command line with these overrides."""
    kept = {key(word): word for word in without(before, words, conf)}
    new = {key(word): word for word in words if not key(word).startswith("hydra")}
    return [*kept.values(), *new.values()]


def _within(name: str, replaced: set[str], conf: Path) -> bool:
    """Return whether a choice is one of the replaced ones, or a field of a group or of a field among them."""
    parts = name.split(".")
    around = (".".join(parts[:end]) for end in range(2, len(parts)))
    return bool(replaced & {name, group(name, conf), *around})


def _experiments(word: str) -> list[str]:
    """Return the names of the experiments that an override chooses, mostly none."""
    if key(word) != EXPERIMENT:
        return []
    return [name for name in re.split(r"[\[\],\s]+", word.partition("=")[2]) if name]


def _sets(experiment: str, conf: Path) -> set[str]:
    """Return the groups and fields that an experiment of conf/ settles."""
    path = conf / EXPERIMENT / f"{experiment}.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    if not isinstance(values, dict):
        return set()
    defaults = values.pop("defaults", None) or []
    names = [name for each in defaults if isinstance(each, dict) for name in each]
    return {name.removeprefix("override ").lstrip("/") for name in names} | set(_leaves(values))


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def quoted(word: str) -> str:
    """Return an override in Hydra's grammar that gives a free text as it was typed, ``~`` at its start expanded.

    What is in quotes already, or refers to another value by ``${``, is left to Hydra.
    """
    name, sign, value = word.partition("=")
    if name.lstrip("+") not in TEXTS or not value or "${" in value:
        return word
    if PLAIN.fullmatch(value) or (len(value) > 1 and value[0] == value[-1] and value[0] in "'\""):
        return word
    if name.lstrip("+") in PATHS and value.startswith("~"):
        value = os.path.expanduser(value)  # noqa: PTH111 -- Path raises where there is no such user
    inside = re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ("\\" + found[2] if found[2] else ""), value)
    return f'{name}{sign}"{inside}"'


def blamed(said: str, words: Sequence[str], typed: Sequence[str] = ()) -> str:
    """Return what is to be added to the message of a mistake that is a remembered choice; else nothing.

    Args:
        said: the message.
        words: the remembered choices.
        typed: those of this command line, one of which may be the mistake, remembered or not.
    """
    if any(_named(word, said) for word in typed):
        return ""
    for word in words:
        if _named(word, said) or f"{key(word)}/{OPTION}'" in said:
            return f" ({word} is remembered in {paths.CHOSEN}; choose otherwise, or python -m thaw.config --reset)"
    return ""


def _named(word: str, said: str) -> bool:
    name = key(word)
    return said.startswith((f"{name}:", f"{name}.", f"{word}:", f"~{name}:"))


def register(words: Sequence[str], conf: Path) -> None:
    """Make the choices known to Hydra, as the config ``remembered`` and an option of each group that was chosen.

    Raises:
        hydra.errors.OverrideParseException: one is not in Hydra's grammar.
    """
    from hydra.core.config_store import ConfigStore  # noqa: PLC0415 -- stages never import Hydra
    from hydra.core.override_parser.overrides_parser import OverridesParser  # noqa: PLC0415

    parsed = OverridesParser.create().parse_overrides([quoted(word) for word in words])
    values: dict[str, Any] = {key(word): each.value() for word, each in zip(words, parsed, strict=True)}
    options = {name: value for name, value in values.items() if name != EXPERIMENT and (conf / name).is_dir()}
    experiments = [name for word in words for name in _experiments(word)]
    settled = {name for experiment in experiments for name in _sets(experiment, conf)}
    alone: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {name: {} for name in options}
    for name in values.keys() - options.keys() - {EXPERIMENT}:
        of = group(name, conf)
        # Beside an experiment that sets it too, a field must come after the experiment.
        if of in options and name not in settled:
            _put(own[of], name.split(".")[of.count("/") + 1 :], values[name])
        else:
            _put(alone, name.split("."), values[name])
    store = ConfigStore.instance()
    for name, fields in own.items():
        store.store(group=name, name=OPTION, node={"defaults": [options[name], "_self_"], **fields})
    chosen = [{f"override /{name}": OPTION} for name in options]
    first = [f"/{EXPERIMENT}/{name}" for name in experiments]
    store.store(name=NODE, node={"defaults": [*first, "_self_", *chosen], **alone})


def _put(into: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        into = into.setdefault(name, {})
    into[path[-1]] = value
