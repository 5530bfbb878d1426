"""The configuration held for any value of any field: accepted, or refused in one line that names the field."""

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from thaw.config import load, schema

ROOT = Path(__file__).resolve().parents[2]
FEWER = settings(max_examples=settings().max_examples // 5)  # to compose takes longer

# What YAML could hold, with what a person may type by mistake among it.
TYPED = [
    "",
    "auto",
    "none",
    "all",
    "balanced",
    "40",
    "3blocks",
    "30%",
    "variables:a",
    "~",
    "null",
    "true",
    "1e-3",
    "???",
]
texts = st.sampled_from(TYPED) | st.text(max_size=12)
texts = texts.filter(lambda text: "${" not in text)  # which refers to another value
numbers = st.integers(-2, 2000) | st.integers() | st.floats() | st.floats(0, 1)
scalars = st.none() | st.booleans() | numbers | texts
anything = (
    scalars | st.lists(scalars, max_size=4) | st.dictionaries(st.text(max_size=5) | scalars, scalars, max_size=2)
)


@cache
def sound() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return loaded


def leaves(kind: type, *above: str) -> Iterator[tuple[str, ...]]:
    for field in fields(kind):
        if isinstance(field.type, type) and is_dataclass(field.type):
            yield (*above, field.name)
            yield from leaves(field.type, *above, field.name)
        else:
            yield (*above, field.name)


FIELDS = list(leaves(schema.Project))


def with_value(name: tuple[str, ...], value: Any) -> dict[str, Any]:
    changed = deepcopy(sound())
    group = changed
    for part in name[:-1]:
        group = group[part]
    group[name[-1]] = value
    return changed


def value_of(values: Any, name: tuple[str, ...]) -> Any:
    for part in name:
        values = values[part]
    return values


@given(st.sampled_from(FIELDS), anything)
def test_any_value_of_any_field_is_accepted_or_refused_in_a_line_that_names_it(
    name: tuple[str, ...], value: Any
) -> None:
    try:
        project = load.check(with_value(name, value))
    except ValueError as error:
        said = str(error)
        assert len(said.splitlines()) == 1
        assert ".".join(name) in said, said
        return
    accepted = value_of(asdict(project), name)
    if isinstance(accepted, float):
        assert math.isfinite(accepted)
    # What was accepted is written and read as it is.
    assert load.check(yaml.safe_load(OmegaConf.to_yaml(OmegaConf.create(asdict(project))))) == project


# What may be set to any number between the two.
RANGES = {
    ("data", "near_threshold"): st.floats(0.7, 1),
    ("data", "max_pixels"): st.integers(1, 10**9),
    ("data", "max_bad_share"): st.floats(0, 1),
    ("augment", "seed"): st.integers(0, 2**32 - 1),
    ("augment", "rotation"): st.floats(0, 180),
    ("head", "l2"): st.floats(0, 1),
    ("phase1", "learning_rate"): st.floats(1e-3, 1),
    ("phase2", "learning_rate"): st.floats(1e-8, 9e-4),
    ("compute", "cache_gb"): st.floats(0, 1e5),
    ("evaluate", "top_k"): st.lists(st.integers(1, 10**6)),
    ("export", "tolerance"): st.floats(0, 0.1),
}
FREE = [("tracking", "experiment"), ("tracking", "uri"), ("compute", "cache_dir"), ("data", "raw")]


def is_plain(text: str) -> bool:
    """Return whether a text is the value itself: neither quoted nor a place in somebody's home, and not missing."""
    return text[:1] not in ("'", '"', "~") and text != "???"


@FEWER
@given(st.fixed_dictionaries({}, optional=RANGES), st.sampled_from(FREE), texts.filter(is_plain))
def test_what_is_compiled_is_read_as_it_was_set(
    values: dict[tuple[str, str], Any], name: tuple[str, str], text: str
) -> None:
    wanted = {**values, name: text}
    overrides = [f"{'.'.join(field)}={value}" for field, value in wanted.items()]
    with pytest.MonkeyPatch.context() as here:
        here.chdir(ROOT)
        try:
            compiled = load.compose(overrides, remembered=[])
        except ValueError as error:
            assert len(str(error).splitlines()) == 1
            assert ".".join(name) in str(error), str(error)
            return
        project = load.check(yaml.safe_load(compiled))
    assert {field: value_of(asdict(project), field) for field in wanted} == wanted
    assert load.check(asdict(project)) == project
