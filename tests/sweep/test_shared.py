"""What is computed before the trials, with the real DVC."""

import subprocess
import threading
import time
from pathlib import Path

import pytest
import yaml

from thaw import paths, records, timings
from thaw.config import load
from thaw.sweep import experiments, locks, plan, shared, supervisor, trial

BASE = ["data=folder", "image=px64", "augment.views=2", "phase1.epochs=1", "backbone.weights=random"]


@pytest.mark.usefixtures("project")
def test_the_depths_are_an_override_that_composes() -> None:
    values = yaml.safe_load(load.compose(["data=folder", shared.depths(["20", "block_7a", "all"])]))
    assert values["compute"]["depths"] == ["20", "block_7a", "all"]
    assert yaml.safe_load(load.compose([shared.depths([])]))["compute"]["depths"] == []


def trials(*depths: str) -> list[plan.Trial]:
    state, found = trial.fingerprint(load.check(yaml.safe_load(load.compose(BASE)))), []
    for depth in depths:
        overrides = [*BASE, f"phase2.unfreeze={depth}"]
        values = yaml.safe_load(load.compose(overrides))
        name = trial.trial_name(overrides[-1:], values, state)
        found.append(plan.Trial(overrides, values, load.check(values), name, trial.upstream(values, state)))
    return found


@pytest.mark.usefixtures("tiny_images")
def test_what_another_sweep_has_left_meanwhile_is_not_computed_again(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (each,) = trials("20")
    sweep = plan.Plan({}, [], [each], 1, True, {}, project / ".thaw" / "sweeps" / "one", experiments.head())
    ran: list[str] = []

    def fail(name: str, *_: object) -> str:
        ran.append(name)
        return "it failed"

    monkeypatch.setattr(trial, "run", fail)
    assert shared.run(sweep, each, supervisor.myself()) == "it failed"

    def leave() -> None:
        with locks.lock(each.upstream):
            held.set()
            time.sleep(1)
            records.write_json(paths.UPSTREAMS / f"{each.upstream}.json", {"outs": []})

    held = threading.Event()
    other = threading.Thread(target=leave)
    other.start()
    held.wait(30)
    assert shared.run(sweep, each, supervisor.myself()) == ""
    other.join()
    assert len(ran) == 1


@pytest.mark.slow
def test_images_pass_once_for_all_depths_and_the_experiment_is_no_experiment_any_more(
    project: Path, tiny_images: Path
) -> None:
    for words in (("add", "."), ("commit", "--quiet", "--message=images")):
        subprocess.run(["git", *words], check=True)
    every = trials("20", "block_7a", "nonsense", "none")
    sweep = plan.Plan({}, [], every, 4, True, {}, project / ".thaw" / "sweeps" / "one", experiments.head())
    sweep.folder.mkdir(parents=True)
    assert shared.run(sweep, every[0], supervisor.myself()) == ""

    left = experiments.left(every[0].upstream)
    assert left is not None
    counts = left["images"]
    assert counts["train"] + counts["val"] + counts["test"] == 36
    (extraction,) = timings.lines(what="extraction")
    assert extraction["count"] == 2 * counts["train"] + counts["val"]
    # Pooled features and two cuts, two views of each.
    assert len(list((paths.main_root() / ".thaw" / "activations").glob("*/rows.f16"))) == 6
    (noted,) = timings.lines(what="upstream")
    assert 0 < noted["inside"] < noted["seconds"]
    refs = subprocess.run(["git", "for-each-ref", "refs/exps/"], check=True, capture_output=True, text=True).stdout
    assert "shared-" not in refs
    assert not Path("mlflow.db").exists()

    # What cannot be computed is said, and leaves nothing.
    records.write_csv(Path("data/raw/class_0/00.png"), ["no image"], [])
    broken = trials("20")[0]
    broken.overrides.append("data.max_bad_share=0")
    assert "prepare:" in shared.run(sweep, broken, supervisor.myself())
    assert experiments.left(broken.upstream) is None
