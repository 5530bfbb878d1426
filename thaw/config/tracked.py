"""Which values of the configuration a result depends on, and which of them DVC tracks for a stage.

A stage's ``params`` in dvc.yaml are the groups that it reads, but for what stands here with the reason.
"""

from collections.abc import Mapping
from typing import Any

# Groups that a stage reads though DVC does not track them for it, since they cannot change what the stage makes.
UNTRACKED = {
    "compute": "how the work is done: engines, batch sizes of inference, disk budget; whether that made phase 2 "
    "stream is in its record, and phase2.activations settles it; device, devices, workers and "
    "deterministic alone are tracked",
    "tracking": "where runs are mirrored",
    **{
        f"prepare.{group}": "how long what follows may take is said; nothing of it is written"
        for group in ("image", "augment", "backbone", "phase1", "phase2")
    },
    "environment.image": "at what size a network from outside the catalog is tried; nothing of it is written",
    "environment.export": "in which formats a network from outside the catalog is tried; nothing of it is written",
    "phase1_head.data": "where the images lie; what they are is in the manifest, by content hash",
    "phase1_head.phase2": "which activations to keep for phase 2 while images pass; the cache is a memo",
    "phase2_finetune.data": "where the images lie; what they are is in the manifest, by content hash",
}

# Fields of such groups that change a result all the same, and the stages that DVC tracks them for.
TRACKED = {
    "compute": {
        "device": ("phase1_head", "phase2_finetune", "evaluate"),
        "devices": ("phase2_finetune",),
        "workers": ("phase2_finetune",),
        "deterministic": ("phase1_head", "phase2_finetune", "evaluate"),
    }
}


def of_run(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of params.yaml, as nested dicts, a result depends on: groups, and some fields of others.

    A field that an older params.yaml lacks is left out.
    """
    found = {group: of for group, of in values.items() if group not in (*UNTRACKED, "compiled_from")}
    for group, of in TRACKED.items():
        if group in values:
            found[group] = {name: values[group][name] for name in of if name in values[group]}
    return found


def of_stage(stage: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of these groups DVC tracks for a stage."""
    skipped = {each.removeprefix(f"{stage}.") for each in UNTRACKED}
    found = {group: of for group, of in values.items() if group not in skipped}
    for group, of in TRACKED.items():
        if group in values:
            found[group] = {name: values[group].get(name) for name, stages in of.items() if stage in stages}
    return found
