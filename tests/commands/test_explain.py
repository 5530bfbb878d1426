"""`thaw explain`: a field, and what is stale."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.lock import FAILED_TO_LOCK_MESSAGE

from thaw import paths, records, timings
from thaw.commands import explain
from thaw.config import composition, load
from thaw.project import first_look, stale
from thaw.tracking import dvc_lock


@pytest.mark.usefixtures("project")
def test_a_field_has_its_meaning_range_default_value_and_what_runs_again() -> None:
    found = explain.field("phase1.epochs")
    assert found["range"] == "1 to 1000 epochs" and found["default"] == 30 and found["here"] == 2
    assert found["runs again"] == ["phase1_head", "phase2_finetune", "evaluate", "export"]
    assert explain.field("compute.cache_gb")["runs again"] == []
    devices = explain.field("compute.devices")
    assert devices["runs again"] == ["phase2_finetune", "evaluate", "export"] and "note" not in devices
    bits = explain.field("compute.deterministic")
    assert bits["runs again"] == ["phase1_head", "phase2_finetune", "evaluate", "export"] and "note" not in bits
    assert explain.field("phase2.schedule")["range"].startswith("warmup_stable_decay, ")


def test_a_typo_is_answered_with_the_nearest() -> None:
    assert explain.named("head") == ["head.pooling", "head.units", "head.dropout", "head.l2"]
    with pytest.raises(ValueError, match=r"did you mean phase2\.learning_rate\?"):
        explain.named("phase2.learnin_rate")
    with pytest.raises(ValueError, match=r"did you mean phase1\.learning_rate or phase2\.learning_rate\?"):
        explain.named("learning_rate")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("phase2.lr", "did you mean phase2.learning_rate?"),
        ("lr", "did you mean phase1.learning_rate or phase2.learning_rate?"),
        ("imagee", "did you mean image?"),
        ("phase3.epochs", "did you mean phase2.epochs?"),
        ("phase1.qqqq", "known: epochs, "),
        ("qqqq", "known: data, image, "),
    ],
)
def test_an_abbreviation_and_a_typo_are_understood_within_the_group_that_is_named(typed: str, said: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 -- its message is looked at
        explain.named(typed)
    assert said in str(refused.value)


def test_stale_stages_are_named_with_the_values_that_changed(project: Path, tiny_images: Path) -> None:
    found = explain.project()
    assert set(found["stale"]) >= {"prepare", "phase1_head", "export"}
    assert found["time"] == {"extraction": None, "phase1": None, "phase2": None}
    # Not each of its inputs, which DVC names, since they are all new.
    assert found["stale"]["prepare"] == ["never run"]
    assert found["stale"]["export"][0] == "never run" and len(found["stale"]["export"]) == 2

    composition.configure(["data=folder", "tracking.enabled=false"])
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet", "prepare"], check=True)
    assert "prepare" not in explain.project()["stale"]
    composition.configure(["data.seed=7"])
    stale = explain.project()["stale"]
    assert stale["prepare"] == ["data.seed 0 → 7"]
    assert any(reason.startswith("after ") and "prepare" in reason for reason in stale["phase1_head"])


def test_while_a_run_is_under_way_one_line_says_so(project: Path) -> None:
    (project / ".dvc" / "tmp").mkdir(exist_ok=True)
    held = {str(project / paths.PREPARED): {"pid": os.getpid(), "cmd": "dvc repro"}}
    records.write_json(project / ".dvc" / "tmp" / "rwlock", {"write": held, "read": {}})
    with pytest.raises(ValueError, match=r"^expected no run under way, received one") as refused:
        stale.reasons()
    assert f", process {os.getpid()};" in str(refused.value) and "\n" not in str(refused.value)
    assert stale._busy(FAILED_TO_LOCK_MESSAGE).startswith("expected no run under way, received one;")
    assert stale._busy("ERROR: something else") == ""


def test_a_pipeline_that_git_ignores_is_not_taken_for_one_with_nothing_stale(project: Path) -> None:
    (project / ".git" / "info").mkdir(exist_ok=True)
    (project / ".git" / "info" / "exclude").write_text("dvc.yaml\n")
    with pytest.raises(ValueError, match=r"expected a file that git follows, received .* by .*exclude"):
        stale.reasons()


def test_without_git_it_says_what_to_do(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    shutil.rmtree(project / ".git")
    with pytest.raises(ValueError, match="; make one: git init"):
        stale.reasons()


def test_time_is_estimated_by_what_was_measured_here(project: Path) -> None:
    records.write_json(paths.metrics("prepare"), {"splits": {name: {"images": 100} for name in paths.SPLITS}})
    settings, values = load.read()
    assert yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8")) == values
    timings.write("extraction", values, count=10, seconds=1.0)
    times = explain.times(settings, {"phase1_head": ["never run"], "phase2_finetune": ["after phase1_head"]})
    # 100 training images in two views, and 100 for validation, a tenth of a second each.
    assert times == {"extraction": 30.0, "phase1": None, "phase2": None}
    timings.write("phase2", values, depth="auto", count=10, seconds=1.0)
    settings.phase2.epochs = 0  # which is 300 of so few
    assert explain.times(settings, {"phase2_finetune": ["changed"]}) == {"phase2": 0.1 * 100 * 300}


def test_a_first_look_makes_times_and_disk_known(project: Path) -> None:
    settings, values = load.read()
    settings.phase2.unfreeze = values["phase2"]["unfreeze"] = "auto"
    stale = {name: ["never run"] for name in ("prepare", "phase1_head", "phase2_finetune")}
    assert set(explain.times(settings, stale).values()) == {None} and explain.disk(settings)["cache_needs"] is None
    text = "\n".join(explain._project_lines({**explain.project(), "stale": stale}))
    assert "time of phase2: unknown yet, nothing like it has run here; `thaw run --fast` measures it" in text
    assert "GB, needs unknown yet, at most" in text

    look = project / first_look.FOLDER
    records.write_json(look / paths.metrics("prepare"), {"splits": {"train": {"images": 30}, "val": {"images": 10}}})
    with contextlib.chdir(look):
        timings.write("phase2", values, depth="75%", count=10, seconds=1.0)
    # 1,000 images in all, of which 40 views were looked at.
    first_look._remember(settings, values, 1000, 40_000_000)
    times = explain.times(settings, stale)
    epochs = settings.phase2.most_epochs(700)
    assert times["extraction"] is None and times["phase2"] == pytest.approx(0.1 * 700 * epochs)
    # Of each of 700 training images two views, of 150 for validation one, a megabyte each.
    assert explain.disk(settings)["cache_needs"] == 1.6 and settings.augment.views == 2
    settings.image.size += 32
    assert explain.disk(settings)["cache_needs"] is None
    settings.image.size -= 32
    first_look._remember(settings, values, 2000, 0)  # all was in the cache
    assert explain.disk(settings)["cache_needs"] == 3.1
    settings.data.raw = "elsewhere"
    assert explain.disk(settings)["cache_needs"] is None


def test_a_rate_that_dvc_writes_otherwise_has_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It notes 1e-05, which PyYAML takes for a text, where params.yaml has 1.0e-05."""
    monkeypatch.chdir(tmp_path)
    paths.PARAMS.write_text("phase2:\n  learning_rate: 1.0e-05\n  epochs: 3\n", encoding="utf-8")
    noted = yaml.safe_load("phase2:\n  learning_rate: 1e-05\n  epochs: 2\n")
    assert stale._of_values(noted, {"phase2": "modified"}) == ["phase2.epochs 2 → 3"]
    paths.PARAMS.write_text("compute:\n  devices: 2\n  cache_gb: 1\n", encoding="utf-8")
    assert stale._of_values({"compute.devices": 1}, {"compute.devices": "modified"}) == ["compute.devices 1 → 2"]
    assert dvc_lock.numbered({"a": [{"b": "-3e+2"}, "e5", "12"]}) == {"a": [{"b": -300.0}, "e5", "12"]}
