"""What of a configuration DVC tracks: groups as a whole, and single fields of groups that else say how, not what."""

from collections.abc import Mapping
from typing import Any

from thaw.config import load

# Each for the stages that read its group.
FIELDS = ("compute.deterministic",)


def settling(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what results depend on, of a whole configuration as params.yaml has it.

    A field that an older configuration lacks is left out.
    """
    groups = {name: value for name, value in values.items() if name not in (*load.UNTRACKED, "compiled_from")}
    for name in FIELDS:
        group, field = name.split(".")
        if field in (values.get(group) or {}):
            groups.setdefault(group, {})[field] = values[group][field]
    return groups


def at(values: Mapping[str, Any], name: str) -> Any:
    """Return a group or a field of a configuration by its whole name; None if it is not there."""
    found: Any = values
    for key in name.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def meets(one: str, other: str) -> bool:
    """Return whether two names of groups or fields are the same, or one lies in the other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")
