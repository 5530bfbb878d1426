"""A trial made an experiment of conf/, in a copy of the project."""

from pathlib import Path

import pytest
import yaml

from thaw import config, promote, sweep_table

NAME = "rate=0.0001,depth=20-00000002"


@pytest.mark.parametrize("wanted", [NAME, "00000002", "lr=0.0001 depth=20"])
def test_a_trial_is_found_by_its_name_its_end_or_its_label(finished_sweep: Path, wanted: str) -> None:
    sweep, record = promote.find(wanted)
    assert (sweep, record["name"]) == (finished_sweep.name, NAME)


def test_an_unknown_and_a_failed_trial_are_refused(finished_sweep: Path) -> None:
    for wanted in ("00000007", "00000009"):
        with pytest.raises(ValueError, match="expected one finished trial"):
            promote.find(wanted)


def test_the_experiment_composes_to_what_the_trial_was_and_says_what_to_expect(finished_sweep: Path) -> None:
    sweep, record = promote.find(NAME)
    path = promote.write("chosen", sweep, record)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# @package _global_\n")
    assert "python -m thaw.config +experiment=chosen && dvc repro" in text
    assert "validation accuracy 92.5%" in text and "loss 0.300000" in text
    composed = yaml.safe_load(config.compose(["+experiment=chosen"]))
    expected = yaml.safe_load(config.compose(record["overrides"]))
    for group in ("data", "image", "augment", "backbone", "head", "phase1", "phase2", "evaluate", "export"):
        assert composed[group] == expected[group]
    # What cannot change a result is left to the one who runs it: the trial did without tracking.
    assert composed["tracking"]["enabled"] and not expected["tracking"]["enabled"]
    # A default that changes later changes nothing of it.
    default = Path("conf/phase2/default.yaml")
    default.write_text(default.read_text().replace("epochs: 3", "epochs: 7"))
    assert yaml.safe_load(config.compose(["+experiment=chosen"]))["phase2"] == expected["phase2"]


def test_no_file_is_overwritten(finished_sweep: Path) -> None:
    sweep, record = promote.find(NAME)
    path = promote.write("chosen", sweep, record)
    assert promote.write("chosen", sweep, record) == path  # it is the same
    path.write_text("# mine\n")
    with pytest.raises(ValueError, match=r"chosen\.yaml: expected no such file yet, found another"):
        promote.write("chosen", sweep, record)
    assert path.read_text() == "# mine\n"


def test_a_name_that_is_none_and_a_trial_of_another_commit_are_refused(finished_sweep: Path) -> None:
    sweep, record = promote.find(NAME)
    with pytest.raises(ValueError, match="expected letters, digits, - and _"):
        promote.write("a/b", sweep, record)
    with pytest.raises(ValueError, match="expected its experiment on the current commit"):
        promote.write("chosen", sweep, record | {"name": "gone-00000000"})
    assert list(Path("conf/experiment").glob("*.yaml")) == [Path("conf/experiment/article.yaml")]


def test_the_default_name_is_made_of_the_label(finished_sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import argparse  # noqa: PLC0415

    promote._promote(argparse.Namespace(trial=NAME, name=None))
    assert Path("conf/experiment/lr_0_0001_depth_20.yaml").is_file()
    assert "python -m thaw.config +experiment=lr_0_0001_depth_20 && dvc repro" in capsys.readouterr().out
    assert sweep_table.read(finished_sweep)
