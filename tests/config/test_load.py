"""The real conf/, composed by the real Hydra and DVC in a copy of the project."""

import re
import subprocess
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import cloudpickle
import pytest
import yaml
from dvc.utils.hydra import compose_and_dump
from hydra.core.singleton import Singleton

from tests.conftest import ROOT
from thaw import paths
from thaw.config import load, schema

# What is wrong, and what the one line about it must hold.
WRONG = {
    "phase2.learning_rat=1e-5": "phase2.learning_rat: no such key; did you mean phase2.learning_rate?",
    "phase3.epochs=1": "phase3: no such key; did you mean",
    "zebra=1": "zebra: no such key; known: ",
    "phase2.epochs=many": "phase2.epochs: expected a whole number, received many",
    "phase1.epochs=2.5": "phase1.epochs: expected a whole number, received 2.5",
    "head.units=[12,wide]": "head.units",
    "phase1.learning_rate=2": "phase1.learning_rate: expected 1e-08 to 1, received 2",
    "phase2.schedule=linear": "expected one of warmup_stable_decay, constant, cosine, received 'linear'",
    "data.val=???": "data.val: expected a value, received none; set it with data.val=…",
    "phase2.learning_rate=0.001": "phase2.allow_high_rate=true if you mean it",
    "augment=ligth": "ligth",
    "phase2": "phase2: expected key=value or group=option",
    "+phase2.depth=3": "phase2.depth",
    "phase2=5": "phase2: expected the name of an option, received 5; known: article, default",
    "phase2=[default,article]": "phase2: expected the name of an option, received [default,article]; known: article",
    "~data/policy": "~data/policy: expected an option, since no group can be taken away; known: default, strict",
    "image=px64,px96": "image: expected one value, received px64,px96; `thaw sweep 'image=px64,px96'` tries several",
    "compiled_from=x": "compiled_from: no such key; known: data, image,",
    "data.raw=${image.size}": "data.raw: expected a text, received 64",
    "phase2.epochs=${image.fit}": "phase2.epochs: expected a whole number, received squash",
    "phase2.epochs=${image.gone}": "phase2.epochs: Interpolation key 'image.gone' not found",
}


@dataclass
class Config:
    """What a stage might declare."""

    image: schema.Image
    tracking: schema.Tracking


def edit(change: dict[str, dict[str, Any]]) -> None:
    """Change params.yaml, as a person with an editor does."""
    values = yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))
    for group, pairs in change.items():
        values[group] = values.get(group, {}) | pairs
    paths.PARAMS.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["data=folder", "data.raw='some where/ä'", "augment=none"],
        ["phase2.learning_rate=1e-5", "phase2.unfreeze=80", "head=linear", "image=px96", "tracking.uri=''"],
        ["+experiment=article", "phase2.unfreeze=block_6a"],
        ["backbone=efficientnet_v2_s", "image=px384"],
    ],
)
def test_params_are_byte_for_byte_what_dvc_writes(project: Path, overrides: list[str]) -> None:
    by_dvc = project / "by_dvc.yaml"
    load.register()  # as Hydra's plugin does once a process; a test before may have registered another project
    compose_and_dump(by_dvc, str(project / "conf"), None, "config", str(project / "conf"), overrides)
    assert load.compose(overrides).encode() == by_dvc.read_bytes()


@pytest.mark.parametrize("override", WRONG)
def test_what_is_wrong_on_the_command_line_is_one_line(project: Path, override: str) -> None:
    with pytest.raises(ValueError, match=re.escape(WRONG[override])) as caught:
        load.compose([override])
    assert "\n" not in str(caught.value) and "known: compiled_from" not in str(caught.value)


def test_a_composition_without_its_check_is_refused(project: Path) -> None:
    (paths.CONF / "config.yaml").write_text("defaults: [schema, _self_]\ncompiled_from: me\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"^compiled_from: expected none, since `python -m thaw\.config` computes it"):
        load.compose()


def test_a_high_rate_is_accepted_if_it_is_meant(project: Path) -> None:
    text = load.compose(["phase2.learning_rate=0.001", "phase2.allow_high_rate=true"])
    assert yaml.safe_load(text)["phase2"]["learning_rate"] == 0.001


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": {"sise": 64}}, "image.sise: no such key; did you mean image.size?"),
        ({"imago": {"size": 64}}, "imago: no such key; did you mean image?"),
        ({"image": {"size": "big"}}, "image.size: expected a whole number, received big"),
        ({"image": {"size": 31}}, "image.size: expected 32 to 1024 pixels, received 31"),
        ({"image": {"size": "???"}}, "image.size: expected a value, received none"),
        (
            {"phase2": {"learning_rate": 0.5}},
            "phase2.learning_rate: expected a rate below phase1.learning_rate (0.001)",
        ),
        ({"data": {"val": 0.5, "test": 0.5}}, "data.val + data.test: expected 0.9 at most"),
    ],
)
def test_what_is_wrong_in_params_is_one_line_even_if_no_stage_reads_it(
    project: Path, change: dict[str, dict[str, Any]], message: str
) -> None:
    @dataclass
    class Export:
        export: schema.Export

    edit(change)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load.groups(Export)
    assert "\n" not in str(caught.value)


def test_a_group_that_is_missing_or_no_group_is_named(project: Path) -> None:
    _, values = load.read()
    with pytest.raises(ValueError, match=r"^image: expected a value, received none"):
        load.check({key: value for key, value in values.items() if key != "image"})
    older = {
        **values,
        "evaluate": {key: value for key, value in values["evaluate"].items() if key not in ("worth", "robustness")},
    }
    with pytest.raises(
        ValueError, match=r"^evaluate\.robustness, evaluate\.worth: .*`thaw explain evaluate\.robustness`"
    ):
        load.check(older)  # a newer package asks for all that it has besides at once
    with pytest.raises(ValueError, match=r"^image: expected a group of keys, received 64$"):
        load.check(values | {"image": 64})


def test_load_gives_the_declared_groups_with_their_types(project: Path) -> None:
    loaded, params = load.groups(Config)
    assert [field.name for field in fields(loaded)] == ["image", "tracking"]
    assert loaded.image == schema.Image(size=64, fit="squash", interpolation="bilinear", antialias=True)
    assert isinstance(loaded.tracking, schema.Tracking)
    assert params == yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))


def test_a_stage_checks_the_configuration_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = Mock(side_effect=load.check)
    monkeypatch.setattr(load, "check", checked)
    load.groups(Config)
    checked.assert_called_once()


def test_params_must_be_there(project: Path) -> None:
    paths.PARAMS.unlink()
    with pytest.raises(ValueError, match=r"expected params\.yaml in .*, found none"):
        load.groups(Config)
    paths.PARAMS.write_text("just a text", encoding="utf-8")
    with pytest.raises(ValueError, match=r"params\.yaml: expected groups of keys, received 'just a text'"):
        load.groups(Config)


def test_params_older_than_conf_are_refused_until_they_are_compiled_again(project: Path) -> None:
    file = paths.CONF / "phase1" / "default.yaml"
    file.write_text(file.read_text() + "# a line more\n")
    with pytest.raises(
        ValueError, match=r"conf/ was edited after params\.yaml was compiled from it; run `python -m thaw\.config`"
    ):
        load.groups(Config)
    paths.PARAMS.write_text(load.compose())
    load.groups(Config)


def test_an_experiment_is_not_refused_since_dvc_composes_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (paths.CONF / "phase1" / "other.yaml").write_text("epochs: 3\n")
    monkeypatch.setenv("DVC_EXP_NAME", "trial")
    load.groups(Config)


def test_every_file_of_a_group_counts_for_the_digest_and_no_other_does(project: Path) -> None:
    start = load.digest(paths.CONF)
    files = sorted(paths.CONF.rglob("*.yaml"))
    assert len(files) > 20
    for file in files:
        text = file.read_text(encoding="utf-8")
        file.write_text(text + "# changed\n", encoding="utf-8")
        on_demand = file.relative_to(paths.CONF).parts[0] in ("experiment", "hydra", "sweep.yaml", "chosen.yaml")
        assert (load.digest(paths.CONF) == start) == on_demand, file
        file.write_text(text, encoding="utf-8")
    (paths.CONF / "phase2" / "mine.yaml").write_text("epochs: 1\n")
    assert load.digest(paths.CONF) != start


def test_the_article_stays_what_it_is(project: Path) -> None:
    article = load.check(yaml.safe_load(load.compose(["+experiment=article"])))
    assert (article.head.units, article.head.dropout) == ([256, 128], [0.5, 0.3])
    assert (article.phase1.learning_rate, article.phase1.epochs) == (1e-3, 10)
    assert (article.phase2.unfreeze, article.phase2.learning_rate, article.phase2.epochs) == ("40", 1e-4, 20)
    assert (article.phase2.schedule, article.phase2.patience, article.phase2.activations) == (
        "constant",
        5,
        "streaming",
    )
    assert article.augment.quarter_turns and article.augment.brightness == 0.1
    # Written out in the experiment, not inherited from defaults that may get better.
    written = yaml.safe_load((paths.CONF / "experiment" / "article.yaml").read_text(encoding="utf-8"))
    for group in ("head", "phase1", "phase2"):
        assert written[group] == asdict(getattr(article, group))
    chosen = [name for each in written["defaults"] for name in each]
    assert sorted(chosen) == [f"override /{group}" for group in ("augment", "backbone", "head", "image")]


def test_an_experiments_groups_can_be_chosen_otherwise(project: Path) -> None:
    other = load.check(yaml.safe_load(load.compose(["+experiment=article", "image=px96", "backbone=resnet50"])))
    assert (other.image.size, other.backbone.name, other.phase2.epochs) == (96, "resnet50", 20)


def test_the_command_writes_params(project: Path) -> None:
    done = command("-m", "thaw.config", "phase2.epochs=7")
    assert (done.returncode, done.stderr) == (0, "")
    assert yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))["phase2"]["epochs"] == 7
    assert load.read()[1]["phase2"]["epochs"] == 7


def test_the_command_warns_of_images_that_are_not_there(project: Path, tiny_images: Path) -> None:
    for raw in ("nope", "nope.csv", "/nope"):
        done = command("-m", "thaw.config", "data=folder", f"data.raw={raw}")
        assert (done.returncode, done.stderr.count("\n")) == (0, 1)
        assert done.stderr.startswith(f"thaw.config: data.raw: expected your images, found nothing at {raw}")
        assert (str(project) in done.stderr) == (raw != "/nope") and done.stderr.endswith("`dvc repro` needs them\n")
        assert load.read()[1]["data"]["raw"] == raw  # they may come later
    for overrides in (["data=folder"], ["data=folder", f"data.raw={tiny_images}"], ["data=digits"]):
        assert command("-m", "thaw.config", *overrides).stderr == ""


def test_the_command_refuses_in_one_line_and_leaves_params_alone(project: Path) -> None:
    before = paths.PARAMS.read_bytes()
    done = command("-m", "thaw.config", "phase2.epoch=7")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "thaw.config: phase2.epoch: no such key; did you mean phase2.epochs?\n"
    assert paths.PARAMS.read_bytes() == before


def test_the_command_says_what_it_is_for(project: Path) -> None:
    before = paths.PARAMS.read_bytes()
    done = command("-m", "thaw.config", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("python -m thaw.config [--reset] [group=option …]")
    assert paths.PARAMS.read_bytes() == before


def test_the_command_says_where_it_must_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = command("-m", "thaw.config")
    assert done.returncode == 1 and done.stderr.startswith("thaw.config: expected the folder conf/ here, received ")


def test_a_stage_that_reads_params_imports_no_hydra_and_no_tensorflow(project: Path) -> None:
    code = (
        "import sys; from dataclasses import make_dataclass; from thaw.config import load as config, schema; "
        "config.groups(make_dataclass('C', [('image', schema.Image)])); "
        "print([m for m in ('hydra', 'tensorflow', 'keras', 'mlflow') if m in sys.modules])"
    )
    done = command("-c", code)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError("first\n  second"), "stage: first second"), (FileNotFoundError(2, "No such file", "x.png"), "x.png")],
)
def test_an_error_that_a_user_can_mend_is_one_line(error: Exception, line: str) -> None:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        load.run(main, "stage")
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug() -> None:
        raise RuntimeError("bug")

    def refused() -> None:
        raise ValueError("refused")

    with pytest.raises(RuntimeError, match="bug"):
        load.run(bug, "stage")
    monkeypatch.setenv("THAW_TRACEBACK", "1")
    with pytest.raises(ValueError, match="refused"):
        load.run(refused, "stage")


def test_a_stage_ends_without_looking_for_garbage_among_all_it_has_made() -> None:
    made = "def main():\n    kept.extend([] for _ in range(10**5))"
    code = f"import gc\nfrom thaw.config import load as config\nkept = []\n{made}\nconfig.run(main, 'stage')\n"
    done = command("-c", f"{code}print(gc.get_freeze_count() > 10**5)")
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr


def test_what_hydra_knows_goes_to_the_other_processes_of_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Launchers pickle Hydra's state by value, with the classes that were made as it was registered."""
    monkeypatch.chdir(ROOT)
    code = (
        "import pickle, sys, yaml; from hydra.core.singleton import Singleton; from thaw.config import load; "
        "state = pickle.load(sys.stdin.buffer); load.register_check(); Singleton.set_state(state); "
        "from hydra import compose, initialize_config_dir; from pathlib import Path; "
        "initialize_config_dir(str(Path('conf').resolve()), version_base=None).__enter__(); "
        "found = compose('config', ['image=px64', 'data=folder', 'data.raw=2024']); "
        "print(found.image.size, found.phase2.epochs, found.data.raw)"
    )
    load.register(remembered=())
    state = cloudpickle.dumps(Singleton.get_state())
    done = subprocess.run([sys.executable, "-c", code], input=state, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.split() == [b"64", b"0", b"2024"]
