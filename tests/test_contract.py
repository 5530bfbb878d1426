"""What the project promises about itself: configuration, pipeline, imports, files and commands agree."""

import ast
import importlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from thaw import paths
from thaw.config import load
from thaw.sweep import multirun
from thaw.tracking import run

ROOT = Path(__file__).resolve().parents[1]
PIPELINE: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
STAGES = sorted(path.stem for path in (ROOT / "stages").glob("[!_]*.py"))
LIBRARY = sorted(path.stem for path in (ROOT / "thaw").glob("[!_]*.py"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = list(dict.fromkeys(re.findall(r"^([a-z][a-z-]*):(?!=)", MAKEFILE, re.MULTILINE)))
# Folders of conf/ that hold no options of the project's own groups.
NOT_GROUPS = ("experiment", "hydra", "hydra_plugins")
OPTIONS = sorted(
    f"{path.parent.relative_to(ROOT / 'conf').as_posix()}={path.stem}"
    for path in (ROOT / "conf").rglob("*/*.yaml")
    if path.relative_to(ROOT / "conf").parts[0] not in NOT_GROUPS
)
EXPERIMENTS = sorted((ROOT / "conf" / "experiment").glob("*.yaml"))

STAGE_LINES, MODULE_LINES = 60, 300
# What a module may import of the library at most. A module that is not listed may import any that does not import it.
ARROWS: dict[str, set[str]] = {
    "policy": set(),
    "ranges": set(),
    "phases": {"ranges"},
    "networks": set(),
    "schema": {"networks", "phases", "policy", "ranges"},
    "layout": set(),
    "records": set(),
    "intervals": set(),
    "units": {"clusters", "layout"},
    "splits": {"clusters"},
    "partition": {"clusters", "layout", "leaks", "likeness", "records", "schema", "splits", "units"},
    "metrics": {"intervals"},
    "clusters": set(),
    "leaks": {"clusters", "splits"},
    "label_errors": {"layout", "records"},
    "out_of_sample": set(),
    "imports": set(),
    "framework": {"imports", "threads"},
    "seeds": {"framework"},
    "mistakes": {"layout", "schema"},
    "chosen": {"layout"},
    "config": {"chosen", "layout", "mistakes", "schema"},
    "leash": set(),
    "ledger": {"layout"},
    "locks": {"layout", "leash"},
    "reasons": set(),
    "room": {"threads"},
    "threads": set(),
    "environment": {"records", "schema"},
    "trial": {"config", "environment", "layout", "leash", "reasons", "records", "schema"},
    "plan": {"ingest", "layout", "ledger", "mistakes", "phases", "progress", "records", "trial"},
    "warmup": {"layout", "ledger", "locks", "plan", "records", "trial"},
    "sweep_table": {"records"},
    "ranking": {"intervals", "layout", "trial", "units"},
    "sweep_report": {"layout", "progress", "ranking", "records", "report", "sweep_table"},
    "promote": {"config", "layout", "ranking", "sweep_table", "threads", "trial"},
    "pipes": set(),
    "cli": {"config", "pipes", "predict", "promote", "sweep_report"},
    "sweep_run": {"pipeline_run", "schema", "tracking"},
    "findings": set(),
    "wholeness": {"findings"},
    "bits": {"findings"},
    "content": {"findings"},
    "formats": {"bits", "findings", "wholeness"},
    "memo": {"progress"},
    "listing": {"findings", "layout"},
    "ingest": {"findings", "layout", "listing", "progress"},
    "triage": {
        *("findings", "formats", "ingest", "layout", "likeness", "listing", "memo", "records", "schema", "threads"),
        "wholeness",
    },
    "pipeline_run": {"layout", "records"},
    "tracking": {"imports", "layout", "pipeline_run", "records", "schema", "tracking_store"},
    "tracking_store": {"layout"},
    "preprocessing": {"framework", "schema"},
    "augment": {"framework", "schema"},
    "head": {"framework", "schema"},
    "pixels": {"framework"},
    "cost": {"framework"},
    "applications": {"framework", "pixels", "wiring"},
    "foreign": {"framework", "networks", "pixels", "records", "saved_model", "wiring"},
    "saved_model": {"framework"},
    "wiring": {"framework"},
    "backbone": {
        *(
            "applications",
            "efficientnet_lite",
            "foreign",
            "framework",
            "networks",
            "progress",
            "provenance",
            "records",
        ),
        "torch_checkpoint",
    },
    "boundaries": {"backbone", "cost", "framework", "phases", "progress", "wiring"},
    "blocks": {"backbone", "boundaries", "config", "foreign", "framework", "layout", "networks", "pipes", "wiring"},
    "depth": {"layout"},
    "images": {"framework", "layout", "preprocessing", "records", "schema", "splits", "threads"},
    "batch_norm": {"framework"},
    "model": {"backbone", "batch_norm", "boundaries", "foreign", "framework", "head", "records", "schema"},
    "rates": {"framework", "schema"},
    "pixel_range": set(),
    "reference": {"formats", "schema"},
    "canary": {"batch_norm", "framework", "pixel_range", "progress", "wiring"},
    "provenance": {"framework", "records"},
    "exporting": {"formats", "framework", "layout", "model", "preprocessing", "records", "schema"},
}
# The only modules that may import a package. Where it is not needed it is not waited for, or need not be installed.
OWNERS = {
    "mlflow": {"thaw.tracking.mlflow_mirror"},
    "mlxtend": {"stages.sample"},
    "pyarrow": {"thaw.data.table"},
    "sqlite3": {"thaw.data.validation_cache"},
    "cleanlab": {"thaw.evaluation.label_errors"},
    "hydra": {
        "thaw.config.chosen",
        "thaw.config",
        "thaw.sweep.job",
        "thaw.config.errors",
        "thaw.sweep.plan",
        "thaw.sweep",
    },
    "keras_hub": {"thaw.networks.external"},
    "kagglehub": {"thaw.networks.external"},
    "keras": {"thaw.runtime.framework"},
    # extraction and exporting each take something of it that has no public name.
    "tensorflow": {"thaw.runtime.framework", "thaw.features.engines", "thaw.exports.write"},
}
WITHOUT_TENSORFLOW = (
    *(
        "environment",
        "config",
        "depth",
        "sweep",
        "trial",
        "triage",
        "formats",
        "splits",
        "metrics",
        "schema",
        "layout",
        "records",
    ),
    *(
        "label_errors",
        "out_of_sample",
        "partition",
        "tracking",
        "tracking_store",
        "pipeline_run",
        "progress",
        "report",
        "data_report",
        "predict",
    ),
    *("job", "leash", "ledger", "locks", "plan", "reasons", "room", "warmup", "sweep_table", "sweep_run"),
    *("intervals", "pictures", "units"),
    *("cli", "pipes", "mistakes", "promote", "ranking", "sweep_report", "pixel_range", "reference"),
    *(
        "predict",
        "networks",
        "phases",
        "ranges",
        "findings",
        "policy",
        "wholeness",
        "bits",
        "content",
        "likeness",
        "memo",
        "listing",
        "ingest",
    ),
)


def source(module: str) -> Path:
    return ROOT / f"{module.replace('.', '/')}.py"


@cache
def imports(module: str) -> frozenset[str]:
    """What the module's code imports, at its top or in a function: modules of the project, or names of packages."""
    found = set()
    for node in ast.walk(ast.parse(source(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import, which these tests do not follow"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, *inner = name.split(".")
            ours = package in ("thaw", "stages") and inner
            found.add(f"{package}.{inner[0]}" if ours else package)
    return frozenset(found)


def library_imports(module: str) -> set[str]:
    return {name.removeprefix("thaw.") for name in imports(module) - {module} if name.startswith("thaw.")}


def files(module: str) -> set[str]:
    """The module's file, and those that lie next to it under its name, as a template does."""
    return {path.relative_to(ROOT).as_posix() for path in source(module).parent.glob(f"{source(module).stem}.*")}


def reached(*modules: str) -> set[str]:
    """The modules, and all of ours that can change what they make."""
    observers = {f"thaw.{name}" for name in load.OBSERVERS}
    found, waiting = set[str](), set(modules)
    while waiting:
        module = waiting.pop()
        found.add(module)
        ours = {name for name in imports(module) if name.startswith(("thaw.", "stages."))}
        waiting |= ours - observers - found
    return found


def closure(stage: str) -> set[str]:
    """All files of code that can change what the stage makes."""
    return {name for module in reached(f"stages.{stage}") for name in files(module)}


def config_fields(stage: str) -> list[str]:
    return [field.name for field in fields(importlib.import_module(f"stages.{stage}").Config)]


def tracked_files() -> list[Path]:
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


# Configuration


def test_params_yaml_is_what_conf_compiles_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert paths.PARAMS.read_text(encoding="utf-8") == load.compose(), "run `make params`"


@pytest.mark.parametrize("override", [*OPTIONS, *(f"+experiment={path.stem}" for path in EXPERIMENTS)])
def test_every_option_composes(override: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    # Some networks take no images as small as the digits.
    larger = ["image=px224"] if override.startswith("backbone=") else []
    load.check(yaml.safe_load(load.compose([override, *larger], ())))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_carries_its_command(path: Path) -> None:
    comments = "\n".join(re.findall(r"^#.*", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert f"experiment={path.stem}" in comments


# The pipeline


def test_every_stage_of_the_pipeline_is_a_module_and_the_other_way_round() -> None:
    assert sorted(PIPELINE) == STAGES
    assert tuple(PIPELINE) == run.STAGES
    assert {name: stage["cmd"] for name, stage in PIPELINE.items()} == {
        name: f"python -m stages.{name}" for name in PIPELINE
    }


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_the_parameters_that_the_pipeline_tracks_for_it(stage: str) -> None:
    read = {name for name in config_fields(stage) if not {name, f"{stage}.{name}"} & set(load.UNTRACKED)}
    assert sorted(PIPELINE[stage].get("params", [])) == sorted(read)


def test_everything_called_untracked_is_read_by_a_stage() -> None:
    read = {f"{stage}.{name}" for stage in STAGES for name in config_fields(stage)}
    known = read | {name.split(".")[1] for name in read}
    assert set(load.UNTRACKED) <= known


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_it_runs(stage: str) -> None:
    declared = [name for name in PIPELINE[stage]["deps"] if name.startswith(("stages/", "thaw/"))]
    assert sorted(declared) == sorted(closure(stage))


def test_the_activation_cache_is_named_by_all_code_that_makes_its_numbers() -> None:
    # These say what is wanted, where files are and what they hold. Pooling is a part of the head, the cut a boundary.
    indifferent = {
        "content",
        "cost",
        "findings",
        "imports",
        "layout",
        "networks",
        "phases",
        "policy",
        "provenance",
        "ranges",
        "records",
        "schema",
        "threads",
    }
    code = set(importlib.import_module("thaw.features.extraction").CODE)
    makers = reached("thaw.features.extraction", "thaw.networks.freeze_boundaries", "thaw.classifier.head")
    assert {f"thaw.{name}" for name in code | indifferent} == makers
    assert not code & indifferent


def test_every_observer_is_a_module_of_the_library() -> None:
    assert set(load.OBSERVERS) <= set(LIBRARY)


def test_a_file_of_the_library_that_is_no_code_bears_the_name_of_the_module_it_belongs_to() -> None:
    assert {path.stem for path in (ROOT / "thaw").iterdir() if path.is_file() and path.suffix != ".py"} <= set(LIBRARY)


def test_packages_hold_no_code_of_their_own() -> None:
    for package in ("thaw", "stages"):
        body = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8")).body
        assert all(isinstance(node, ast.Expr) for node in body), f"{package}/__init__.py is in no stage's deps"


# The library


@pytest.mark.parametrize("module", LIBRARY)
def test_the_library_never_imports_stages(module: str) -> None:
    assert not {name for name in imports(f"thaw.{module}") if name.startswith("stages")}


@pytest.mark.parametrize("module", [name for name in LIBRARY if name in ARROWS])
def test_a_module_imports_only_what_its_arrows_point_to(module: str) -> None:
    assert library_imports(f"thaw.{module}") <= ARROWS[module]


def test_the_library_has_no_circles() -> None:
    TopologicalSorter({module: library_imports(f"thaw.{module}") for module in LIBRARY}).prepare()


@pytest.mark.parametrize("package", OWNERS)
def test_a_package_is_imported_by_its_owner_only(package: str) -> None:
    modules = [*(f"thaw.{name}" for name in LIBRARY), *(f"stages.{name}" for name in STAGES)]
    assert {module for module in modules if package in imports(module)} <= OWNERS[package]


def test_what_needs_no_tensorflow_does_not_load_it() -> None:
    modules = [f"thaw.{name}" for name in WITHOUT_TENSORFLOW if name in LIBRARY]
    code = f"import sys, {', '.join(modules)}; print(*{{'tensorflow', 'keras', 'mlflow'}} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert loaded.stdout.split() == []


# Files


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        *((f"stages/{name}.py", STAGE_LINES) for name in STAGES),
        *((f"thaw/{name}.py", MODULE_LINES) for name in LIBRARY),
    ],
)
def test_modules_are_short(path: str, limit: int) -> None:
    lines = (ROOT / path).read_text(encoding="utf-8").count("\n")
    assert lines <= limit


@pytest.mark.parametrize(
    "path", [*(f"thaw/test_{name}.py" for name in LIBRARY), *(f"stages/test_{name}.py" for name in STAGES)]
)
def test_every_module_has_its_tests(path: str) -> None:
    assert (ROOT / "tests" / path).is_file(), f"expected tests/{path}"


def test_no_file_names_a_folder_of_one_machine_or_a_package_index() -> None:
    # Written in pieces, or this file would be found.
    homes = "work|root|home|Users|tmp"
    hosts = "|".join(("py" + r"pi\.org", "python" + r"hosted\.org", "npm" + r"js\.", "ana" + r"conda\.(?:org|com)"))
    wrong = re.compile(r"(?<![\w.})\]])/" + rf"(?:{homes})/\w|{hosts}")
    found = []
    for path in tracked_files():
        text = path.read_bytes().decode("utf-8", errors="ignore")
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in wrong.finditer(text)]
    assert found == []


def test_the_locks_pin_every_package_with_hashes() -> None:
    for device in ("cpu", "gpu", "sweeps"):
        text = (ROOT / "requirements" / f"{device}.txt").read_text(encoding="utf-8").replace("\\\n", " ")
        lines = text.splitlines()
        assert lines
        assert [line for line in lines if not re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+ .*--hash=sha256:", line)] == []
        assert any(line.startswith("setuptools==") for line in lines), "needed to install the project itself"


# Commands


def test_every_target_has_its_line_in_the_help() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert re.findall(r"^  make ([a-z-]+) +\S", shown, re.MULTILINE) == TARGETS
    assert {"repro", "test", "params", "sweep", "ui", "lint", "clean"} <= set(TARGETS)
    phony = re.search(r"^\.PHONY: (.*)", MAKEFILE, re.MULTILINE)
    assert phony
    assert set(TARGETS) <= set(phony[1].split())


def make(target: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a target of the Makefile here, with the environment of these tests."""
    told = [
        "make",
        "--no-print-directory",
        "--file",
        str(ROOT / "Makefile"),
        "SETUP=skip",
        f"VENV={sys.prefix}",
        target,
        *words,
    ]
    return subprocess.run([*told, target, *words], check=False, capture_output=True, text=True, timeout=120)


def test_make_repro_stops_where_params_yaml_is_older_than_conf(project: Path) -> None:
    ready = make("repro", "ARGS=--dry sample")
    assert ready.returncode == 0 and "Running stage 'sample'" in ready.stdout
    with (project / "conf" / "phase1" / "default.yaml").open("a") as file:
        file.write("# edited\n")
    stopped = make("repro", "ARGS=--dry sample")
    assert stopped.returncode != 0 and stopped.stdout == ""
    assert "conf/ was edited after params.yaml was compiled from it; run `make params`" in stopped.stderr


def test_make_repro_says_before_set_up_that_there_is_no_repository(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    for target in ("repro", "sweep"):
        words = ["make", "PYTHON=nonesuch", target]  # set-up would say that there is no such Python
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode != 0 and "git init && git add . && git commit" in done.stderr
        assert "nonesuch" not in done.stderr and not list(tmp_path.glob(".venv*"))


# Takes the place of Python: notes what it is asked to do, and takes its time with it.
STAND_IN = """\
#!/bin/sh
case "$*" in
    "-m venv"*) echo "venv $$" >> log; for folder; do :; done; sleep 0.5
        mkdir -p "$folder/bin" && cp "$0" "$folder/bin/python" ;;
    *requirement*) echo "begins" >> log; sleep 2; echo "ends" >> log ;;
    *editable*|--version) ;;
    *) exec "{python}" "$@" ;;
esac
"""


@pytest.fixture
def setting_up(tmp_path: Path) -> Callable[[], subprocess.Popen[str]]:
    """What starts ``make setup`` in a project whose Python is a stand-in."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "cpu.txt").touch()
    python = tmp_path / "python"
    python.write_text(STAND_IN.format(python=sys.executable), encoding="utf-8")
    python.chmod(0o755)
    (tmp_path / "log").touch()
    words = ["make", "DEVICE=cpu", f"PYTHON={python}", "setup"]
    # As if it were no part of a make, though this test may be.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return lambda: subprocess.Popen(words, cwd=tmp_path, env=environment, start_new_session=True, **pipes)


def test_of_two_makes_at_once_the_second_waits_and_finds_the_environment_made(
    tmp_path: Path, setting_up: Callable[[], subprocess.Popen[str]]
) -> None:
    both = [setting_up(), setting_up()]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("waiting for it" in each for each in said) == 1
    assert all(each.endswith(".venv is ready\n") for each in said)
    done = [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()]
    assert done == ["venv", "begins", "ends"]


def test_a_set_up_that_was_killed_is_done_again_once_it_is_gone(
    tmp_path: Path, setting_up: Callable[[], subprocess.Popen[str]]
) -> None:
    log, first = tmp_path / "log", setting_up()
    end = time.monotonic() + 30
    while "begins" not in log.read_text() and time.monotonic() < end:
        time.sleep(0.05)
    outer = psutil.Process(first.pid)
    for process in [*outer.children(recursive=True), outer]:
        if process.name() == "make":
            process.kill()  # while their pip goes on
    first.wait()
    assert not list((tmp_path / ".venv").glob(".installed*"))
    again = setting_up()
    assert again.communicate(timeout=60)[0].endswith(".venv is ready\n") and again.returncode == 0
    first.communicate()
    done = [line.split()[0] for line in log.read_text().splitlines()]
    assert done == ["venv", "begins", "ends"] * 2  # never two at once
    assert setting_up().communicate(timeout=60)[0] == ".venv is ready\n"
    assert len(log.read_text().splitlines()) == 6


def test_make_ui_says_that_its_port_is_taken(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = make("ui", f"PORT={port}")
    assert done.returncode != 0 and done.stdout == ""
    assert f"make ui: expected a free port, received PORT={port}; choose another: make ui PORT=5001\n" in done.stderr


def test_continuous_integration_runs_the_targets_that_people_run() -> None:
    assert "exec make test\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for name in (".github/workflows/ci.yml", ".pre-commit-config.yaml"):
        called = re.findall(r"(?:run|entry): make ([a-z-]+)", (ROOT / name).read_text(encoding="utf-8"))
        assert called
        assert set(called) <= set(TARGETS)


def test_continuous_integration_has_the_extras_of_sweeps_when_it_runs_the_slow_tests() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    ran = [step.get("run", "") for step in workflow["jobs"]["slow"]["steps"]]
    (place,) = [number for number, command in enumerate(ran) if command.endswith(multirun.INSTALL)]
    assert ran.index("make setup") < place < ran.index("make test-slow")
