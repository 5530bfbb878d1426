"""Names and tags of runs: what tells one from another in MLflow's list, and what the list is filtered by."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from thaw import paths, records
from thaw.tracking import pipeline

ALIASES = {"learning_rate": "lr", "unfreeze": "depth"}
# How DVC names an experiment that nobody has named: it says nothing of what was tried.
UNNAMED = re.compile(r"[a-z]+-[a-z]+")
# Groups that make no other model.
ASIDE = ("compiled_from", "tracking", "compute")
LENGTH = 60  # characters; MLflow's list shows eighteen, and the rest on a run's page
NOTE = "mlflow.note.content"  # the tag that a run's page shows as its description


def title(params: Mapping[str, Any]) -> str:
    """Return a name for people: the trial's, the DVC experiment's where a person chose it, or else what differs.

    What differs is what params.yaml has otherwise than in the last commit, as ``lr=0.0001 epochs=20``. Where nothing
    does, the name is that of the network and the commit.
    """
    if told := pipeline.of_sweep():
        return str(told["label"])
    named = pipeline.experiment()
    if named and not UNNAMED.fullmatch(named):
        return named
    changed = label(differences(params))[:LENGTH]
    committed = pipeline.commit()
    at = f" {committed[0][:7]}" if committed else ""
    return changed or named or f"{params['backbone']['name']}{at}"


def label(shown: Sequence[str]) -> str:
    """Return a short name for people, such as ``lr=3e-05 depth=block_13``, of the overrides that tell runs apart."""
    keys = [override.partition("=")[0] for override in shown]
    short = [key.rsplit(".", 1)[-1].lstrip("+") for key in keys]
    names = [ALIASES.get(name, name) if short.count(name) == 1 else key for name, key in zip(short, keys, strict=True)]
    return " ".join(name + override[len(key) :] for name, key, override in zip(names, keys, shown, strict=True))


def differences(params: Mapping[str, Any]) -> list[str]:
    """Return what a configuration has otherwise than params.yaml of the last commit, as overrides; [] without one."""
    words = ["git", "show", f"HEAD:./{paths.PARAMS}"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, encoding="utf-8", check=True)
        before = yaml.safe_load(done.stdout)
    except (OSError, subprocess.CalledProcessError, yaml.YAMLError):
        return []
    if not isinstance(before, dict):
        return []
    old, new = (dict(pipeline.leaves(tree, ".")) for tree in (before, params))
    changed = [key for key in new if new[key] != old.get(key) and key.partition(".")[0] not in ASIDE]
    return [f"{key}={_short(key, new[key])}" for key in changed]


def _short(key: str, value: Any) -> str:
    return Path(str(value)).name if key == "data.raw" else str(value)


def filters(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags by which a list of runs is filtered: images, network, depth."""
    return {
        "thaw.data": Path(str(params.get("data", {}).get("raw", ""))).name,
        "thaw.backbone": str(params["backbone"]["name"]),
        "thaw.depth": str(params["phase2"]["unfreeze"]),
    }


def judged(stage: str) -> dict[str, str]:
    """Return the verdict on disk as tags, where the stage is `evaluate`: what helped, what ships, the sentence."""
    if stage != "evaluate" or not paths.VERDICT.is_file():
        return {}
    found = records.read_json(paths.VERDICT)
    tags = {"thaw.helped": found.get("helped"), "thaw.ship": found.get("ship"), NOTE: found.get("text")}
    return {key: str(value) for key, value in tags.items() if value}
