"""The files of a new project: the repository's own, with the installed package in place of files of its code.

A wheel carries them in the folder ``packed`` beside this module, where ``setup.py`` puts them. In a clone they are
the files that its own pipeline runs, so the two cannot differ.
"""

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

import yaml

from thaw import paths
from thaw.config import json_schema
from thaw.project import origin
from thaw.runtime import code_version

HERE = Path(__file__).parent
PACKED = HERE / "packed"
COPIED = (".dvc/config", ".dvc/.gitignore", ".dvcignore")  # byte for byte, and conf/ but for two files
SAMPLE = "sample"  # the stage that makes the demonstration's images
RECORD = "package"  # the stage that writes down the package's code, which a clone has among its dependencies
EMPTY = ("data/raw", "models", "metrics")

HEAD = """\
# The pipeline. Each stage reads the groups of params.yaml named under its `params` (compiled from conf/ by `thaw run`
# or `python -m thaw.config`), and runs again when one of them or a file under `deps` changes. The work is done by the
# installed package thaw: models/package/ has a hash of the code that each stage runs, so that after an upgrade those
# run again whose code is another.
stages:
"""
PACKAGE = f"""\
  {RECORD}:
    desc: Write down the code of the installed thaw, which DVC does not see
    cmd: python -m stages.{RECORD}
    # Takes a second. A stage that depends on one of its files runs again only where that is another one.
    always_changed: true
    deps:
      - stages/{RECORD}.py
    outs:
      - {paths.PACKAGE.as_posix()}

"""
# What pyproject.toml says of the package, by whether pip can be told where this very one is.
PINNED = "from the address below"
LOCAL = (
    "which is no dependency here, since no address of it is known. Install it first, from a clone or a\n"
    "# wheel of its repository; `pip install thaw` would bring another program, which PyPI has under that name"
)
STAGE = '''\
"""{said}

The installed thaw does the work. Code of your own that writes the same files may take its place: DVC runs this file.
"""

from thaw.project import stage

if __name__ == "__main__":
    stage.run("{name}")
'''


def source() -> Path:
    """Return the folder that holds conf/, stages/ and dvc.yaml: of the wheel, or else the clone's."""
    return PACKED if PACKED.is_dir() else code_version.LIBRARY.parent


@cache
def stages() -> dict[str, Any]:
    """Return the stages of the repository's dvc.yaml."""
    found: dict[str, Any] = yaml.safe_load((source() / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return found


def record(stage: str) -> Path:
    """Return the file that stands for the package's code among the dependencies of a stage."""
    return paths.PACKAGE / f"{stage}.json"


def pipeline() -> str:
    """Return a project's dvc.yaml: the repository's without the stage ``sample``, a record in place of the code."""
    text = (source() / "dvc.yaml").read_text(encoding="utf-8").partition("stages:\n")[2]
    lines, name, recorded = [HEAD, PACKAGE], "", ""
    for line in text.splitlines(keepends=True):
        if found := re.match(r"(?:  )?(\w+):", line):
            name = found[1]
        if name == SAMPLE:
            continue
        if line.startswith("      - thaw/"):
            line = f"      - {record(name).as_posix()}\n" if recorded != name else ""  # noqa: PLW2901
            recorded = name
        lines.append(line)
    return "".join(lines)


def files(name: str) -> Iterator[tuple[Path, str]]:
    """Yield the files of a new project of this name, by their paths in it."""
    root = source()
    yield Path("dvc.yaml"), pipeline()
    for part in COPIED:
        yield Path(part), (root / part).read_text(encoding="utf-8")
    for path in sorted((root / "conf").rglob("*")):
        inside = path.relative_to(root)
        if path.suffix in (".yaml", ".py") and inside not in (paths.CHOSEN, Path("conf/data/digits.yaml")):
            text = path.read_text(encoding="utf-8")
            yield inside, text.replace("data: digits", "data: folder") if path.name == "config.yaml" else text
    for path in sorted((root / json_schema.FOLDER).glob("*.json")):
        yield path.relative_to(root), path.read_text(encoding="utf-8")
    yield from json_schema.editor()
    yield Path("stages/__init__.py"), f'"""{_docstring(root / "stages/__init__.py")}"""\n'
    for stage in (RECORD, *(each for each in stages() if each != SAMPLE)):
        yield Path(f"stages/{stage}.py"), STAGE.format(name=stage, said=_said(stage))
    wanted = origin.requirement()
    told = {
        "name": name,
        "package": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "images",
        "version": version("thaw"),
        "origin": PINNED if wanted else LOCAL,
        "needs": json.dumps(wanted) if wanted else "",
    }
    for path in sorted((HERE / "files").glob("*.in")):
        text = Template(path.read_text(encoding="utf-8")).substitute(told)
        yield Path({"gitignore": ".gitignore"}.get(path.stem, path.stem)), text


def _said(stage: str) -> str:
    if stage == RECORD:
        return f"{RECORD}: write down the code of the installed thaw that each stage runs."
    return _docstring(source() / "stages" / f"{stage}.py").partition("\n")[0]


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.stem
