"""Compute once, before the trials of a sweep, what they have in common: prepare, phase 1, activations per depth.

Trials that run at once would each compute it, since none of them finds the others' results in time. It is a DVC
experiment like a trial that ends with phase 1 and whose images leave their activations at every depth of the sweep on
one pass through the frozen layers. What comes of it goes to DVC's cache; the experiment itself is no trial, and goes.
"""

import json
import time
from collections.abc import Sequence

from thaw import paths, records, timings
from thaw.sweep import experiments, locks, plan, trial

OWN = (plan.DEPTH, "compute.depths", "tracking.enabled")


def run(sweep: plan.Plan, each: plan.Trial, owner: str) -> str:
    """Compute what is upstream of a trial and of all that share it.

    Returns:
        Why it failed, one line; empty if it did not.
    """
    name = f"shared-{each.upstream}"
    with locks.hold(each.upstream, name, owner):
        # Another sweep may have left it meanwhile.
        return "" if experiments.left(each.upstream) else _run(name, sweep, each, owner)


def _run(name: str, sweep: plan.Plan, each: plan.Trial, owner: str) -> str:
    start, began = time.monotonic(), time.time()
    kept = [override for override in each.overrides if override.split("=", 1)[0] not in OWN]
    # Its trials mirror phase 1 to MLflow, each its own run; nothing is unfrozen here, so any depth may be wrong.
    mine = [f"{plan.DEPTH}=none", depths(sweep.depths()), "tracking.enabled=false"]
    failure = trial.run(name, [*kept, *mine], sweep.folder, owner, experiments.SHARED[-1])
    if failure:
        return failure
    found = experiments.files(name, (paths.metrics("prepare").as_posix(), "dvc.lock"))
    splits = json.loads(found[0])["splits"]
    left = {
        "images": {split: splits[split]["images"] for split in paths.SPLITS},
        "outs": experiments.outs(found[1], experiments.SHARED),
        "depths": sweep.depths(),
    }
    seconds = time.monotonic() - start
    timings.write("upstream", each.values, seconds=seconds, inside=timings.inside(name, began))
    records.write_json(paths.UPSTREAMS / f"{each.upstream}.json", left)
    experiments.forget(name)
    return ""


def depths(values: Sequence[str]) -> str:
    """Return the override with which a stage keeps the activations of all depths of the sweep when images pass."""
    return f"compute.depths=[{','.join(repr(value) for value in values)}]"
