"""Timings of earlier runs: a line for each piece of work in ``.thaw/ledger.jsonl``, for the plans of sweeps.

A memo like the activation cache, shared by the workspace and all isolated experiments: deleting it changes no result.
"""

import json
import os
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from thaw import paths

WORK = ("extraction", "phase1", "phase2")  # on images; the rest of a run is start-up, reading and writing
_keeps = [True]  # whether this process keeps any
NEWEST = 20  # lines that an estimate is made from: machines and code change


def note(what: str, **facts: Any) -> None:
    """Remember a piece of work of the run whose params.yaml lies here; outside of a project nothing is.

    Args:
        what: extraction, phase1 or phase2.
        facts: the ``count`` of images that were worked on, and the ``seconds`` that took.
    """
    if paths.PARAMS.is_file():
        params = yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))
        depth = {"depth": resolved(str(params["phase2"]["unfreeze"]))} if what == "phase2" else {}
        write(what, params, run=os.environ.get("DVC_EXP_NAME", ""), **depth, **facts)


def keep_nothing() -> None:
    """Leave the ledger alone from now on: of processes that share one training the first keeps its time."""
    _keeps[0] = False


def take(ledger: Path) -> None:
    """Remember here too what was measured elsewhere.

    Args:
        ledger: the file in which it stands; it need not be there.
    """
    if ledger.is_file():
        path = paths.main_root() / paths.LEDGER
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(ledger.read_text(encoding="utf-8"))


def resolved(unfreeze: str) -> str:
    """Return a value of ``phase2.unfreeze``, or what ``auto`` stands for here, where phase 1 has left that."""
    if unfreeze == "auto" and paths.AUTO_DEPTH.is_file():
        return str(json.loads(paths.AUTO_DEPTH.read_text(encoding="utf-8")).get("unfreeze", unfreeze))
    return unfreeze


def write(what: str, params: Mapping[str, Any], **facts: Any) -> None:
    """Remember something of a run with these parameters."""
    if not _keeps[0]:
        return
    path = paths.main_root() / paths.LEDGER
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"what": what, "end": time.time(), **about(params), **facts}, sort_keys=True)
    with path.open("a", encoding="utf-8", newline="\n") as file:  # in one write, so that two processes' do not mix
        file.write(line + "\n")


def about(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that the time for an image depends on."""
    return {
        "backbone": params["backbone"]["name"],
        "size": params["image"]["size"],
        "unfreeze": str(params["phase2"]["unfreeze"]),
    }


def lines(**wanted: Any) -> Iterator[dict[str, Any]]:
    """Yield the notes that say what is wanted, the oldest first."""
    path = paths.main_root() / paths.LEDGER
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            line = json.loads(text)
        except ValueError:  # what a crash has left
            continue
        if isinstance(line, dict) and all(line.get(key) == value for key, value in wanted.items()):
            yield line


def seconds_each(what: str, **wanted: Any) -> float | None:
    """Return the median of the newest seconds for one image, or None where nothing of this kind was measured."""
    found = [line["seconds"] / line["count"] for line in lines(what=what, **wanted) if line["count"]]
    return statistics.median(found[-NEWEST:]) if found else None


def seconds_around(what: str) -> float | None:
    """Return the median of the newest seconds that trials, or what they share, took beside the work on images; or
    None.
    """
    found = [line["seconds"] - line["inside"] for line in lines(what=what)]
    return statistics.median(found[-NEWEST:]) if found else None


def inside(run: str, since: float) -> float:
    """Return the seconds that the stages of an experiment have worked on images since a Unix time."""
    return sum(float(line["seconds"]) for line in lines(run=run) if line["what"] in WORK and line["end"] >= since)
