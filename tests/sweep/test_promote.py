"""A trial made an experiment of conf/, in a copy of the project."""

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from thaw import paths, records
from thaw.commands import cli
from thaw.config import chosen, load
from thaw.runtime import threads
from thaw.sweep import experiments, promote, results

TINY = ("data=folder", "image=px64", "augment.views=2", "phase1.epochs=1", "phase2.epochs=1", "tracking.enabled=false")
NAME = "rate=0.0001,depth=20-00000002"


@pytest.mark.parametrize("wanted", [NAME, "00000002", "lr=0.0001 depth=20"])
def test_a_trial_is_found_by_its_name_its_end_or_its_label(finished_sweep: Path, wanted: str) -> None:
    sweep, record = promote.find(wanted)
    assert (sweep, record.name) == (finished_sweep.name, NAME)


def test_of_trials_with_one_label_that_is_meant_whose_experiment_is_there(finished_sweep: Path) -> None:
    label, old = "lr=0.0001 depth=20", paths.SWEEPS / "old"
    record = records.read_json(finished_sweep / f"{NAME}.json")
    for end in ("00000011", "00000012"):
        records.write_json(old / f"{end}.json", record | {"name": f"rate=0.0001,depth=20-{end}"})
    assert promote.find(label)[1].name == NAME
    experiments.forget(NAME)
    with pytest.raises(ValueError, match=r"found several: .*00000002, .*00000011, .*00000012"):
        promote.find(label)


def test_an_unknown_and_a_failed_trial_are_refused(finished_sweep: Path) -> None:
    for wanted in ("00000007", "00000009"):
        with pytest.raises(ValueError, match="expected one finished trial"):
            promote.find(wanted)


def test_a_script_learns_what_was_written_and_what_runs_it(
    finished_sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["thaw", "promote", "00000002", "--name", "chosen", "--json"])
    cli.main()
    told = json.loads(capsys.readouterr().out)
    assert (told["trial"], told["sweep"], told["was_there"]) == (NAME, finished_sweep.name, False)
    assert Path(told["file"]).is_file() and told["file"] in told["commit"]
    assert told["command"] == promote.command("chosen", promote.find(NAME)[1])
    cli.main()
    assert json.loads(capsys.readouterr().out) == told | {"was_there": True}


def test_the_experiment_composes_to_what_the_trial_was_and_says_what_to_expect(finished_sweep: Path) -> None:
    sweep, record = promote.find(NAME)
    path = promote.write("chosen", sweep, record)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# @package _global_\n")
    assert "python -m thaw.config +experiment=chosen && dvc repro" in text
    assert "validation accuracy 92.5%" in text and "loss 0.300000" in text
    composed = yaml.safe_load(load.compose(["+experiment=chosen"]))
    expected = yaml.safe_load(load.compose(record.overrides))
    for group in ("data", "image", "augment", "backbone", "head", "phase1", "phase2", "evaluate", "export"):
        assert composed[group] == expected[group]
    assert composed["compute"]["deterministic"] is True and "cache_dir" not in text
    # What cannot change a result is left to the one who runs it: the trial did without tracking.
    assert composed["tracking"]["enabled"] and not expected["tracking"]["enabled"]
    # A default that changes later changes nothing of it.
    default = Path("conf/phase2/default.yaml")
    default.write_text(default.read_text().replace("epochs: 3", "epochs: 7"))
    assert yaml.safe_load(load.compose(["+experiment=chosen"]))["phase2"] == expected["phase2"]


def test_a_trial_can_be_promoted_after_a_commit(finished_sweep: Path) -> None:
    subprocess.run(["git", "commit", "--quiet", "--allow-empty", "--message=next"], check=True)
    assert promote.write("chosen", *promote.find(NAME)).is_file()


def test_no_file_is_overwritten(finished_sweep: Path) -> None:
    sweep, record = promote.find(NAME)
    path = promote.write("chosen", sweep, record)
    assert promote.write("chosen", sweep, record) == path  # it is the same
    path.write_text("# mine\n")
    with pytest.raises(ValueError, match=r"chosen\.yaml: expected no such file yet, found another"):
        promote.write("chosen", sweep, record)
    assert path.read_text() == "# mine\n"


def test_what_was_written_is_said_and_what_was_there_too(
    finished_sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = argparse.Namespace(trial=NAME, name="chosen", json=False)
    promote._promote(options)
    assert capsys.readouterr().out.startswith("conf/experiment/chosen.yaml written. Run it")
    promote._promote(options)
    assert capsys.readouterr().out.startswith("conf/experiment/chosen.yaml was there already, the same. Run it")


def test_each_image_goes_where_the_trial_had_it_or_nothing_is_written(
    finished_sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, record = promote.find(NAME)
    (memory,) = experiments.files(NAME, [paths.MEMORY.as_posix()])
    paths.MEMORY.parent.mkdir(exist_ok=True)
    paths.MEMORY.write_text("{}")
    with pytest.raises(ValueError, match=r"splits\.json: expected each image where .*delete it, and promote again"):
        promote.write("chosen", sweep, record)
    assert not Path("conf/experiment/chosen.yaml").exists() and paths.MEMORY.read_text() == "{}"
    paths.MEMORY.unlink()
    promote.write("chosen", sweep, record)
    assert memory and paths.MEMORY.read_text() == memory
    promote.write("chosen", sweep, record)  # what is here is the trial's
    assert capsys.readouterr().err == ""
    # What knows of more images, or of another data set, and has the trial's in their places is as good, and is kept.
    known = json.loads(memory)
    more = known | {"images": known["images"] | {"train": [*known["images"]["train"], "f" * 16]}}
    other = {"drawn_with": {"seed": 7, "val": 0.1, "test": 0.1}, "images": {"train": ["a"], "val": [], "test": []}}
    for newer in (more | {"others": [other]}, other | {"others": [more]}):
        paths.MEMORY.write_text(json.dumps(newer))
        promote.write("chosen", sweep, record)
        assert json.loads(paths.MEMORY.read_text()) == newer
    assert capsys.readouterr().err == ""
    # What git has can be had again, such as the demonstration's, which comes with the project.
    paths.MEMORY.write_text(json.dumps(other))
    subprocess.run(["git", "add", paths.MEMORY], check=True)
    subprocess.run(["git", "commit", "--quiet", "--message=splits"], check=True)
    promote.write("chosen", sweep, record)
    assert paths.MEMORY.read_text() == memory
    assert "is the trial's now" in " ".join(capsys.readouterr().err.split())


def test_a_name_that_is_none_and_a_trial_without_its_experiment_are_refused(finished_sweep: Path) -> None:
    sweep, record = promote.find(NAME)
    with pytest.raises(ValueError, match="expected letters, digits, - and _"):
        promote.write("a/b", sweep, record)
    with pytest.raises(ValueError, match="expected its experiment in git"):
        promote.write("chosen", sweep, replace(record, name="gone-00000000"))
    assert list(Path("conf/experiment").glob("*.yaml")) == [Path("conf/experiment/article.yaml")]


@pytest.mark.slow
def test_the_promoted_trial_comes_out_of_dvc_repro_bit_for_bit(project: Path, tiny_images: Path) -> None:
    def run(*words: str) -> str:
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("git", "add", ".")
    run("git", "commit", "--quiet", "--message=images")
    swept = ("phase2.learning_rate=1e-4,2e-4", "phase2.unfreeze=block_7a", "data.seed=3")
    run(sys.executable, "-m", "thaw.sweep", *TINY, "backbone.weights=random", *swept)
    sweep, record = promote.find("lr=0.0002")
    promote.write("chosen", sweep, record)
    run(sys.executable, "-m", "thaw.config", "+experiment=chosen", "tracking.enabled=false")
    # Without DVC's memory of the trial: all of it is computed again.
    assert "Running stage 'phase2_finetune'" in run("dvc", "repro", "--no-run-cache", experiments.TARGET)
    for stage in ("phase1_head", experiments.TARGET):
        files = [paths.metrics(stage), paths.history(stage)]
        assert [path.read_text() for path in files] == experiments.files(
            record.name, [path.as_posix() for path in files]
        )
    weights = (paths.PHASE2 / "model.weights.h5").read_bytes()
    assert experiments.cached(record.name, paths.PHASE2 / "model.weights.h5") == weights


@pytest.mark.parametrize(("more", "expected"), [(0, "dvc repro"), (3, "TF_NUM_INTRAOP_THREADS={} dvc repro")])
def test_a_trial_of_other_threads_is_run_again_with_as_many(
    finished_sweep: Path, capsys: pytest.CaptureFixture[str], more: int, expected: str
) -> None:
    record = records.read_json(finished_sweep / f"{NAME}.json")
    record["figures"]["threads"] = count = threads.used() + more
    records.write_json(finished_sweep / f"{NAME}.json", record)
    promote._promote(argparse.Namespace(trial=NAME, name="chosen", json=False))
    told = f"python -m thaw.config +experiment=chosen && {expected.format(count)}\n"
    assert told in capsys.readouterr().out
    # The file is the same wherever it is written.
    assert f"number of threads (TF_NUM_INTRAOP_THREADS={count})." in Path("conf/experiment/chosen.yaml").read_text()


def test_the_default_name_is_made_of_the_label(finished_sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    promote._promote(argparse.Namespace(trial=NAME, name=None, json=False))
    assert Path("conf/experiment/lr_0_0001_depth_20.yaml").is_file()
    steps = capsys.readouterr().out
    assert "python -m thaw.config +experiment=lr_0_0001_depth_20 && dvc repro" in steps
    kept = "data/splits.json conf/chosen.yaml params.yaml dvc.lock metrics"
    assert f"git add conf/experiment/lr_0_0001_depth_20.yaml {kept}" in steps
    assert results.read(finished_sweep)


def test_what_is_remembered_neither_hinders_a_promotion_nor_gets_into_what_is_promoted(finished_sweep: Path) -> None:
    remembered = ["image=px96", "phase2.epochs=9", "evaluate.suspects=5"]
    chosen.write(remembered, paths.CONF)
    promote.write("chosen", *promote.find(NAME))
    (params,) = experiments.files(NAME, [paths.PARAMS.as_posix()])
    now = chosen.add(remembered, ["+experiment=chosen"], paths.CONF)
    assert now == ["image=px96", "evaluate.suspects=5", "+experiment=chosen"]
    composed, ran = yaml.safe_load(load.compose((), now)), yaml.safe_load(params)
    for group in ("data", "image", "augment", "backbone", "head", "phase1", "phase2"):
        assert composed[group] == ran[group]
