"""What the README and the guides say is true: commands, links, tables, examples."""

import ast
import contextlib
import importlib.util
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

import thaw
from docs import tables
from thaw import paths
from thaw.catalog import backbones
from thaw.commands import cli
from thaw.config import composition, load, phases, policy, schema, tracked
from thaw.data import attributes, issues
from thaw.data import table as image_table
from thaw.features import auto_unfreeze
from thaw.serving import files
from thaw.sweep import multirun
from thaw.sweep.compose import choices

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CONFIGURATION = ROOT / "docs" / "configuration.md"
DATA = ROOT / "docs" / "data.md"
BACKBONES = ROOT / "docs" / "backbones.md"
SERVING = ROOT / "docs" / "serving.md"
PREPROCESSING = ROOT / "docs" / "preprocessing.md"
TRAINING = ROOT / "docs" / "training.md"
MLFLOW_TAGS = {"thaw.depth", "thaw.helped", "thaw.ship", "thaw.verdict", "thaw.weights_sha256"}
# What a person who knows the field searches for, in lower case.
TERMS = (
    *("fine-tuning", "transfer learning", "learning rate", "frozen", "unfreeze", "freeze boundary"),
    *("feature extraction", "activations", "embeddings", "augmentation", "early stopping", "checkpoint"),
    *("out-of-fold", "cross-validation", "mixed precision", "class weights", "calibration", "hyperparameter"),
    *("confusion matrix", "near-duplicate", "held-out", "cold cache", "warm cache"),
)
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def group_of(name: str, project: Any) -> tuple[Any, str]:
    """The group that a field is in, and the field's own name."""
    *groups, field = name.split(".")
    for group in groups:
        project = getattr(project, group)
    return project, field


# Programs that are not the project's: that they know their own words is not for these tests to find out.
FOREIGN = {"base64", "curl", "find", "git", "docker", "mlflow", "pip", "ray"}
# Commands of the README that its test does not simply run to their end.
SPECIAL = {
    "make test": "not run: it would run the test that runs it",
    "make ui": "started, asked for the runs, and stopped: it never ends by itself",
}
# Fields whose range no check of the schema settles alone, so that the table describes it in words.
IN_WORDS = {
    "data.raw": "a folder is looked for when the stage runs",
    "backbone.name": "the choices are those of thaw.networks.backbones.ROWS, which are compared with them below",
    "backbone.weights": "a word, a file or a folder, depending on the name",
    "backbone.builder": "only a custom backbone has one",
    "backbone.pixels": "a word of thaw.catalog.pixel_contracts, which the guide to backbones is compared with below",
    "backbone.sha256": "any hash",
    "phase2.unfreeze": "the blocks are those of the backbone",
    "compute.cache_dir": "any folder",
    "compute.shared_cache": "any address, or a folder from the root on",
    "compute.ray": "any address of Ray's",
    "compute.depths": "as phase2.unfreeze; what the backbone does not have is passed over",
    "tracking.uri": "MLflow's to judge",
    "tracking.experiment": "any name",
}


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(document: Path) -> list[str]:
    lines = "\n".join(blocks(document, "bash")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def tables_of(document: Path) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Heads and rows of the document's tables."""
    for text in re.findall(r"(?:^\|.*\|\n)+", document.read_text(encoding="utf-8"), re.MULTILINE):
        head, _, *rows = ([cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines())
        yield head, rows


def table(document: Path, *first_heads: str) -> list[list[str]]:
    """The rows of the one table whose heads begin so."""
    (rows,) = [rows for head, rows in tables_of(document) if head[: len(first_heads)] == list(first_heads)]
    assert all(len(row) == len(rows[0]) for row in rows)
    return rows


def words(cell: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)


# Commands


def check_make(arguments: Sequence[str]) -> None:
    given = dict(word.split("=", 1) for word in arguments if "=" in word)
    targets = [word for word in arguments if "=" not in word]
    for target in targets:
        assert re.search(rf"^{re.escape(target)}:(?!=)", MAKEFILE, re.MULTILINE), f"no target {target}"
    for name in given:
        assert re.search(rf"\$\({name}\)", MAKEFILE), f"no variable {name}"
    if targets == ["params"]:
        compose(shlex.split(given.get("ARGS", "")))


def check_python(arguments: Sequence[str]) -> None:
    option, module, *rest = arguments
    assert option == "-m"
    assert importlib.util.find_spec(module), f"no module {module}"
    if module == "thaw.config":
        compose([word for word in rest if word != composition.RESET])
    if module == "thaw.sweep":
        from hydra.core.override_parser.overrides_parser import OverridesParser  # noqa: PLC0415 -- a second

        check_presets([word for word in rest if word.lstrip("+").startswith("hydra")])
        own = ("-m", "--multirun", multirun.RETRY)
        words = [word for word in rest if word not in own and not word.lstrip("+").startswith("hydra")]
        given = OverridesParser.create().parse_overrides(words)
        values = (choices(item) if item.is_sweep_override() else [str(item.input_line)] for item in given)
        for trial in itertools.product(*values):
            compose(trial)


def check_presets(words: Sequence[str]) -> None:
    """What is said to Hydra itself; of an extra that is not installed, that its preset is there."""
    from hydra import compose, initialize_config_dir  # noqa: PLC0415 -- a second
    from hydra.core.plugins import Plugins  # noqa: PLC0415
    from hydra.plugins.launcher import Launcher  # noqa: PLC0415
    from hydra.plugins.sweeper import Sweeper  # noqa: PLC0415

    for group, name in (word.split("=") for word in words if word.startswith("hydra/")):
        assert (ROOT / "conf" / group / f"{name}.yaml").is_file()
    found = {each.__name__ for kind in (Launcher, Sweeper) for each in Plugins.instance().discover(kind)}
    if {"JoblibLauncher", "OptunaSweeper", "RayLauncher", "SlurmLauncher"} <= found:
        load.register()
        with initialize_config_dir(str(ROOT / "conf"), version_base=None):
            compose("sweep", list(words), return_hydra_config=True)


def compose(overrides: Sequence[str]) -> None:
    load.check(yaml.safe_load(load.compose(overrides, ())))


def check_dvc(arguments: Sequence[str]) -> None:
    from dvc.cli import parser  # noqa: PLC0415 -- seconds, and only here

    options: Any = parser.get_main_parser().parse_args(list(arguments))
    if arguments[:2] == ["exp", "run"] and options.set_param:
        compose(options.set_param)


def check_thaw(arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    # In an empty folder the first thing that is wrong after the arguments is that there is nothing to work on.
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["thaw", *arguments])
    if arguments[0] in ("backbones", "completion") or (arguments[0] == "explain" and len(arguments) > 1):
        cli.main()
        return
    with pytest.raises(SystemExit) as ended:
        cli.main()
    missing = {
        "report": "run `dvc repro` first",
        "new": "found nothing at",
        "check": "found nothing at",
        "run": "expected a project",
        "explain": "expected a project",
        "sweep": "expected the folder conf/ here",
        "sweep-report": "expected a sweep in",
        "promote": "expected one finished trial of a sweep",
        "serve": "expected an exported model",
        "demo": "expected an exported model",
        "champion": "expected params.yaml in",
        "verify": "expected a project",
    }
    assert missing.get(arguments[0], "files could not be used") in str(ended.value.code)


@pytest.mark.parametrize(
    "command", [pytest.param(each, id=f"{path.name}: {each}") for path in DOCUMENTS for each in commands(path)]
)
def test_a_command_is_one_that_the_project_understands(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    program, *arguments = shlex.split(command, comments=True)
    if program == "thaw":
        check_thaw(arguments, monkeypatch, tmp_path)
    elif program not in FOREIGN:
        checks: dict[str, Callable[[Sequence[str]], None]] = {
            "make": check_make,
            "python": check_python,
            "dvc": check_dvc,
        }
        checks[program](arguments)


def test_the_weights_of_an_example_can_be_had() -> None:
    from thaw.networks import applications, downloads  # noqa: PLC0415 -- TensorFlow

    chosen = set()
    for command in itertools.chain.from_iterable(map(commands, DOCUMENTS)):
        program, *arguments = shlex.split(command, comments=True)
        if program == "python" and arguments[:2] == ["-m", "thaw.config"]:
            with contextlib.chdir(ROOT):
                words = [word for word in arguments[2:] if word != composition.RESET]
                backbone = load.check(yaml.safe_load(load.compose(words, ()))).backbone
            if backbone.weights == "imagenet" and not backbone.sha256:
                chosen.add(backbone.name)
    assert chosen
    for name in chosen:
        row = backbones.APPLICATIONS[name]
        shape = (row.size, row.size, 3)
        assert downloads.wanted(partial(applications.network, row, "imagenet", input_shape=shape)).pinned, name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_targets_and_modules_named_in_the_text_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"`make ([a-z-]+)", text):
        check_make([target])
    for module in re.findall(r"`python -m ([\w.]+)", text):
        assert importlib.util.find_spec(module), f"no module {module}"


def there_is(name: str) -> bool:
    """Whether a name such as thaw.data.folders.find is a package, a module, or a name in one."""
    if name.removeprefix("thaw.") in thaw.NAMES:
        short = name.removeprefix("thaw.")
        name = f"{thaw.NAMES[short]}.{short}"  # where ``thaw`` finds it
    path, *inside = ROOT, *name.split(".")
    while inside and (path / inside[0]).is_dir():
        path /= inside.pop(0)
    module = path / f"{inside.pop(0)}.py" if inside else path / "__init__.py"
    if not module.is_file():
        return False
    body = ast.parse(module.read_text(encoding="utf-8")).body
    for part in inside:
        found = [each for each in body if getattr(each, "name", "") == part or part in names_set_by(each)]
        if not found:
            return False
        body = getattr(found[0], "body", [])
    return True


def names_set_by(node: ast.stmt) -> list[str]:
    targets = (
        node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    )
    return [target.id for target in targets if isinstance(target, ast.Name)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_modules_and_functions_named_in_the_text_exist(document: Path) -> None:
    named = set(re.findall(r"`(thaw(?:\.\w+)+)`", document.read_text(encoding="utf-8"))) - MLFLOW_TAGS
    assert not [name for name in sorted(named) if not there_is(name)]


def test_a_name_that_is_not_there_is_found_out() -> None:
    assert there_is("thaw.data.validation_cache.Memo.get")
    assert there_is("thaw.catalog.pixel_ranges.RANGES")
    assert not there_is("thaw.data.folders.seek")
    assert not there_is("thaw.folders")
    assert not there_is("thaw.data.validation_cache.Memo.take")


@pytest.mark.parametrize("term", TERMS)
def test_a_search_for_a_term_of_the_field_finds_a_guide(term: str) -> None:
    texts = (document.read_text(encoding="utf-8") for document in DOCUMENTS)
    prose = (re.sub(r"^(?:\|[^\n]*|```.*?^```)$", "", text, flags=re.MULTILINE | re.DOTALL) for text in texts)
    assert any(term in re.sub(r"\s+", " ", text).lower() for text in prose)


def test_every_special_command_is_in_the_readme() -> None:
    assert set(SPECIAL) <= set(commands(ROOT / "README.md"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            linked = (document.parent / path).resolve() if path else document
            assert linked.exists(), f"{document.name} links to {target}"
            assert linked.is_relative_to(ROOT), f"{document.name} links out of the project, to {target}"
            if anchor:
                heads = re.findall(r"^#+ (.*)", linked.read_text(encoding="utf-8"), re.MULTILINE)
                assert anchor in [re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_examples_in_python_and_json_can_be_read(document: Path) -> None:
    for block in blocks(document, "python"):
        compile(block, document.name, "exec")
    for block in blocks(document, "json"):
        json.loads(block)


def test_the_readme_is_short() -> None:
    assert (ROOT / "README.md").read_text(encoding="utf-8").count("\n") <= 150


# docs/configuration.md


@pytest.fixture(scope="module")
def project_configuration() -> schema.Project:
    """What `data=folder` compiles to."""
    with contextlib.chdir(ROOT):
        return load.check(yaml.safe_load(load.compose(["data=folder"], ())))


def field_rows() -> dict[str, list[str]]:
    rows = table(CONFIGURATION, "field", "default", "range", "meaning")
    found = {words(name)[0]: cells for name, *cells in rows}
    assert len(found) == len(rows)
    return found


FIELDS = field_rows()


def accepts(group: Any, field: str, value: Any) -> bool:
    try:
        replace(group, **{field: value})
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("document", tables.WRITERS)
def test_the_tables_are_those_that_make_docs_writes(document: str) -> None:
    written = tables.text(document) == (ROOT / "docs" / document).read_text(encoding="utf-8")
    assert written, f"docs/{document} is older than the code or conf/: make docs"


def test_a_field_without_a_meaning_or_a_range_stops_make_docs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "comments", lambda kind: dict.fromkeys((field.name for field in fields(kind)), ""))
    with pytest.raises(ValueError, match=r"^data\.raw: expected a comment at the field"):
        tables.configuration()


def test_a_guide_without_the_marks_of_its_tables_stops_make_docs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "data.md").write_text("# Data\n")
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    with pytest.raises(ValueError, match=r"^docs/data\.md: expected the marks of the tables kinds"):
        tables.text("data.md")


def test_the_marked_tables_hold_what_the_code_says() -> None:
    fields_of_docs = field_rows()
    assert fields_of_docs["phase2.schedule"][1] == "`warmup_stable_decay`, `constant`, `cosine`"
    assert fields_of_docs["augment.rotation"][:2] == ["10", "0 to 180 degrees"]
    assert "[data.md](data.md)" in fields_of_docs["data.raw"][2]
    networks = {words(name)[0]: row for name, *row in table(BACKBONES, "`backbone.name`", "size", "smallest")}
    assert networks["inception_v3"][:3] == ["299", "75", "21.8 million"]
    listed = {words(name)[0] for name, _ in table(ROOT / "docs" / "architecture.md", "module", "what is there")}
    on_disk = {path.relative_to(ROOT / "thaw").with_suffix("").as_posix() for path in (ROOT / "thaw").rglob("*.py")}
    assert {name for name in on_disk if "__" not in name} <= listed


@pytest.mark.parametrize("name", sorted(FIELDS.keys() - IN_WORDS))
def test_the_range_in_the_table_is_that_of_the_schema(name: str, project_configuration: schema.Project) -> None:
    group, field = group_of(name, project_configuration)
    kind = next(each.type for each in fields(group) if each.name == field)
    now, stated = getattr(group, field), FIELDS[name][1]

    def takes(value: Any) -> bool:
        return accepts(group, field, [value] * len(now) if isinstance(now, list) else value)

    if kind is bool:
        assert words(stated) == ["true", "false"]
    elif words(stated):
        assert all(takes(choice) for choice in words(stated))
        assert not takes("nonesuch")
        # A choice that the table lacks would stand in one of the schema's tuples of choices.
        tuples = (*vars(schema).values(), *vars(phases).values(), policy.POLICIES)
        choices = itertools.chain.from_iterable(each for each in tuples if isinstance(each, tuple))
        assert {choice for choice in choices if takes(choice)} <= set(words(stated))
    else:
        low, high = re.match(r"(\S+?) (?:to ([^\s,]+)|or more)", stated).groups()  # type: ignore[union-attr]
        whole = kind in (int, list[int])
        read: Callable[[str], float] = int if whole else float
        assert takes(read(low))
        assert not takes(read(low) - (1 if whole else (read(low) or 1) / 1000))
        if high:
            assert takes(read(high))
            assert not takes(read(high) + (1 if whole else read(high) / 1000))


def test_the_guide_to_backbones_has_the_figures_of_the_rule_for_auto() -> None:
    for said in (
        f"**`{auto_unfreeze.LITTLE}`**",
        f"**`{auto_unfreeze.MOST}`**",
        f"{auto_unfreeze.FEW_IMAGES:,}",
        f"{auto_unfreeze.GAP:.0%} of the images".replace("%", " %"),
        f"{auto_unfreeze.NEIGHBOURS} nearest",
    ):
        assert said in BACKBONES.read_text(encoding="utf-8"), said


def test_the_table_of_what_runs_again_is_that_of_the_pipeline() -> None:
    stages: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    makers = {}
    for name, stage in stages.items():
        for out in [*stage.get("outs", []), *stage.get("metrics", [])]:
            makers[out if isinstance(out, str) else next(iter(out))] = name

    def again(groups: set[str]) -> set[str]:
        found = {name for name, stage in stages.items() if groups & set(stage.get("params", []))}
        for name, stage in stages.items():  # in the pipeline's order
            # "if the manifest changes" is in the table's words, so what prepare makes is taken as unchanged here.
            if {makers.get(dep) for dep in stage["deps"]} & found - {"prepare"}:
                found.add(name)
        return found

    rows = table(CONFIGURATION, "change in", "runs again")
    known = sorted([*tables.GROUPS, *(f"{group}.{name}" for group, of in tracked.TRACKED.items() for name in of)])
    assert sorted(itertools.chain.from_iterable(words(groups) for groups, _ in rows)) == known
    for groups, stated in rows:
        for group in words(groups):
            assert set(words(stated)) == again({group}), group


# docs/data.md


def test_what_the_guide_says_of_the_strict_policy_is_true() -> None:
    strict = load.check(yaml.safe_load(load.compose(["data=folder", "data/policy=strict"], ()))).data.policy
    failing = [kind for kind, choice in vars(strict).items() if choice == "fail"]
    assert failing == [*list(issues.REMEDIES)[:12], "small", "animated", "misnamed"]


def test_the_table_of_columns_is_that_of_the_code() -> None:
    rows = table(DATA, "column", "needed", "holds")
    assert tuple(words(name)[0] for name, needed, _ in rows if needed == "yes") == image_table.NEEDED
    assert tuple(words(name)[0] for name, needed, _ in rows if needed == "no") == image_table.OPTIONAL


@pytest.mark.usefixtures("project", "tiny_images")
def test_the_table_of_results_has_the_columns_and_figures_that_are_written() -> None:
    from stages import prepare  # noqa: PLC0415 -- only here

    prepare.main()
    stated = {words(file)[0]: words(holds) for file, holds in table(DATA, "file", "holds")}
    for path in (paths.MANIFEST, paths.QUARANTINE):
        own = [name for name in stated[path.as_posix()] if name.startswith(attributes.PREFIX)]  # of a user's table
        assert stated[path.as_posix()][: -len(own) or None] == path.read_text(encoding="utf-8").splitlines()[0].split(
            ","
        )
    figures = json.loads(paths.metrics("prepare").read_text(encoding="utf-8"))
    assert sorted(stated[paths.metrics("prepare").as_posix()]) == sorted(figures)
    assert {paths.CLASSES.as_posix(), f"{paths.CONVERTED.as_posix()}/"} <= set(stated)


# docs/training.md


def test_the_guide_has_each_policy_of_batch_norm() -> None:
    rows = table(TRAINING, "policy", "scale and offset", "statistics")
    assert tuple(words(policy)[0] for policy, *_ in rows) == phases.BATCH_NORMS


# docs/preprocessing.md


def test_the_table_of_sources_has_every_word_of_the_setting() -> None:
    sources = [words(cell) for cell, *_ in table(PREPROCESSING, "`backbone.weights`", "source", "sha256")]
    stated = set(itertools.chain.from_iterable(sources))
    assert stated == set(words(FIELDS["backbone.weights"][1])) - {".weights.h5"}


def test_the_tolerances_in_the_guide_are_those_of_the_tests() -> None:
    text = (ROOT / "tests" / "images" / "test_reference.py").read_text(encoding="utf-8")
    held = re.findall(r"^(?:EXACT|REDUCED_MEAN), \w+ = ([\d.]+), ([\d.]+)$", text, re.MULTILINE)
    (exact, by_table), reduced = held
    stated = [difference for _, difference, _ in table(PREPROCESSING, "where", "largest difference", "why")]
    assert stated[0].startswith(f"{exact} at any")
    assert stated[1].startswith(f"{by_table} at any")
    assert stated[2] == f"{reduced[0]} in the mean, {reduced[1]} at 95 % of the pixels"


# docs/serving.md


def test_the_guide_names_the_files_that_are_exported_and_all_that_the_commands_take(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SERVING.read_text(encoding="utf-8")
    for name in (paths.KERAS_FILE, paths.SAVED_MODEL, paths.LABELS, *files.SUFFIXES, paths.EXPORTED.as_posix()):
        assert f"`{name}" in text
    options = set()
    for command in ("predict", "serve", "demo", "champion"):
        monkeypatch.setattr(sys, "argv", ["thaw", command, "--help"])
        with pytest.raises(SystemExit):
            cli.main()
        options |= set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    told = "".join(re.findall(r"^(?:\| `.*|thaw .*)$", text, re.MULTILINE))
    assert options == set(re.findall(r"--[a-z-]+", told))


# All of it run


def short_copy(project: Path) -> None:
    """Bring the rest of the project into the copy, and make training short there; the commands stay what they are."""
    for name in ("Makefile", "README.md", "pyproject.toml", "LICENSE"):
        shutil.copyfile(ROOT / name, project / name)
    for name in ("docs", "requirements"):
        shutil.copytree(ROOT / name, project / name)
    for pattern, field, value in (
        ("phase?/*.yaml", "epochs", 1),
        ("phase?/*.yaml", "batch_size", 256),
        ("phase2/*.yaml", "unfreeze", '"20"'),
        ("data/digits.yaml", "val", 0.3),
        ("data/digits.yaml", "test", 0.02),  # the parity gate asks for each of these three times
        ("image/*.yaml", "size", 32),
        ("augment/*.yaml", "views", 3),
    ):
        for path in (project / "conf").glob(pattern):
            text, count = re.subn(rf"^( *{field}): .*", rf"\1: {value}", path.read_text(), flags=re.MULTILINE)
            assert count == 1
            path.write_text(text, encoding="utf-8")
    paths.PARAMS.write_text(load.compose(), encoding="utf-8", newline="\n")
    for line in ("git add .", "git commit --quiet --message=short"):
        subprocess.run(line.split(), check=True)


def run(command: Sequence[str]) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def look_at_the_runs(command: str, port: int) -> None:
    """Start MLflow's pages, find the project's experiment there, and stop them."""
    address = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get-by-name?experiment_name=thaw"
    with Path("ui.log").open("w") as log:
        server = subprocess.Popen(shlex.split(command), stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(240):
            assert server.poll() is None, Path("ui.log").read_text()
            with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=10) as reply:
                assert json.load(reply)["experiment"]["name"] == "thaw"
                return
            time.sleep(0.5)
        pytest.fail(f"no answer at {address}: {Path('ui.log').read_text()}")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


# TensorFlow Serving is no Python package. This answers as its REST API is documented: "instances" of base64 in, a row
# of "predictions" for each out, the outputs by name.
TENSORFLOW_SERVING = """\
import base64, http.server, json, sys
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        assert self.path == "/v1/models/thaw:predict"
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        run = model.signatures[told["signature_name"]]
        ((name, _),) = run.structured_input_signature[1].items()
        found = run(**{name: tf.constant([base64.b64decode(each["b64"]) for each in told["instances"]])})
        columns = {key: value.numpy().tolist() for key, value in found.items()}
        rows = [{key: values[n] for key, values in columns.items()} for n in range(len(told["instances"]))]
        body = json.dumps({"predictions": rows}, default=bytes.decode).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.handle_request()
"""


def answer_as_tensorflow_serving(block: str) -> None:
    """Run an example that asks TensorFlow Serving; what it prints is what `thaw predict` says of the same image."""
    command = [sys.executable, "-c", TENSORFLOW_SERVING, str(paths.EXPORTED / paths.SAVED_MODEL)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout
            port = server.stdout.readline().strip()
            label, probability = run([sys.executable, "-c", block.replace(":8501", f":{port}")]).split()
        finally:
            server.kill()
    (image,) = re.findall(r'Path\("(.*?)"\)', block)
    (told,) = json.loads(run(["thaw", "predict", image, "--json"]))
    assert label == told["label"] and float(probability) == pytest.approx(told["probability"], abs=1e-4)


@pytest.mark.slow
def test_the_commands_and_examples_of_the_readme_and_the_guide_to_serving_run(
    project: Path, tiny_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # What is said on make's command line and in this variable goes before the Makefile's own words.
    monkeypatch.setenv("MAKEFLAGS", f"VENV={sys.prefix} PORT={port}")
    monkeypatch.setenv("SETUP", "skip")
    short_copy(project)
    tiny_images.rename(project / "my_images")

    printed = {}
    for command in commands(ROOT / "README.md"):
        if command == "make ui":
            look_at_the_runs(command, port)
        elif command not in SPECIAL:
            printed[command] = run(["bash", "-c", command])
    answers = [json.loads(text) for command, text in printed.items() if "--json" in command]
    assert answers
    (documented,) = (json.loads(block) for block in blocks(SERVING, "json"))
    assert [sorted(row) for row in answers[0]] == [sorted(documented[0])]

    for document in (ROOT / "README.md", SERVING):
        for block in blocks(document, "python"):
            if "127.0.0.1:8501" in block:
                answer_as_tensorflow_serving(block)
                continue
            if "import openvino" in block and not importlib.util.find_spec("openvino"):
                continue  # no dependency of the project's
            assert run([sys.executable, "-c", block])

    # What the guide says of files that cannot be used.
    Path("notes.txt").write_text("no image")
    command_line = ["thaw", "predict", "--json", "notes.txt", "data/sample/digits/7/3500.png"]
    done = subprocess.run(command_line, check=False, capture_output=True, text=True)
    bad, good = json.loads(done.stdout)
    assert done.returncode == 1
    assert bad == documented[1]
    assert sorted(good) == sorted(documented[0])
    assert "notes.txt" in done.stderr
    assert subprocess.run(["thaw", "predict"], check=False, capture_output=True).returncode == 2


def test_the_files_that_stop_dvc_are_found_as_the_document_says(tmp_path: Path) -> None:
    good = tmp_path / "good.jpg"
    good.write_bytes(b"x")
    (tmp_path / "also good.jpg").symlink_to(good)
    (tmp_path / "broken.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "circle.jpg").symlink_to("circle.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")).touch()
    found = []
    for command in (line for line in commands(ROOT / "docs" / "data.md") if line.startswith("find FOLDER")):
        done = subprocess.run(
            ["bash", "-c", command.replace("FOLDER", shlex.quote(str(tmp_path)))], capture_output=True, check=False
        )
        found.append(sorted(os.path.basename(line) for line in done.stdout.splitlines()))  # noqa: PTH119 -- bytes
    assert found == [[b"broken.jpg", b"circle.jpg"], [b"pipe.jpg"], [b"\xff.jpg"]]
