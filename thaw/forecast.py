"""How long the costly steps of a run may take, before they begin: by what they took in earlier runs here."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

from thaw import console, timings
from thaw.config import phases, schema
from thaw.config.unfreeze import Kind

USUAL_EPOCHS = 20  # of warm-up, stable, decay: 15 to 35 on the sets of docs/performance.md, more where they are short


class Asked(Protocol):
    """The groups of params.yaml that time depends on."""

    image: schema.Image
    augment: schema.Augment
    backbone: schema.Backbone
    phase1: schema.Phase1
    phase2: schema.Phase2


def views(settings: Asked, images: Mapping[str, int]) -> int:
    """Return how many views pass the frozen layers where none is in the cache: of training images all, else one."""
    return images["train"] * settings.augment.views + images["val"]


def seconds(settings: Asked, images: Mapping[str, int]) -> dict[str, float | None]:
    """Return the seconds that extraction, phase 1 and phase 2 may take at most, as earlier runs here took.

    None where nothing like it was measured here. The frozen layers run for all views that are not in the cache; phases
    end sooner where the loss says so.

    Args:
        settings: of the run.
        images: how many there are to train on and to validate with, by split.
    """
    trained = images["train"]
    counts = {"extraction": views(settings, images)}
    counts |= {"phase1": trained * settings.phase1.epochs, "phase2": trained * settings.phase2.most_epochs(trained)}
    found: dict[str, float | None] = {}
    for what, count in counts.items():
        each = _each(what, settings)
        found[what] = None if each is None else round(each * count, 1)
    if found["phase2"] and settings.phase2.minutes:
        found["phase2"] = min(found["phase2"], 60 * settings.phase2.minutes)
    return found


def _each(what: str, settings: Asked) -> float | None:
    """Return the seconds for an image; of phase 2 at its depth."""
    about = {"backbone": settings.backbone.name, "size": settings.image.size}
    if what != "phase2":
        return timings.seconds_each(what, **about)
    if settings.phase2.unfreeze_spec.kind is Kind.NONE:
        return 0.0
    # Before `auto` is known, the notes of whatever a first look took it for.
    depth = timings.resolved(settings.phase2.unfreeze)
    return timings.seconds_each(what, **about, **{"unfreeze" if depth == "auto" else "depth": depth})


def of_phase2(each: float, settings: schema.Phase2, images: int) -> str:
    """Return how long phase 2 usually takes, and at most.

    Args:
        each: seconds for an image and epoch.
        settings: of phase 2.
        images: to train on.
    """
    an_epoch = each * images
    usual = most_epochs = settings.most_epochs(images)
    if settings.schedule == phases.WSD:
        usual = math.ceil(phases.counted(USUAL_EPOCHS, settings.steps(images)))
    bound = 60 * settings.minutes or float("inf")
    most = console.duration(min(most_epochs * an_epoch, bound))
    if usual >= most_epochs or usual * an_epoch >= bound:
        return f"at most about {most}"
    return f"about {console.duration(usual * an_epoch)} for {usual} epochs, at most about {most} for {most_epochs}"


def after_prepare(settings: Asked, splits: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one line for people: how long the stages after `prepare` take, or how much work it is.

    Args:
        settings: of the run.
        splits: the figures of each, as `prepare` writes them.
    """
    images = {name: splits[name]["images"] for name in ("train", "val")}
    trained, phase2 = images["train"], settings.phase2
    work = {
        "extraction": f"{views(settings, images):,} views through the frozen layers",
        "phase1": f"{settings.phase1.epochs} epochs of phase 1",
        "phase2": f"{phase2.most_epochs(trained)} epochs of phase 2",
    }
    if phase2.unfreeze_spec.kind is Kind.NONE:
        del work["phase2"]
    times = {what: spent for what, spent in seconds(settings, images).items() if what in work}
    parts = []
    for what, spent in times.items():
        said = "not timed here yet" if spent is None else console.duration(spent)
        if spent is not None and what == "phase2":
            said = of_phase2(_each(what, settings) or 0.0, phase2, trained)
        elif what == "phase2" and phase2.minutes:
            said += f", and at most {phase2.minutes:g} min"
        parts.append(f"{work[what]} ({said})")
    known = [spent for spent in times.values() if spent is not None]
    if len(known) == len(times):
        total = f"at most about {console.duration(sum(known))}, by what it took here before"
    else:
        total = "a time that is not known" + (f" beside {console.duration(sum(known))}" if known else "")
    return f"what follows takes {total}: {', '.join(parts)}; then test and export"
