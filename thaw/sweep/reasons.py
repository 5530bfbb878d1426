"""Find why a trial failed: the one line of its log that says so.

In the log DVC and the stages speak one after the other, and what they say last is seldom what happened.
"""

import itertools
import re
from collections.abc import Sequence

KILLED = (128 + 9, -9)  # exit codes of what has got SIGKILL, as a shell and as Python say them
OUT_OF_MEMORY = "it was killed; if by nobody you know, the system ran out of memory"
ALLOCATING = "OOM when allocating"  # TensorFlow's word for it, also on a GPU


def find(log: str, code: int = 1) -> str:
    """Return the line of a failed trial's log that says why: a stage's own message stands before DVC's.

    Args:
        code: the exit code of the trial.
    """
    if code in KILLED:
        return OUT_OF_MEMORY
    lines = [line.rstrip() for line in log.splitlines() if line.strip()]
    for number, (before, line) in enumerate(itertools.pairwise(["", *lines])):
        if line.startswith("ERROR: "):
            failed = re.search(r"'([^']+)': failed to run:.*?(?:exited with (-?\d+))?$", line)
            if failed is None:
                return line.removeprefix("ERROR: ")
            if failed[2] and int(failed[2]) in KILLED:
                return OUT_OF_MEMORY
            if before.startswith(f"{failed[1]}: "):
                return before
            own = before.strip() if before and not before.startswith(">") else ""
            return _exception(lines[:number]) or own or line.removeprefix("ERROR: ")
    return _exception(lines) or (lines[-1].strip() if lines else "it ended without a word")


def _exception(lines: Sequence[str]) -> str:
    """Return what the last traceback ends with, empty if there is none: TensorFlow goes on for lines after it."""
    start = max((number for number, line in enumerate(lines) if line.startswith("Running stage '")), default=0)
    lines = lines[start:]  # an earlier stage has gone on after its own
    heads = [number for number, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    after = [line for line in lines[heads[-1] + 1 :] if not line.startswith(" ")] if heads else []
    if not after:
        return ""
    named = re.sub(r"^(?:\w+\.)+(?=\w+(?::|$))", "", after[0])
    memory = next((line for line in after[1:] if ALLOCATING in line), "")
    return f"{named} {memory}" if memory else named
