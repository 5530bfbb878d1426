"""Run the stage `prepare` in a process and a folder of its own, and measure time and memory."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thaw import paths
from thaw.config import load

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Run:
    """The outcome of a run."""

    seconds: float  # wall time of the process
    busy: float  # seconds that its threads computed, which depends less on what else the machine does
    peak: int  # bytes of memory at most, resident
    code: int  # exit code, 0 if all went well
    said: str  # on standard output and error


def prepare(project: Path, overrides: Sequence[str]) -> Run:
    """Compile a configuration into ``project``, an empty folder at first, and run `prepare` there."""
    with contextlib.chdir(ROOT):
        text = load.compose(["data=folder", "tracking.enabled=false", *overrides], ())
    (project / paths.PARAMS).write_text(text, encoding="utf-8", newline="\n")
    log = project / "log.txt"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("DVC_ROOT", None)
    start = time.monotonic()
    with log.open("wb") as file:
        words = [sys.executable, "-m", "stages.prepare"]
        process = subprocess.Popen(words, cwd=project, env=environment, stdout=file, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    said = log.read_text(encoding="utf-8", errors="replace")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit, process.returncode, said)
