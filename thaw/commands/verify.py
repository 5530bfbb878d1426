"""``thaw verify``: run a stage, or all of them, again in a copy of the project, and compare what comes out.

An export is compared with what it says of itself: ``thaw.commands.verify_export``.

The copy has the code, the parameters and the images of today, and nothing that was computed before but what the stage
asked for reads. So where its files have the same bytes, the run is reproduced; where they have not, the first stage
that differs is named, and what has changed in its inputs since ``metrics/provenance.json`` was written.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

import yaml

from thaw import console, paths
from thaw.commands import comparison, input_changes, verify_export
from thaw.commands.comparison import BYTES, NEAR, OTHER, SAME, TOLERANCE, Finding
from thaw.project import pipeline_run
from thaw.tracking import lineage

UNCOMPARED = (paths.PROVENANCE,)  # says what has changed, and is no result
NOT_AGAIN = ("sample",)  # writes the demonstration images, which prepare reads

EXAMPLES = """\
examples:
  thaw verify                                         # all stages, from the images on
  thaw verify export
  thaw verify HEAD~1 --tolerance 1e-4                 # an earlier run, from DVC's cache
  thaw verify models/export                           # what was copied or downloaded
  thaw verify prepare --json

exit codes: 0 reproduced, 1 not, or nothing to compare"""


def add(commands: Any) -> None:
    """Make the subcommand known."""
    parser = commands.add_parser(
        "verify",
        help="run stages again in a copy, and compare what comes out, file by file",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "what",
        nargs="?",
        default="",
        help="a stage; a commit or experiment; the folder of an export; nothing: all stages here",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        help="by which figures may differ that do not have the same bytes (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="a verdict for each file, as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Verify, and say what came of it.

    Raises:
        ValueError: something is different, or there is nothing to compare.
    """
    declared = lineage.stages() if Path(lineage.PIPELINE).is_file() else {}
    if options.what and options.what not in declared and Path(options.what).exists():
        verify_export.report(Path(options.what), as_json=options.json)
        return
    pipeline_run.check_here()
    here = not options.what or options.what in declared
    with nullcontext(Path.cwd()) if here else checked_out(options.what) as folder:
        with redirect_stdout(sys.stderr) if options.json else nullcontext():
            found = verify(folder, options.what if here else "", options.tolerance)
        report(found, options.tolerance, as_json=options.json)


def verify(project: Path, stage: str, tolerance: float) -> tuple[list[Finding], list[str]]:
    """Run stages of a project again.

    Args:
        project: the folder; what its stages have made lies there.
        stage: one of them; empty: all.
        tolerance: absolute, of figures.

    Returns:
        A finding for each file, and what has changed in the inputs of the first stage that differs, or of all.

    Raises:
        ValueError: nothing is there to compare with, or a stage does not run.
    """
    declared = yaml.safe_load((project / lineage.PIPELINE).read_text(encoding="utf-8"))["stages"]
    wanted = [stage] if stage else [name for name in declared if name not in NOT_AGAIN]
    missing = [out for name in wanted for out in outs(declared[name]) if not (project / out).exists()]
    if missing:
        raise ValueError(
            f"expected {missing[0]}, which {wanted[0]} makes, found none; run `dvc repro` or `dvc pull` first"
        )
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory() as scratch:
        copy = _place(project, Path(scratch))
        _copy(project, copy, declared, wanted)
        for name in wanted:
            _run(project, copy, name)
            found = [
                comparison.compare(name, project, copy, path, tolerance)
                for path in _files(declared[name], project, copy)
            ]
            findings += found
            console.result(name, _count(found))
        first = next((each.stage for each in findings if each.verdict != SAME), "")
        return findings, input_changes.found(project, copy, [first] if first else wanted)


def outs(declared: dict[str, Any]) -> list[Path]:
    """Return the files and folders that a stage declares to make."""
    every = [*declared.get("outs", ()), *declared.get("metrics", ()), *declared.get("plots", ())]
    return [Path(next(iter(each)) if isinstance(each, dict) else each) for each in every]


def _copy(project: Path, copy: Path, declared: dict[str, Any], wanted: Sequence[str]) -> None:
    """Copy code and configuration, and what the stages read that none of them makes."""
    made = {out for each in declared.values() for out in outs(each)}
    ours = {out for name in wanted for out in outs(declared[name])}
    for name in ("conf", "stages", "thaw"):
        if (project / name).is_dir():  # a project on the installed package has no thaw/
            shutil.copytree(project / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    values = yaml.safe_load((project / paths.PARAMS).read_text(encoding="utf-8"))
    values["tracking"]["enabled"] = False
    own = values.get("compute", {})
    own |= {name: "" for name in ("cache_dir", "shared_cache") if name in own}  # nothing is taken from a cache
    (copy / paths.PARAMS).write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    shutil.copyfile(project / lineage.PIPELINE, copy / lineage.PIPELINE)
    # What is another one in the copy, and what no stage reads.
    apart = {project / path for path in [*made, paths.MEMORY, *map(Path, ("conf", "stages", "thaw"))]}
    apart |= {path for path in project.iterdir() if path.name.startswith(".")}
    for each in _read(project, values):
        _link(Path(os.path.abspath(project / each)), Path(os.path.abspath(copy / each)), apart)  # noqa: PTH100
    # Where every image was put is an input of prepare, which it writes again.
    for path in [*sorted(made - ours), paths.MEMORY]:
        if (project / path).exists() and not (copy / path).exists():
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            copying = shutil.copytree if (project / path).is_dir() else shutil.copyfile
            copying(project / path, copy / path)


def _read(project: Path, values: dict[str, Any]) -> list[Path]:
    """Return what a project's configuration names by paths from the project on: images, or a table's folder; weights.

    Whole paths mean the same from the copy.
    """
    raw, weights = values["data"]["raw"], values["backbone"]["weights"]
    images = paths.REMOTE if paths.is_remote(raw) else Path(raw)
    images = images if (project / images).is_dir() else images.parent
    return [path for path in (images, *([Path(weights)] if weights else [])) if not path.is_absolute()]


def _place(project: Path, scratch: Path) -> Path:
    """Return where the copy is put: so deep that what it names by ``..`` lies in the scratch folder too."""
    values = yaml.safe_load((project / paths.PARAMS).read_text(encoding="utf-8"))
    up = max(Path(os.path.normpath(each)).parts.count("..") for each in [*_read(project, values), Path()])
    return scratch.joinpath(*["around"] * up, "project")


def _link(path: Path, link: Path, apart: set[Path]) -> None:
    """Put a link to what is only read, or links to all that is in it where it is around what is ``apart``."""
    if path in apart or not path.exists():
        return
    if any(each.is_relative_to(path) for each in apart):
        for each in path.iterdir():
            _link(each, link / each.name, apart)
    elif not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())


def _run(project: Path, copy: Path, stage: str) -> None:
    words = [sys.executable, "-m", f"stages.{stage}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
    environment["PYTHONPATH"] = str(project)  # for a network's builder; what is in the copy goes before it
    done = subprocess.run(
        words, cwd=copy, env=environment, capture_output=True, text=True, encoding="utf-8", check=False
    )
    if done.returncode:
        said = " ".join(done.stderr.split())
        raise ValueError(f"expected {stage} to run again, received exit code {done.returncode}: {said:.500}")


def _files(declared: dict[str, Any], project: Path, copy: Path) -> list[Path]:
    """Return the files of a stage that are in either of two folders."""
    found = set()
    for out in outs(declared):
        for root in (project, copy):
            inside = [path for path in (root / out).rglob("*") if path.is_file()] if (root / out).is_dir() else []
            found |= {path.relative_to(root) for path in inside}
            found |= {out} if (root / out).is_file() else set()
    return sorted(found - set(UNCOMPARED))


def _count(found: Sequence[Finding]) -> str:
    counts = {verdict: sum(each.verdict == verdict for each in found) for verdict in (SAME, NEAR, BYTES, OTHER)}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)


def report(found: tuple[list[Finding], list[str]], tolerance: float, *, as_json: bool = False) -> None:
    """Say what is not the same, the first stage that differs, and why.

    Args:
        found: what ``verify`` returns.
        tolerance: that it was given.
        as_json: print all findings as JSON instead.

    Raises:
        ValueError: something is different.
    """
    findings, changed = found
    differing = [each for each in findings if each.verdict != SAME]
    verdicts = {each.verdict for each in differing}
    fails = OTHER in verdicts or (bool(differing) and NEAR not in verdicts)
    if as_json:
        told = {"reproduced": not fails, "differs_first": differing[0].stage if differing else None}
        print(json.dumps(told | {"changed": changed, "findings": list(map(vars, findings))}, indent=2))
    for each in differing if not as_json else ():
        console.result(each.verdict, f"{each.path}: {each.note}")
    if as_json and not fails:
        return
    if not differing:
        though = f", though these inputs have changed: {'; '.join(changed)}" if changed else ""
        console.result("verify", f"reproduced: all {len(findings)} files have the same bytes{though}")
        return
    why = "; ".join(changed) or "nothing in its inputs has changed, so it is not repeatable here: please report this"
    said = f"{differing[0].stage} is the first stage that differs; changed in its inputs: {why}"
    if fails:
        raise ValueError(f"not reproduced: {said}")
    console.result("verify", f"reproduced within {tolerance:g}: {said}")


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """Give a copy of the project as it was in a commit or an experiment, with what DVC's cache has of it.

    Raises:
        ValueError: git knows no such revision, or the cache lacks something of it.
    """
    listed = _git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps/").splitlines()
    named = [line.split()[0] for line in listed if line.rsplit("/", 1)[-1] == revision]
    try:
        commit = named[0] if named else _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").strip()
    except subprocess.CalledProcessError:
        raise ValueError(
            f"expected a stage ({', '.join(lineage.stages())}), a commit or an experiment, received {revision!r}"
        ) from None
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        _git("clone", "--quiet", "--shared", "--no-checkout", ".", str(folder))
        _git("-C", str(folder), "checkout", "--quiet", "--detach", commit)
        cache = subprocess.run(["dvc", "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
        for words in (["cache", "dir", "--local", str(Path(cache).resolve())], ["checkout", "--quiet"]):
            done = subprocess.run(["dvc", *words], cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                raise ValueError(
                    f"expected all files of {revision} in DVC's cache: {' '.join(done.stderr.split()):.300}"
                )
        yield folder


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout
