"""Names, results and ends of single trials, with the real git; tests/sweep/test_multirun.py runs whole ones."""

import re
import shutil
import subprocess
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fsspec
import psutil
import pytest
import yaml

from thaw import paths, records
from thaw.config import load
from thaw.networks import environment
from thaw.sweep import experiments, results, supervisor, trial


def git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def values(project: Path, tiny_images: Path) -> dict[str, Any]:
    """What a trial is configured with."""
    composed = yaml.safe_load(load.compose(["data=folder"]))
    assert isinstance(composed, dict)
    return composed


def name_of(overrides: list[str], values: dict[str, Any]) -> str:
    return trial.trial_name(overrides, values, trial.fingerprint(load.check(values)))


@pytest.mark.parametrize(
    "overrides",
    [
        ["phase2.learning_rate=3e-05", "phase2.unfreeze=block_6a"],
        ["+experiment=article", "data.raw='my images/ä:b~1^2?.lock'"],
        ["head.units=[256,128]", "~phase1", "a..b@{0}\\.lock"],
        ["head.units=[" + ",".join(["256"] * 100) + "]"],
    ],
)
def test_a_name_is_one_that_git_takes(values: dict[str, Any], overrides: list[str]) -> None:
    name = name_of(overrides, values)
    git("check-ref-format", f"refs/exps/ab/cd/{name}")
    assert len(name.encode()) < 250 and "/" not in name and not name.startswith("-")


def test_a_name_can_be_read(values: dict[str, Any]) -> None:
    name = name_of(["phase2.learning_rate=3e-05", "phase2.unfreeze=40"], values)
    assert re.fullmatch(r"phase2\.learning_rate=3e-05,phase2\.unfreeze=40-[0-9a-f]{8}", name)


def test_a_name_changes_with_what_could_change_the_result_and_with_nothing_else(values: dict[str, Any]) -> None:
    def name() -> str:
        return name_of(["phase2.unfreeze=40"], values)

    start = name()
    values["compute"]["cache_gb"] += 1
    values["tracking"]["enabled"] = not values["tracking"]["enabled"]
    values["compiled_from"] = "another"
    shutil.rmtree(paths.METRICS, ignore_errors=True)
    assert name() == start

    seen = {start}
    values["compute"]["deterministic"] = False
    seen.add(name())
    values["phase1"]["seed"] += 1
    seen.add(name())
    values["compute"]["devices"] += 1
    seen.add(name())
    with Path("thaw/classifier/head.py").open("a") as file:
        file.write("CHANGED = 1\n")
    seen.add(name())
    next(Path("data/raw").rglob("*.png")).write_bytes(b"")
    seen.add(name())
    shutil.copyfile("data/raw/class_0/01.png", "data/raw/class_0/new.png")
    seen.add(name())
    records.write_json(paths.MEMORY, {"images": {"train": ["a"], "val": ["b"]}})
    seen.add(name())
    records.write_json(paths.MEMORY, {"images": {"train": ["b"], "val": ["a"]}})
    seen.add(name())
    assert len(seen) == 9


def test_a_name_changes_with_images_in_a_linked_folder_and_with_those_that_a_table_names(
    values: dict[str, Any], tmp_path: Path
) -> None:
    seen = set()
    for name in ("elsewhere", "own"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(b"picture")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "table.csv").write_text("path,label\nown/0.png,dog\n")
    for raw, image in (("images", "elsewhere/0.png"), ("table.csv", "own/0.png")):
        values["data"]["raw"] = str(tmp_path / raw)
        for content in (b"picture", b"another picture"):
            (tmp_path / image).write_bytes(content)
            seen.add(name_of(["a=1"], values))
    assert len(seen) == 4
    (tmp_path / "table.csv").write_text("path\n")  # what is wrong with it will be said when it is read
    assert name_of(["a=1"], values) not in seen


def test_a_sweep_names_its_trials_by_what_an_object_store_has_now(values: dict[str, Any]) -> None:
    """And not by the local copy of an earlier run, or a finished trial on other images would be found."""
    store, settings = (
        fsspec.filesystem("memory"),
        load.check(values | {"data": values["data"] | {"raw": "memory://s"}}),
    )
    seen = []
    for content in (b"picture", b"another picture"):
        store.pipe("/s/cat/0.png", content)
        seen.append(trial.newest(settings))
        assert (paths.local("memory://s") / "cat/0.png").read_bytes() == content
        assert trial.newest(settings) == trial.fingerprint(settings) == seen[-1]
    assert len(set(seen)) == 2


def test_a_name_changes_with_the_weights_under_one_path_and_with_the_packages_that_compute(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    values["backbone"]["weights"] = "lite.weights.h5"
    seen = set()
    for content in (b"one", b"two"):
        Path("lite.weights.h5").write_bytes(content)
        seen.add(name_of(["a=1"], values))
    for package in ("tensorflow", "keras", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setattr(environment, "version", lambda name, other=package: "0" if name == other else version(name))
            seen.add(name_of(["a=1"], values))
    assert len(seen) == 5
    assert name_of(["a=1"], values) in seen


def test_a_finished_trial_is_found_on_its_sweeps_commit_under_any_name(project: Path) -> None:
    records.write_json(paths.metrics("phase1_head"), {"val_loss": 0.5, "val_accuracy": 0.75, "best_epoch": 4})
    records.write_json(paths.metrics(experiments.TARGET), {"val_loss": 0.25, "best_epoch": 2, "layers": 9, "x": 1})
    git("add", "-f", paths.METRICS.as_posix())
    tree, commit = git("write-tree").strip(), experiments.head()
    made = git("commit-tree", tree, "-m", "experiment").strip()
    git("update-ref", f"refs/exps/{commit[:2]}/{commit[2:]}/a=1,b=2-12345678", made)
    expected = experiments.Finished("a=1,b=2-12345678", commit, results.Figures(0.25, 0.75, best_epoch=2, layers=9))
    assert experiments.finished("a=1-12345678", commit) == expected
    assert experiments.finished("a=1-12345679", commit) is None
    git("commit", "--quiet", "--message=next")
    assert experiments.finished("a=1-12345678", commit) == expected
    now = experiments.head()
    assert experiments.finished("a=1-12345678", now) is None
    # A trial that has run after the commit is tied to that one.
    git("update-ref", f"refs/exps/{now[:2]}/{now[2:]}/a=2-12345670", made)
    found = experiments.finished("a=2-12345670", commit)
    assert found is not None and found.commit == now


@pytest.mark.usefixtures("finished_sweep")
def test_what_has_no_experiment_any_more_is_said_and_has_nothing_in_the_cache() -> None:
    with pytest.raises(ValueError, match="gone-00000000: expected its experiment in git, found none; run the sweep"):
        experiments.counted("gone-00000000")
    assert experiments.cached("gone-00000000", paths.CLASSES) is None


def test_a_stop_ends_a_trial_with_all_that_it_has_started() -> None:
    # Ctrl-C means something to them also where these tests run in the background of a shell that has it ignored.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    inner = heard + "import time; print('started', flush=True); time.sleep(60)"
    code = heard + f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"started"
        family = psutil.Process(process.pid).children(recursive=True)
        assert family
        supervisor.stop(process)
        assert process.poll() is not None
    assert psutil.wait_procs(family, timeout=30)[1] == []


@pytest.mark.usefixtures("project", "tiny_images")
def test_images_that_do_not_travel_are_refused_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = Path("data/raw")
    with pytest.raises(
        ValueError, match=r"known to DVC or git.*; run `dvc add data/raw`, .* or give it as an absolute"
    ):
        experiments.check_images_travel(raw)
    experiments.check_images_travel(raw.absolute())
    git("add", "data/raw")
    experiments.check_images_travel(raw)
    # DVC takes nothing from outside of its project.
    monkeypatch.chdir(tmp_path / "conf")
    for outside in ("../data/raw", "../data/../data/raw/class_0"):
        with pytest.raises(
            ValueError, match=r"expected a path in the project or an absolute one.*; write data\.raw=/"
        ):
            experiments.check_images_travel(Path(outside))


def test_trials_share_what_comes_before_phase_2(values: dict[str, Any]) -> None:
    state = trial.fingerprint(load.check(values))
    first = trial.upstream(values, state)
    values["phase2"]["learning_rate"] /= 2
    values["compute"]["depths"] = ["20"]
    assert trial.upstream(values, state) == first
    values["compute"]["deterministic"] = False
    assert (other := trial.upstream(values, state)) != first
    values["head"]["l2"] += 0.1
    assert trial.upstream(values, state) not in (first, other)
    assert trial.upstream(values, "another state") != trial.upstream(values, state)


def test_what_dvc_takes_away_and_back_is_no_change(values: dict[str, Any]) -> None:
    # As for an experiment, of a workspace that is not committed.
    git("add", ".")
    with Path("thaw/classifier/head.py").open("a") as file:
        file.write("CHANGED = 1\n")
    state = trial.fingerprint(load.check(values))
    git("stash", "push", "--quiet")
    back = threading.Timer(1, git, ("stash", "pop", "--quiet", "--index"))
    back.start()
    assert not trial.changed(load.check(values), state)
    back.join()
    assert not trial.changed(load.check(values), state)


def test_a_change_is_one_that_lasts(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "LASTING", 0.5)
    state = trial.fingerprint(load.check(values))
    assert not trial.changed(load.check(values), state)
    Path("data/raw/class_0/00.png").unlink()
    assert trial.changed(load.check(values), state)


def test_a_change_of_code_that_no_trial_runs_leaves_its_name(values: dict[str, Any]) -> None:
    before = name_of(["a=1"], values)
    with Path("thaw/sweep/multirun.py").open("a") as file:
        file.write("CHANGED = 1\n")
    assert name_of(["a=1"], values) == before


@pytest.mark.usefixtures("finished_sweep")
def test_what_an_experiment_has_made_is_found_in_dvcs_cache() -> None:
    name = "rate=0.0001,depth=20-00000002"
    assert experiments.counted(name) == 40
    classes = experiments.cached(name, paths.CLASSES)
    assert classes is not None and b'"a"' in classes
    assert experiments.cached(name, paths.PREPARED / "nonesuch") is None
    assert experiments.files("nonesuch-00000000", ["params.yaml"]) == [""]
    experiments.forget(name)
    assert experiments.finished(name, experiments.head()) is None


@pytest.mark.usefixtures("finished_sweep")
def test_what_an_experiment_has_made_is_found_where_dvcs_cache_is_elsewhere(tmp_path: Path) -> None:
    name, shared = "rate=0.0001,depth=20-00000002", tmp_path / "of all users"
    shutil.move(".dvc/cache", shared)
    subprocess.run(["dvc", "cache", "dir", "--local", str(shared)], check=True, capture_output=True)
    classes = experiments.cached(name, paths.CLASSES)
    assert classes is not None and b'"a"' in classes
