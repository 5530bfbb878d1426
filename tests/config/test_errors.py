"""Mistakes in a copy of conf/ and on the command line, found by the real Hydra."""

import re
from pathlib import Path

import pytest

from thaw.config import errors, load


def ranged(key: str, said: str) -> str:
    return f"{key}: {said}; `thaw explain {key.partition('[')[0]}` has the range"


# A file of conf/, what is written to its end or in place of a part of it, and the whole line about it.
IN_FILES = [
    (
        "phase1/default",
        "epochs: 30",
        "epochs: thirty",
        ranged("phase1.epochs", "expected a whole number, received thirty"),
    ),
    (
        "phase1/default",
        "epochs: 30",
        "epochs:",
        ranged("phase1.epochs", "expected a value, received null"),
    ),
    ("phase1/default", "epochs: 30", "epoch: 30", "phase1.epoch: no such key; did you mean phase1.epochs?"),
    (
        "phase1/default",
        "0.001",
        "fast",
        ranged("phase1.learning_rate", "expected a number, received fast"),
    ),
    (
        "phase2/default",
        "allow_high_rate: false",
        "allow_high_rate: 7x",
        ranged("phase2.allow_high_rate", "expected true or false, received 7x"),
    ),
    (
        "head/article",
        "units: [256, 128]",
        "units: [wide]",
        ranged("head.units[0]", "expected a whole number, received wide"),
    ),
    ("augment/light", "", "viewz: 3\n", "augment.viewz: no such key; did you mean augment.views?"),
    ("data/policy/default", "", "empti: keep\n", "data.policy.empti: no such key; did you mean data.policy.empty?"),
    ("config", "", "phase1:\n  epoch: 3\n", "phase1.epoch: no such key; did you mean phase1.epochs?"),
]
NO_YAML = [
    (
        "\tepochs: 3\n",
        r"conf/phase1/default\.yaml, line \d+: expected YAML, .* character '\\t' .*; indent with spaces",
    ),
    (
        "views: [\n",
        r"conf/phase1/default\.yaml, line \d+: expected YAML, .*; mend this line, or what is still open above it",
    ),
    ("seed: 1\n", r"conf/phase1/default\.yaml, line \d+: expected YAML, .* duplicate key seed; .*"),
    ("\x07: 1\n", r"conf/phase1/default\.yaml: expected YAML, .*"),
]
ON_THE_COMMAND_LINE = {
    "experiment=article": "experiment: expected a + before it, received none: +experiment=NAME",
    "phase2.learning_rate=1e-4,1e-5": "phase2.learning_rate: expected one value, received 1e-4,1e-5; "
    "`thaw sweep 'phase2.learning_rate=1e-4,1e-5'` tries several; "
    "a list is written 'phase2.learning_rate=[1e-4,1e-5]'",
    "phase1.epochs=range(1,3)": "phase1.epochs: expected one value, received range(1,3); "
    "`thaw sweep 'phase1.epochs=range(1,3)'` tries several",
    "~phase2.epochs": "~phase2.epochs: expected a value, since no field can be taken away; set it: phase2.epochs=…",
    "~phase2.epoch": "~phase2.epoch: no such key",
    "+phase2.epochs=3": "phase2.epochs: expected a new key after +, received one that is there; leave the + out",
    "learning_rate=abc": "learning_rate: no such key; did you mean phase1.learning_rate or phase2.learning_rate?",
    "phase2.learning_rate=abc": ranged("phase2.learning_rate", "expected a number, received abc"),
    "phase1.epochs=null": ranged("phase1.epochs", "expected a value, received null"),
    "phase2.allow_high_rate=abc": ranged("phase2.allow_high_rate", "expected true or false, received abc"),
    "head.units=3": ranged("head.units", "expected a list, such as [128], received int"),
    "--cfg": "--cfg: expected key=value or group=option, received an option; there is only --help",
}


@pytest.mark.parametrize(("name", "old", "new", "message"), IN_FILES)
def test_what_is_wrong_in_a_file_is_one_line_with_the_file(
    project: Path, name: str, old: str, new: str, message: str
) -> None:
    path = project / "conf" / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new) if old else text + new, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load.compose(["data=folder"])
    assert str(caught.value) == f"{message} (in conf/{name}.yaml)"


@pytest.mark.parametrize(("text", "line"), NO_YAML)
def test_what_is_no_yaml_is_one_line_with_the_place(project: Path, text: str, line: str) -> None:
    with (project / "conf" / "phase1" / "default.yaml").open("a") as file:
        file.write(text)
    with pytest.raises(ValueError, match=r"expected YAML") as caught:
        load.compose(["data=folder"])
    assert re.fullmatch(line, str(caught.value))


def test_a_file_that_is_a_list_is_named(project: Path) -> None:
    (project / "conf" / "augment" / "mine.yaml").write_text("- views\n")
    with pytest.raises(
        ValueError, match=r"^expected a group of keys, received list.* \(in conf/augment/mine\.yaml\)$"
    ):
        load.compose(["augment=mine"])


@pytest.mark.parametrize("override", ON_THE_COMMAND_LINE)
def test_what_hydra_refuses_is_said_in_the_words_of_the_project(project: Path, override: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        load.compose([override])
    assert str(caught.value) == ON_THE_COMMAND_LINE[override]


def test_a_key_is_looked_for_in_the_groups_too() -> None:
    with pytest.raises(ValueError, match=r"^units: no such key; did you mean head\.units\?$"):
        errors.check_keys({"units": [1]})
