"""Run the pipeline of a project by DVC, and say what came of it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml

from thaw import console, paths, records
from thaw.config import concurrency

LAST, SAMPLE = "export", "sample"
GRACE = 5.0  # seconds in which an interrupted command ends by itself
WRITING = 1.0  # seconds that another DVC may take to write its list


def mend_list(folder: Path) -> None:
    """Remove DVC's list of files in use where a kill has left it half written: DVC would refuse to run.

    Args:
        folder: the project.
    """
    for _ in range(2):
        try:
            json.loads((folder / concurrency.USED).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except ValueError:
            time.sleep(WRITING)
        else:
            return
    (folder / concurrency.USED).unlink(missing_ok=True)
    console.warn(
        f"{concurrency.USED}: expected DVC's list of files in use, received what a kill has left half written; "
        "removed it"
    )


def check_here() -> None:
    """Require that this is the root of a project.

    Raises:
        ValueError: it is not.
    """
    if not (Path("dvc.yaml").is_file() and paths.CONF.is_dir()):
        raise ValueError(
            f"expected a project, with dvc.yaml and {paths.CONF}/, received {Path.cwd()}; go to its root, or "
            "make one: thaw new DIR"
        )


def check_images(named: str) -> None:
    """Require that images are there; of those in an object store ``prepare`` says so.

    Args:
        named: ``data.raw``.

    Raises:
        ValueError: they are not.
    """
    raw = Path(named)
    # A stage makes the sample, and `prepare` downloads what has an address.
    if raw == paths.SAMPLE or paths.is_remote(named) or paths.is_there(raw):
        return
    kept = raw.with_name(f"{raw.name}.dvc").is_file()
    remedy = "`dvc pull` fetches them" if kept else "put them there, or name them: thaw run data.raw=PATH"
    raise ValueError(f"data.raw: expected your images, found nothing at {raw.absolute()}; {remedy}")


def reproduce(
    folder: Path,
    *targets: str,
    quiet: bool = False,
    modules: Path | None = None,
    told: Callable[[str], None] | None = None,
) -> None:
    """Run ``dvc repro`` in a folder, with the Python that runs this as that of the stages.

    Args:
        targets: the stages to end with; none: all.
        quiet: write what DVC and the stages say to standard error.
        modules: a folder of modules of one's own, such as a builder's, where that is another one.
        told: called with each line that DVC and the stages print, which are printed only where a stage fails.

    Raises:
        ValueError: a stage failed; it has said why.
    """
    mend_list(folder)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    words = [sys.executable, "-m", "dvc", "repro", *targets]
    env = {**os.environ, "PATH": path}
    if modules:
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(modules), env.get("PYTHONPATH", "")]))
    sys.stdout.flush()
    if told:
        returned = _listened(words, folder, env, told)
    else:
        returned = subprocess.run(
            words, cwd=folder, env=env, stdout=sys.stderr if quiet else None, check=False
        ).returncode
    if returned:
        raise ValueError("expected all stages to run, received a failure, which is said above; mend it and run again")


def _listened(words: list[str], folder: Path, env: dict[str, str], told: Callable[[str], None]) -> int:
    """Run a command and hand on its lines; return its exit code.

    An interruption is waited for. A notebook sends it to all processes of its group; where that did not happen, those
    of the command get it from here.
    """
    lines: list[str] = []
    with subprocess.Popen(
        words, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    ) as process:
        try:
            for line in process.stdout or ():
                lines.append(line)
                told(line)
        except BaseException:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
            if process.poll() is None:
                command = psutil.Process(process.pid)
                for each in (*command.children(recursive=True), command):
                    with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                        each.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE)
            raise
    if process.returncode:
        print("".join(lines), end="")
    return process.returncode


def stages(folder: Path) -> list[str]:
    """Return the names of a project's stages, in the order of its dvc.yaml."""
    found: dict[str, Any] = yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return list(found)


def targets() -> list[str]:
    """Return what to end with, so that own images do without the stage that makes the demonstration's."""
    raw = yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))["data"]["raw"]
    return [LAST] if SAMPLE in stages(Path()) and Path(raw) != paths.SAMPLE else []


def outcome(folder: Path) -> dict[str, Any]:
    """Return what came of a run: the figures of the test, the verdict where there is one, and where files lie."""
    tested = records.read_json(folder / paths.metrics("evaluate"))
    judged = folder / paths.METRICS / "verdict.json"
    verdict = records.read_json(judged) if judged.is_file() else {}
    found: dict[str, Any] = {
        phase: {name: tested[phase][name] for name in ("accuracy", "accuracy_low", "accuracy_high", "images")}
        for phase in ("phase1", "phase2")
    }
    found |= {"verdict": verdict.get("text"), "ship": verdict.get("ship"), "report": str(folder / paths.REPORT)}
    exported = folder / paths.EXPORTED
    return found | {"model": str(exported) if exported.is_dir() else None}


def lines(found: dict[str, Any]) -> list[str]:
    """Return the outcome in lines for people."""
    phase1, phase2 = (
        f"{each['accuracy']:.1%} ({each['accuracy_low']:.1%} to {each['accuracy_high']:.1%})"
        for each in (found["phase1"], found["phase2"])
    )
    said = found["verdict"] or f"test accuracy {phase1} after phase 1, {phase2} after phase 2"
    return [
        f"verdict: {' '.join(said.split())}",
        f"report: {found['report']}",
        *([f"model: {found['model']}"] if found["model"] else []),
    ]
