"""``thaw verify``: run a stage, or all of them, again in a copy of the project, and compare what comes out.

An export is compared with what it says of itself: ``thaw.commands.verify_export``.

The copy has the code, the parameters and the images of today, and nothing that was computed before but what the stage
asked for reads. So where its files have the same bytes, the run is reproduced; where they have not, the first stage
that differs is named, and what has changed in its inputs since ``metrics/provenance.json`` was written.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

import yaml

from thaw import console, paths
from thaw.commands import comparison, input_changes, project_copy, verify_export
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
    with nullcontext(Path.cwd()) if here else project_copy.checked_out(options.what) as folder:
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
    missing = [out for name in wanted for out in project_copy.outs(declared[name]) if not (project / out).exists()]
    if missing:
        raise ValueError(
            f"expected {missing[0]}, which {wanted[0]} makes, found none; run `dvc repro` or `dvc pull` first"
        )
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory() as scratch:
        copy = project_copy.place(project, Path(scratch))
        project_copy.fill(project, copy, declared, wanted)
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
    for out in project_copy.outs(declared):
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
