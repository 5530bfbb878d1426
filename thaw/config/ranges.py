"""Checks of single fields of the configuration. Errors are one line: what was expected and received."""

from collections.abc import Collection

LARGEST_SEED = 2**32 - 1  # that NumPy takes


def between(group: object, field: str, low: float, high: float, unit: str = "") -> None:
    """Require a number from ``low`` to ``high``; a group's name is its class's.

    Raises:
        ValueError: it is outside, or not a number.
    """
    value = getattr(group, field)
    if not low <= value <= high:
        raise ValueError(
            f"{_name(group, field)}: expected {low:g} to {high:g}{unit and ' ' + unit}, received {value!r}"
        )


def one_of(group: object, field: str, choices: Collection[str]) -> None:
    """Require one of some words.

    Raises:
        ValueError: it is another.
    """
    value = getattr(group, field)
    if value not in choices:
        raise ValueError(f"{_name(group, field)}: expected one of {', '.join(choices)}, received {value!r}")


def _name(group: object, field: str) -> str:
    return f"{type(group).__name__.lower()}.{field}"
