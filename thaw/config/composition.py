"""Compile conf/ to params.yaml with choices, which are remembered: first composed and checked, then written."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import yaml

from thaw import paths
from thaw.config import chosen, concurrency, load

RESET = "--reset"


@dataclass(frozen=True)
class Composition:
    """What conf/ comes to with choices, before anything of it is written."""

    before: list[str] | None  # the choices remembered until now; None: they can't be read
    choices: list[str]  # those to be remembered
    text: str  # of params.yaml

    def values(self) -> dict[str, Any]:
        """Return params.yaml as nested dicts."""
        return cast("dict[str, Any]", yaml.safe_load(self.text))


def make(words: Sequence[str], *, reset: bool = False) -> Composition:
    """Compose conf/ with choices on top of those from before, and write nothing.

    Args:
        words: choices, in Hydra's grammar.
        reset: leave out those from before.

    Raises:
        ValueError: as ``load.compose`` does.
    """
    try:
        before = chosen.read(paths.CONF)
    except ValueError:
        if not reset:
            raise
        before = None
    kept = [] if reset or before is None else before
    load.compose(words, chosen.without(kept, words, paths.CONF))  # or a mistake would be blamed on the memory
    now = chosen.add(kept, words, paths.CONF)
    return Composition(before, now, load.compose((), now, typed=words))


def remember(made: Composition) -> str:
    """Write params.yaml and the choices; return what was done and, in a second line, which choices were forgotten.

    Raises:
        ValueError: a run is under way here, which would record values that it was not given.
    """
    concurrency.check_idle()
    if made.choices != made.before:
        chosen.write(made.choices, paths.CONF)
    paths.PARAMS.write_text(made.text, encoding="utf-8", newline="\n")
    now = made.choices
    told = f" with {shlex.join(now)}, remembered in {paths.CHOSEN}; {RESET} forgets it" if now else ""
    keys = {chosen.key(word) for word in now}
    gone = [word for word in made.before or () if chosen.key(word) not in keys]
    return f"{paths.PARAMS} compiled from {paths.CONF}/{told}" + (f"\nforgotten: {shlex.join(gone)}" if gone else "")


def configure(words: Sequence[str], *, reset: bool = False) -> str:
    """Compile conf/ to params.yaml with choices, which are remembered with those from before; return what was done.

    Args:
        words: choices, in Hydra's grammar.
        reset: forget those from before.

    Raises:
        ValueError: as ``load.compose`` does.
    """
    return remember(make(words, reset=reset))
