"""The JSON schemas of editors, beside the values that they describe and the checks that they stand for."""

import fnmatch
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from thaw.config import fields, json_schema

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS: dict[str, Any] = {path.stem: json.loads(text) for path, text in json_schema.files()}
KINDS: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


def wrong(schema: dict[str, Any], value: Any, at: str = "") -> list[str]:
    """Return what is wrong with a value by a schema, of which only the few words that are used here are read."""
    if "$ref" in schema:
        return wrong(SCHEMAS[Path(schema["$ref"]).stem], value, at)
    if "anyOf" in schema:  # what is wrong by the one that fits best
        return min((wrong(each, value, at) for each in schema["anyOf"]), key=len)
    kind = KINDS.get(schema.get("type", ""), object)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind not in (bool, object)):
        return [f"{at}: no {schema['type']}"]
    found = [f"{at}.{key}: lacking" for key in schema.get("required", []) if key not in value]
    found += [f"{at}: enum"] if "enum" in schema and value not in schema["enum"] else []
    if "minimum" in schema and not schema["minimum"] <= value <= schema["maximum"]:
        found.append(f"{at}: range")
    for key, each in value.items() if "properties" in schema else ():
        inner = schema["properties"].get(key)
        found += [f"{at}.{key}: unknown"] if inner is None else wrong(inner, each, f"{at}.{key}")
    for each in value if "items" in schema else ():
        found += wrong(schema["items"], each, at)
    return found


def test_the_files_are_those_that_make_docs_writes() -> None:
    written = dict([*json_schema.files(), *json_schema.editor()])
    there = {path for folder in (json_schema.FOLDER, json_schema.VSCODE) for path in (ROOT / folder).iterdir()}
    assert {path.relative_to(ROOT) for path in there} == set(written)
    for path, text in written.items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path} is older than thaw/config: make docs"


def used(name: str) -> list[str]:
    """The schemas that VS Code uses of a file."""
    ((_, text), _) = json_schema.editor()
    schemas = json.loads(text)["yaml.schemas"]
    return [Path(each).stem for each in schemas if any(fnmatch.fnmatchcase(name, fits) for fits in schemas[each])]


def test_params_yaml_and_each_option_of_conf_fit_the_one_schema_that_vs_code_uses_of_it() -> None:
    looked = {}
    for path in (ROOT / "params.yaml", *(ROOT / "conf").glob("*/**/*.yaml")):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith("conf/hydra/"):
            (looked[name],) = used(name)
            read = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            assert wrong(SCHEMAS[looked[name]], read) == [], path
    assert len(looked) > 20 and set(looked.values()) == set(SCHEMAS)
    assert looked["params.yaml"] == "params" and looked["conf/phase2/article.yaml"] == "phase2"
    assert looked["conf/data/digits.yaml"] == looked["conf/data/policy/default.yaml"] == "data"
    assert wrong(SCHEMAS["data"], {"raw": "x", "vall": 0.1}) == [".vall: unknown"]
    assert wrong(SCHEMAS["data"], {"image": {"size": 1}, "data": {"raw": "x"}}) == [".image.size: range"]
    assert wrong(SCHEMAS["experiment"], {"phase2": {"epoch": 3}}) == [".phase2.epoch: unknown"]


@pytest.mark.parametrize(
    ("group", "field", "value", "said"),
    [
        ("phase2", "learning_rate", 2.0, ".learning_rate: range"),
        ("phase2", "learning_rate", "fast", ".learning_rate: no number"),
        ("phase2", "learnin_rate", 0.1, ".learnin_rate: unknown"),
        ("image", "fit", "stretch", ".fit: enum"),
        ("head", "units", ["wide"], ".units: no integer"),
        ("data", "policy", {"empty": "keep"}, ".policy.empty: enum"),
    ],
)
def test_a_mistake_is_marked(group: str, field: str, value: object, said: str) -> None:
    assert wrong(SCHEMAS[group], {field: value}) == [said]


def test_each_field_has_its_meaning_in_every_schema() -> None:
    for name, field in fields.every().items():
        group, *inner = name.split(".")
        found: Any = SCHEMAS["params"]["properties"][group]
        for part in inner:
            found = found["properties"][part]
        assert field.meaning.replace("`", "") in found["description"]
