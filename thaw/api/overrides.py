"""Choices given as Python values, in Hydra's grammar: ``phase2={"epochs": 5}`` is ``phase2.epochs=5``."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from thaw.config import chosen


def words(choices: Mapping[str, Any]) -> Iterator[str]:
    """Yield choices as a command line has them, options before fields.

    Raises:
        ValueError: a value is of a type that no configuration holds.
    """
    for group, value in choices.items():
        if isinstance(value, str):
            yield f"{group}={value}"
        elif not isinstance(value, Mapping):
            raise ValueError(
                f"{group}: expected the name of an option, or a dict of fields, received {value!r} "
                f"({type(value).__name__})"
            )
    for group, value in choices.items():
        for field, each in value.items() if isinstance(value, Mapping) else ():
            key = f"{group}.{field}"
            plain = os.fspath(each) if isinstance(each, os.PathLike) else each
            is_text = key in chosen.TEXTS and isinstance(plain, str) and plain != ""
            yield f"{key}={plain if is_text else _typed(key, plain)}"


def _typed(key: str, value: object) -> str:
    """Return a value in Hydra's grammar."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if value is None or isinstance(value, bool | int | float):
        return "null" if value is None else str(value).lower()
    if isinstance(value, str):
        inside = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
        return value if chosen.PLAIN.fullmatch(value) else f"'{inside}'"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{_typed(key, each)}" for name, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{','.join(_typed(key, each) for each in value)}]"
    raise ValueError(
        f"{key}: expected a text, a number, True, False, None, or a list or dict of these, received {value!r} "
        f"({type(value).__name__})"
    )
