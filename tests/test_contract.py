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
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from thaw import paths
from thaw.config import backbone, load, tracked
from thaw.sweep import multirun
from thaw.tracking import pipeline

ROOT = Path(__file__).resolve().parents[1]
PIPELINE: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
STAGES = sorted(path.stem for path in (ROOT / "stages").glob("[!_]*.py"))
LIBRARY = sorted(
    path.relative_to(ROOT / "thaw").with_suffix("").as_posix().replace("/", ".")
    for path in (ROOT / "thaw").rglob("*.py")
    if not path.name.startswith("__")
)
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = list(dict.fromkeys(re.findall(r"^([a-z][a-z-]*):(?!=)", MAKEFILE, re.MULTILINE)))
# Folders of conf/ that hold no options of the project's own groups.
NOT_GROUPS = ("experiment", "hydra", "hydra_plugins")
OPTIONS = sorted(
    f"{path.parent.relative_to(ROOT / 'conf').as_posix()}={path.stem}"
    for path in (ROOT / "conf").rglob("*/*.yaml")
    if path.relative_to(ROOT / "conf").parts[0] not in NOT_GROUPS and path.stem != backbone.COMMON
)
EXPERIMENTS = sorted((ROOT / "conf" / "experiment").glob("*.yaml"))

STAGE_LINES, MODULE_LINES = 60, 300
# Packages and modules that are imported in a second, by commands and by stages that need no TensorFlow.
WITHOUT_TENSORFLOW = ("catalog", "config", "data", "evaluation", "exports", "serving", "sweep", "tracking", "commands")
NEEDS_TENSORFLOW = {
    *(f"thaw.evaluation.{name}" for name in ("evaluate", "from_scratch", "gradcam", "inspection", "predictions")),
    *(f"thaw.exports.{name}" for name in ("causes", "gate", "graph", "resize", "write")),
    "thaw.tracking.unfinished",
}
# In no stage's dependencies: parameters are tracked by value, outputs by path, and the others only look on.
UNLISTED = {"config", "paths", "console", "forecast", "timings", "pipes", "tracking"}


def source(module: str) -> Path:
    return ROOT / f"{module.replace('.', '/')}.py"


@cache
def imports(module: str) -> frozenset[str]:
    """The project's own modules that the module imports, at its top or in a function."""
    found = set()
    for node in ast.walk(ast.parse(source(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import, which these tests do not follow"
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        found |= {name for name in names if name.startswith(("thaw.", "stages.")) and source(name).is_file()}
    return frozenset(found)


def part(module: str) -> str:
    """The package or root file of the library that a module lies in, as dvc.yaml names it."""
    name = module.split(".")[1]
    return f"thaw/{name}" if (ROOT / "thaw" / name).is_dir() else f"thaw/{name}.py"


def computing(stage: str) -> set[str]:
    """The stage and all packages that can change what it makes."""
    found, waiting = set[str](), {f"stages.{stage}"}
    while waiting:
        module = waiting.pop()
        found.add(module)
        waiting |= {name for name in imports(module) if name.split(".")[1] not in UNLISTED} - found
    return {f"stages/{stage}.py", *(part(module) for module in found if module.startswith("thaw."))}


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
    assert tuple(PIPELINE) == pipeline.STAGES
    assert {name: stage["cmd"] for name, stage in PIPELINE.items()} == {
        name: f"python -m stages.{name}" for name in PIPELINE
    }


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_the_parameters_that_the_pipeline_tracks_for_it(stage: str) -> None:
    read = {name for name in config_fields(stage) if not {name, f"{stage}.{name}"} & set(tracked.UNTRACKED)}
    read |= {f"{group}.{name}" for group, of in tracked.TRACKED.items() for name in of if stage in of[name]}
    assert sorted(PIPELINE[stage].get("params", [])) == sorted(read)


def test_everything_called_untracked_is_read_by_a_stage() -> None:
    read = {f"{stage}.{name}" for stage in STAGES for name in config_fields(stage)}
    known = read | {name.split(".")[1] for name in read}
    assert set(tracked.UNTRACKED) <= known


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_packages_it_runs(stage: str) -> None:
    declared = [name for name in PIPELINE[stage]["deps"] if name.startswith(("stages/", "thaw/"))]
    assert sorted(declared) == sorted(computing(stage))


def test_packages_hold_no_code_of_their_own() -> None:
    for path in (*(ROOT / "thaw").rglob("*/__init__.py"), ROOT / "stages" / "__init__.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        assert all(isinstance(node, ast.Expr) for node in body), f"{path.relative_to(ROOT)}: importing it runs code"


# The library


def test_layers_and_owners_of_packages_are_as_pyproject_says() -> None:
    words = ["-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_needs_no_tensorflow_does_not_load_it() -> None:
    modules = [f"thaw.{name}" for name in LIBRARY if f"{name}.".startswith(tuple(f"{x}." for x in WITHOUT_TENSORFLOW))]
    modules = [name for name in modules if name not in NEEDS_TENSORFLOW]
    assert len(modules) > 30
    code = f"import sys, {', '.join(modules)}; print(*{{'tensorflow', 'keras', 'mlflow'}} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert loaded.stdout.split() == []


# Files


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        *((f"stages/{name}.py", STAGE_LINES) for name in STAGES),
        *((f"thaw/{name.replace('.', '/')}.py", MODULE_LINES) for name in LIBRARY),
    ],
)
def test_modules_are_short(path: str, limit: int) -> None:
    lines = (ROOT / path).read_text(encoding="utf-8").count("\n")
    assert lines <= limit


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_its_tests(stage: str) -> None:
    assert (ROOT / "tests" / "stages" / f"test_{stage}.py").is_file()


@pytest.mark.parametrize("package", sorted(path.parent.name for path in (ROOT / "thaw").glob("*/__init__.py")))
def test_every_package_has_its_tests(package: str) -> None:
    assert list((ROOT / "tests" / package).glob("test_*.py"))


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
    assert "conf/ was edited after params.yaml was compiled from it; run `python -m thaw.config`" in stopped.stderr


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
def setting_up(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Return a function that starts ``make setup``, or another target, in a project whose Python is a stand-in."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    (tmp_path / "requirements").mkdir()
    for name in ("cpu.txt", "dev.txt"):
        (tmp_path / "requirements" / name).touch()
    python = tmp_path / "python"
    python.write_text(STAND_IN.format(python=sys.executable), encoding="utf-8")
    python.chmod(0o755)
    (tmp_path / "log").touch()
    words = ["make", "DEVICE=cpu", f"PYTHON={python}"]
    # As if it were no part of a make, though this test may be.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}

    def start(target: str = "setup") -> subprocess.Popen[str]:
        return subprocess.Popen([*words, target], cwd=tmp_path, env=environment, start_new_session=True, **pipes)

    return start


def test_of_two_makes_at_once_the_second_waits_and_finds_the_environment_made(
    tmp_path: Path, setting_up: Callable[..., subprocess.Popen[str]]
) -> None:
    both = [setting_up(), setting_up()]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("waiting for it" in each for each in said) == 1
    assert all(each.endswith(".venv is ready\n") for each in said)
    done = [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()]
    assert done == ["venv", "begins", "ends"]


def test_a_set_up_that_was_killed_is_done_again_once_it_is_gone(
    tmp_path: Path, setting_up: Callable[..., subprocess.Popen[str]]
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


def test_what_only_tests_need_is_installed_by_the_targets_that_need_it(
    tmp_path: Path, setting_up: Callable[..., subprocess.Popen[str]]
) -> None:
    def lines() -> list[str]:
        return (tmp_path / "log").read_text().splitlines()

    setting_up().communicate(timeout=60)
    assert [line.split()[0] for line in lines()] == ["venv", "begins", "ends"]
    both = [setting_up("docs"), setting_up("docs")]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert [line.split()[0] for line in lines()] == ["venv", *["begins", "ends"] * 2], said
    (tmp_path / "requirements" / "dev.txt").touch()
    setting_up("docs").communicate(timeout=60)
    assert len(lines()) == 7
    setting_up().communicate(timeout=60)
    assert len(lines()) == 7


def test_the_lock_that_users_install_has_neither_tools_nor_extras_that_few_need() -> None:
    def pinned(name: str) -> set[str]:
        return set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements" / name).read_text(), re.MULTILINE))

    assert not {"pytest", "ruff", "mypy", "moto", "zensical", "keras-hub", "tensorflow-text"} & pinned("cpu.txt")
    assert {"pytest", "ruff", "mypy", "moto", "zensical", "keras-hub"} < pinned("dev.txt")
    assert pinned("cpu.txt") < pinned("dev.txt")
    assert pinned("cpu.txt") < pinned("sweeps.txt")
    assert {"setuptools", "tensorflow", "dvc", "hydra-core", "mlflow"} < pinned("cpu.txt")


def test_make_ui_says_that_its_port_is_taken(project: Path) -> None:
    (project / "mlflow.db").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = make("ui", f"PORT={port}")
    assert done.returncode != 0 and done.stdout == ""
    assert f"--port: expected a free port, received {port}; choose another" in done.stderr


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
