"""What is to run, what is there and how long it takes, from real compositions in a copy of the project."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from dvc.repo import Repo
from hydra import compose as compose_config
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from thaw import paths, records, timings
from thaw.config import load, schema
from thaw.sweep import compose, experiments, multirun, plan, results

pytestmark = pytest.mark.usefixtures("project", "tiny_images")
BASE = ("data=folder", "image=px64")
PRESETS = Path(__file__).resolve().parents[2] / "conf" / "hydra" / "launcher"
GRID = ("phase2.learning_rate=1e-5,1e-4", "phase2.unfreeze=20,block_7a")
Make = Callable[..., plan.Plan]


@pytest.fixture
def make() -> "Callable[..., plan.Plan]":
    """The plan of a sweep with some overrides, as Hydra's callback makes it."""

    def of(*overrides: str, sweeper: str = "lr_depth") -> plan.Plan:
        load.register()
        with initialize_config_dir(str(paths.CONF.resolve()), version_base=None):
            swept = [override for override in overrides if "," in override]
            fixed = [override for override in overrides if "," not in override]
            composed = compose_config("sweep", [f"hydra/sweeper={sweeper}", *fixed], return_hydra_config=True)
            composed.hydra.overrides.task = [*swept, *(word for word in fixed if not word.startswith("hydra."))]
            return compose.make(composed)

    return of


def finish(of: plan.Plan, number: int, failure: str = "") -> None:
    """Leave the record that a failed trial does."""
    each = of.trials[number]
    left = results.TrialResult(each.name, each.overrides, "", "", failure, log="", seconds=None, figures=None)
    results.keep(of.folder / f"{each.name}.json", left)


def test_a_grid_has_a_trial_for_each_combination_and_one_upstream(make: Make) -> None:
    made = make(*BASE, *GRID)
    assert made.grid and made.count == len(made.trials) == 4
    assert made.depths() == ["20", "block_7a"]
    assert len({each.name for each in made.trials}) == 4
    assert len({each.upstream for each in made.trials}) == 1
    assert [first.name for first in plan.shared(made, made.trials)] == [made.trials[0].name]


def test_what_changes_phase_one_makes_another_upstream_and_what_does_not_does_not(make: Make) -> None:
    made = make(*BASE, *GRID, "head=article,linear")
    assert len({each.upstream for each in made.trials}) == 2
    assert len(plan.shared(made, made.trials)) == 2
    # An upstream of a single trial is computed by it.
    assert plan.shared(made, made.trials[:1]) == []
    assert len({each.upstream for each in make(*BASE, "phase1.seed=1,2", "phase2.unfreeze=20").trials}) == 2


def test_each_trial_is_told_by_the_images_and_the_weights_that_it_reads_itself(make: Make, project: Path) -> None:
    for name in ("one", "two"):
        Path(f"{name}.weights.h5").write_bytes(name.encode())
    shutil.copytree("data/raw", "data/more")
    fixed = (*BASE, "phase2.learning_rate=1e-5", "phase2.unfreeze=20")
    swept = ("backbone.weights=one.weights.h5,two.weights.h5", "data.raw=data/raw,data/more")
    before = [each.name for each in make(*fixed, *swept).trials]
    assert len(make(*fixed, *swept).states) == 4
    Path("two.weights.h5").write_bytes(b"exchanged")
    after = [each.name for each in make(*fixed, *swept).trials]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, True, False, False]
    next(Path("data/more").rglob("*.png")).unlink()
    last = [each.name for each in make(*fixed, *swept).trials]
    assert [old == new for old, new in zip(after, last, strict=True)] == [True, False, True, False]
    # A weight more leaves the other trials their names.
    Path("three.weights.h5").write_bytes(b"three")
    assert [each.name for each in make(*fixed, f"{swept[0]},three.weights.h5", swept[1]).trials][:4] == last


def test_the_same_trials_have_the_same_folder_and_others_another(make: Make) -> None:
    first = make(*BASE, *GRID).folder
    assert first.parent == paths.SWEEPS
    assert first.name.startswith("learning_rate-unfreeze-")
    assert make(*BASE, *GRID).folder == first
    assert make(*BASE, "phase2.learning_rate=1e-4,1e-5", GRID[1]).folder == first
    assert make(*BASE, *GRID, "phase2.epochs=2").folder != first


@pytest.mark.parametrize("swept", ["compute.cache_gb=0.001,20", "compute.extractor=onnxruntime,tensorflow"])
def test_what_no_result_hangs_on_is_not_swept(make: Make, swept: str) -> None:
    fixed = (*BASE, "phase2.learning_rate=1e-5", "phase2.unfreeze=20")
    with pytest.raises(ValueError, match=rf"^{swept.partition('=')[0]}: expected one value") as caught:
        make(*fixed, swept)
    assert "\n" not in str(caught.value)
    assert len({each.name for each in make(*fixed, "compute.deterministic=true,false").trials}) == 2
    # Two ways to write one value are one trial, and no mistake.
    assert (
        len({each.name[-8:] for each in make(*fixed[:2], "phase2.learning_rate=1e-5,0.00001", fixed[3]).trials}) == 1
    )


def test_what_is_finished_or_has_failed_is_not_missing(make: Make) -> None:
    made = make(*BASE, *GRID)
    finish(made, 0, failure="it diverged")
    assert plan.missing(made, retry=False) == made.trials[1:]
    assert plan.missing(made, retry=True) == made.trials
    text = "\n".join(plan.describe(made, made.trials[1:], []))
    assert "0 finished before, 1 failed before (--retry-failed runs them again), 3 to run" in text


def test_an_upstream_that_an_earlier_sweep_has_left_is_kept_while_dvc_has_it(make: Make) -> None:
    made = make(*BASE, *GRID)
    key = made.trials[0].upstream
    left = {"images": {"train": 24, "val": 6, "test": 6}, "outs": ["abcdef.dir"], "depths": ["20"]}
    records.write_json(paths.UPSTREAMS / f"{key}.json", left)
    assert experiments.left(key) is None
    Repo().cache.local.add_bytes("abcdef.dir", b"[]")
    assert experiments.left(key) == left
    assert plan.shared(made, made.trials) == []
    assert "kept from before: phase 1" in "\n".join(plan.describe(made, made.trials, []))


def test_the_time_is_unknown_until_something_like_it_was_measured(make: Make) -> None:
    made = make(*BASE, *GRID, "phase1.epochs=10", "phase2.epochs=3")
    first = plan.shared(made, made.trials)
    text = plan.describe(made, made.trials, first)[-1]
    assert text == "  time: unknown yet, nothing like it was measured here"
    values = made.trials[0].values
    timings.write("extraction", values, count=100, seconds=10.0)
    timings.write("phase1", values, count=1000, seconds=1.0)
    timings.write("upstream", values, seconds=20.0, inside=11.0)
    for each in made.trials:
        timings.write("phase2", each.values, count=100, seconds=5.0)
        timings.write("trial", each.values, seconds=12.0, inside=5.0)
    # 36 files: 25.2 to train on in two views, 5.4 to validate with. (50.4 + 5.4) / 10 + 252 / 1000 + 9 = 14.8 before;
    # four trials of 75.6 / 20 + 7 = 10.8 each.
    text = plan.describe(made, made.trials, first)[-1]
    assert text == "  time: at most about 58 s, one trial after the other; 15 s of it before the trials"


def test_the_time_counts_what_a_trial_shares_with_no_other(make: Make) -> None:
    fixed = ("phase1.epochs=10", "phase2.epochs=3", "phase2.learning_rate=1e-4", "phase2.unfreeze=20")
    made = make(*BASE, *fixed, "phase1.seed=1,2")
    values = made.trials[0].values
    assert plan.shared(made, made.trials) == []
    timings.write("phase2", values, count=100, seconds=5.0)
    timings.write("trial", values, seconds=12.0, inside=5.0)
    assert plan.describe(made, made.trials, [])[-1] == "  time: unknown yet, nothing like it was measured here"
    timings.write("extraction", values, count=100, seconds=10.0)
    timings.write("phase1", values, count=1000, seconds=1.0)
    # As above, two trials of 10.8, and in each of them also (50.4 + 5.4) / 10 + 252 / 1000 = 5.8.
    text = plan.describe(made, made.trials, [])
    assert "  in each trial, shared with no other: prepare, phase 1, activations at its depth" in text
    assert text[-1] == "  time: at most about 33 s, one trial after the other"
    some = make(*BASE, *GRID, "head=article,linear")
    kept = [*some.trials[::2], some.trials[1]]
    text = plan.describe(some, kept, plan.shared(some, kept))
    assert "  in 1 of the trials, shared with no other: prepare, phase 1, activations at its depth" in text


def test_the_time_is_unknown_where_no_image_is_there_yet(make: Make) -> None:
    fixed = ("image=px64",)  # of the demonstration, which a stage makes
    made = make(*fixed, *GRID)
    for each in made.trials:
        timings.write("phase2", each.values, count=100, seconds=5.0)
        timings.write("trial", each.values, seconds=12.0, inside=5.0)
    for what in ("extraction", "phase1"):
        timings.write(what, made.trials[0].values, count=100, seconds=10.0)
    timings.write("upstream", made.trials[0].values, seconds=20.0, inside=11.0)
    assert not paths.SAMPLE.exists()
    plan.check_images(made)
    text = plan.describe(made, made.trials, plan.shared(made, made.trials))[-1]
    assert text == "  time: unknown yet, nothing like it was measured here"


def test_images_that_are_not_there_are_refused(make: Make) -> None:
    Path("empty").mkdir()
    for name in "ab":
        Path("classes", name).mkdir(parents=True)
    Path("mine.csv").write_text("path,label\n")
    for raw, message in (
        ("/nope", "/nope: expected one folder per class, .* received nothing there; .* set data.raw"),
        ("nope", "nope: expected one folder per class, .* received nothing there; .* set data.raw"),
        ("../nope", "nope: expected one folder per class, .* received nothing there; .* set data.raw"),
        ("nope.csv", "nope.csv: expected a table of images, received no such file; set data.raw"),
        ("empty", "empty: expected one folder per class, .* received 0 files and no class folder"),
        ("classes", "data.raw: expected images in the class folders, found none in classes"),
        ("mine.csv", "mine.csv: expected images, received no rows"),
    ):
        with pytest.raises(ValueError, match=message):
            plan.check_images(make("data=folder", f"data.raw={raw}", *GRID))


def test_the_images_of_each_trial_are_looked_at(make: Make, tiny_images: Path) -> None:
    plan.check_images(make("data=folder", f"data.raw={tiny_images}", *GRID))
    with pytest.raises(ValueError, match=r"^nope: expected one folder per class"):
        plan.check_images(make("data=folder", f"data.raw={tiny_images},nope", *GRID))


def test_the_plan_says_what_is_swept_though_nobody_has_asked_for_it(make: Make) -> None:
    made = make(*BASE, "phase2.learning_rate=1e-4", "head=article,linear")
    assert made.count == 2 * 3
    swept = "phase2.unfreeze=30%,50%,75%"
    line = f"  hydra/sweeper=lr_depth adds {swept}; phase2.unfreeze=VALUE on the command line stops that"
    assert plan.describe(made, made.trials, [])[1] == line
    assert make(*BASE, *GRID).added == ""
    assert (
        make(*BASE, "phase2.learning_rate=1e-4", "phase2.unfreeze=30%,50%,75%").added == ""
    )  # asked for, as it is there
    both = make(*BASE).added
    assert (
        "phase2.learning_rate=1e-4,3e-4,6e-4 phase2.unfreeze=30%,50%,75%; phase2.learning_rate=VALUE phase2.un" in both
    )


def test_a_samplers_ranges_are_checked_at_their_ends(make: Make) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="an extra")
    made = make(*BASE, sweeper="tpe")
    assert not made.grid and made.count == 20
    assert made.ranges == ["phase2.learning_rate"]
    assert made.depths() == ["20", "40", "80", "110"]
    assert len(plan.shared(made, made.trials)) == 1
    assert "phase2.learning_rate (range) × phase2.unfreeze (4)" in plan.describe(made, made.trials, [])[0]
    assert make(*BASE, "hydra.sweeper.n_trials=40", sweeper="tpe").folder == made.folder
    assert make(*BASE, "hydra.sweeper.sampler.seed=1", sweeper="tpe").folder != made.folder


def test_a_grid_of_a_range_is_refused_before_anything_is_computed_for_it(make: Make) -> None:
    message = r"^phase2\.learning_rate: expected choices, .* received the range phase2\.learning_rate=interval\("
    with pytest.raises(ValueError, match=message):
        make(*BASE, "phase2.learning_rate=interval(1e-5,1e-4)", "phase2.unfreeze=20,40")


def test_no_trial_at_random_waits_for_another() -> None:
    preset = OmegaConf.load(PRESETS.parent / "sweeper" / "random.yaml")
    assert preset.n_jobs == preset.n_trials


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_every_preset_of_launchers_composes(preset: str) -> None:
    (base,) = OmegaConf.load(PRESETS / f"{preset}.yaml").defaults
    plugin = multirun.EXTRAS[f"hydra/launcher/{base}"].replace("-", "_")
    pytest.importorskip(f"hydra_plugins.{plugin}", reason="an extra")
    load.register()
    with initialize_config_dir(str(paths.CONF.resolve()), version_base=None):
        composed = compose_config("sweep", [f"hydra/launcher={preset}"], return_hydra_config=True)
    assert "Launcher" in composed.hydra.launcher._target_


def test_the_plan_of_a_sweep_is_read_as_it_was_written(tmp_path: Path) -> None:
    tracking = schema.Tracking(enabled=False, uri="", experiment="thaw")
    written = plan.SweepPlan(2, {"a": ["a=1", "a=2"]}, {"x": "y"}, "abc", ["40"], "me", tracking, "run", {"u": "no"})
    assert plan.SweepPlan.read(tmp_path) is None
    with pytest.raises(ValueError, match=r"expected a sweep's folder"):
        plan.SweepPlan.of(tmp_path)
    written.write(tmp_path)
    assert plan.SweepPlan.of(tmp_path) == written
    records.write_json(tmp_path / results.PLAN, {"swept": {}})
    with pytest.raises(ValueError, match=r"plan\.json: expected the plan of a sweep, received another file"):
        plan.SweepPlan.read(tmp_path)
