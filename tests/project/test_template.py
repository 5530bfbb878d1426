"""The files of a new project, beside those of the repository."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from thaw import paths, records
from thaw.commands import explain
from thaw.project import code, stale, template

ROOT = Path(__file__).resolve().parents[2]


def ran(output: str) -> list[str]:
    """The stages that DVC started, in order."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running")]


def read(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def test_the_pipeline_is_the_repositorys_but_for_the_sample_and_what_stands_for_the_code() -> None:
    own, theirs = read((ROOT / "dvc.yaml").read_text(encoding="utf-8")), read(template.pipeline())
    record = theirs["stages"].pop("package")
    assert record["outs"] == [paths.PACKAGE.as_posix()] and record["always_changed"]
    del own["stages"]["sample"]
    assert list(theirs["stages"]) == list(own["stages"])
    for name, stage in own["stages"].items():
        code = [each for each in stage["deps"] if each.startswith("thaw/")]
        assert code
        stage["deps"] = sorted({*stage["deps"]} - {*code} | {f"models/package/{name}.json"})
        theirs["stages"][name]["deps"].sort()
    assert theirs == own


def test_a_project_has_a_file_for_each_stage_and_the_options_of_the_repository() -> None:
    files = dict(template.files("flowers"))
    stages = {path.stem for path in files if path.parent == Path("stages")} - {"__init__"}
    assert stages == set(read(template.pipeline())["stages"])
    options = {path.relative_to(ROOT) for path in (ROOT / "conf").rglob("*.yaml")}
    lacking = {paths.CHOSEN, Path("conf/data/digits.yaml")}
    assert {path for path in files if path.parts[0] == "conf" and path.suffix == ".yaml"} == options - lacking
    written = [path for path in files if path.parts[0] in (".vscode", "schemas")]
    assert {path: files[path] for path in written} == {
        path: (ROOT / path).read_text(encoding="utf-8") for path in written
    }
    assert {Path(".vscode/settings.json"), Path("schemas/params.json")} <= set(written)
    assert {"data": "folder"} in read(files[Path("conf/config.yaml")])["defaults"]
    for path, text in files.items():
        if path.suffix == ".py":
            compile(text, str(path), "exec")


def test_messages_name_no_command_that_only_a_clone_has() -> None:
    only = re.compile(r"`make \w|\bmake (?:params|ui|sweep|repro|docs)\b")
    for path in sorted((ROOT / "thaw").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        described = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in described)
        assert not [node.value for node in texts if isinstance(node.value, str) and only.search(node.value)], path
    for path, text in template.files("flowers"):
        assert not re.search(r"`make \w", text), path


def test_the_record_of_a_stage_goes_by_the_code_that_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "thaw"
    shutil.copytree(ROOT / "thaw", library, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("stages", "dvc.yaml"):
        whole = ROOT / part
        (shutil.copytree if whole.is_dir() else shutil.copyfile)(whole, tmp_path / part)
    monkeypatch.setattr("thaw.runtime.code_version.LIBRARY", library)
    before = {stage: code.of(stage) for stage in template.stages()}

    with (library / "exports" / "parity.py").open("a") as file:
        file.write("# prose\n")
    assert {stage: code.of(stage) for stage in before} == before
    with (library / "exports" / "parity.py").open("a") as file:
        file.write("MORE = 1\n")
    assert [stage for stage in before if code.of(stage) != before[stage]] == ["environment", "export"]
    with (tmp_path / "stages" / "prepare.py").open("a") as file:
        file.write("MORE = 1\n")
    assert [stage for stage in before if code.of(stage) != before[stage]] == ["prepare", "environment", "export"]


def test_records_are_written_as_the_stage_package(project: Path) -> None:
    code.write()
    stages = {path.stem for path in (project / paths.PACKAGE).iterdir()} - {"version"}
    assert stages == set(template.stages()) - {"sample"}


def test_an_upgrade_says_which_stages_it_runs_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stale.upgrade() == ""  # nothing has run
    code.write()
    assert stale.upgrade() == ""
    now = version("thaw")
    records.write_json(paths.PACKAGE / "version.json", {"thaw": "0.0.1"})
    assert stale.upgrade() == f"thaw 0.0.1 → {now}: nothing runs again"
    records.write_json(template.record("evaluate"), {"code": "that of 0.0.1"})
    assert stale.upgrade() == f"thaw 0.0.1 → {now}: other code for evaluate; {stale.AGAIN}"
    (project / "dvc.yaml").write_text(template.pipeline(), encoding="utf-8")
    reasons = explain.project()["stale"]
    assert f"thaw 0.0.1 → {now}" in reasons["evaluate"]
    assert not any(each.startswith("thaw ") for each in reasons["phase1_head"])
    records.write_json(paths.PACKAGE / "version.json", {"thaw": now})  # built again from other code
    assert stale.upgrade() == f"thaw {now}, another build of it: other code for evaluate; {stale.AGAIN}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the repository, built from its tracked files."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    words = ("pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", f"--wheel-dir={built}")
    subprocess.run([sys.executable, "-m", *words, str(source)], check=True)
    (found,) = built.glob("*.whl")
    return found


def test_a_wheel_has_the_marker_of_types_the_command_and_what_projects_are_made_of(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        (command,) = [name for name in names if name.endswith("entry_points.txt")]
        assert "thaw = thaw.commands.cli:main" in file.read(command).decode()
    assert {"thaw/py.typed", "thaw/project/files/gitignore.in", "thaw/project/packed/dvc.yaml"} <= names


def test_a_wheel_that_pip_installs_brings_a_command_that_makes_projects(
    wheel: Path, tmp_path: Path, tiny_images: Path
) -> None:
    made = tmp_path / "environment"
    venv.create(made, with_pip=False, symlinks=True)
    (there,) = (made / "lib").glob("python3*/site-packages")
    packages = [path for path in sys.path if path.endswith("site-packages")]
    (there / "others.pth").write_text("\n".join(packages))  # what the package needs, and not this clone
    pip = [sys.executable, "-m", "pip", "--python", str(made / "bin" / "python"), "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-index", "--ignore-installed", str(wheel)], check=True, capture_output=True)

    def run(*words: str) -> str:
        own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        own |= {"PATH": f"{made / 'bin'}{os.pathsep}{os.environ['PATH']}", "GIT_CEILING_DIRECTORIES": str(tmp_path)}
        done = subprocess.run(words, cwd=tmp_path, env=own, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert run("thaw", "--version") == f"thaw {version('thaw')}\n"
    where = run("python", "-c", "from thaw.project import template; print(template.source())")
    assert where.strip() == str(there / "thaw" / "project" / "packed")
    assert "36 usable images of 3 classes" in run("thaw", "check", str(tiny_images))
    told = json.loads(run("thaw", "new", "mine", "--data", str(tiny_images), "--json", "phase2.epochs=3"))
    project = Path(told["folder"])
    assert read((project / "params.yaml").read_text(encoding="utf-8"))["phase2"]["epochs"] == 3
    assert tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"] == []
    assert {path.as_posix() for path, _ in template.files("mine")} <= {
        path.relative_to(project).as_posix() for path in project.rglob("*")
    }


@pytest.mark.slow
def test_a_wheel_is_enough_for_a_project_from_images_to_an_exported_model(
    wheel: Path, tmp_path: Path, tiny_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        file.extractall(installed)
    packed = {name.partition("/packed/")[2] for name in names if "/packed/" in name}
    assert {"dvc.yaml", ".dvc/config", "conf/config.yaml", "stages/export.py"} <= packed
    assert {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")} == {"thaw"}

    def run(*words: str, cwd: Path) -> str:
        # The wheel goes before this clone, which the environment has as an editable installation.
        monkeypatch.setenv("PYTHONPATH", str(installed))
        monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
        done = subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    where = run("-c", "from thaw.project import template; print(template.source())", cwd=tmp_path)
    assert where.startswith(str(installed))
    tiny = ("image=px64", "augment.views=2", "phase1.epochs=2", "phase2.epochs=2", "phase2.unfreeze=block_7a")
    run("-m", "thaw.commands", "new", "mine", "--data", str(tiny_images), *tiny, cwd=tmp_path)
    first = run("-m", "dvc", "repro", cwd=tmp_path / "mine")
    assert "export: " in first and (tmp_path / "mine" / "models" / "export" / "saved_model").is_dir()
    again = run("-m", "dvc", "repro", cwd=tmp_path / "mine")
    assert ran(again) == ["package", "environment"]

    # An upgrade that changes the code of exports makes export stale, and nothing else.
    with (installed / "thaw" / "exports" / "parity.py").open("a") as module:
        module.write("MORE = 1\n")
    upgraded = run("-m", "dvc", "repro", cwd=tmp_path / "mine")
    assert ran(upgraded) == ["package", "environment", "export"]
