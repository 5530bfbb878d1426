"""How long the costly steps of a run may take, before they begin: by earlier runs here, or a guess."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

from thaw import console, timings
from thaw.config import phases, schema
from thaw.config.unfreeze import Kind

BACKWARD = 3  # times the computation of a forward pass that a step of training takes
# Where nothing was measured: seconds of EfficientNet-Lite0 on two cores of a server, for a pass of an image of 224
# pixels, and for an image's features through the head of phase 1.
A_PASS, A_HEAD = 0.01, 1e-4
# Seconds that a pass takes an image longer where it trains: what TensorFlow's operations take however small they are.
A_STEP = 0.001
DEEPEST = 0.75  # share of the computation that `auto` unfreezes at most, taken for all that is named otherwise
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


def counts(settings: Asked, images: Mapping[str, int]) -> dict[str, int]:
    """Return how many images each piece of work is done on at most, one counted anew in each view and epoch."""
    trained = images["train"]
    epochs = {"phase1": settings.phase1.epochs, "phase2": settings.phase2.most_epochs(trained)}
    return {"extraction": views(settings, images), **{phase: trained * count for phase, count in epochs.items()}}


def seconds(settings: Asked, images: Mapping[str, int]) -> dict[str, float | None]:
    """Return the seconds that extraction, phase 1 and phase 2 may take at most, as earlier runs here took.

    None where nothing like it was measured here. The frozen layers run for all views that are not in the cache; phases
    end sooner where the loss says so.

    Args:
        settings: of the run.
        images: how many there are to train on and to validate with, by split.
    """
    found: dict[str, float | None] = {}
    for what, count in counts(settings, images).items():
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


def a_pass(backbone: str, size: int) -> tuple[float, str]:
    """Return the seconds of an image through a network, and by what they are known, for people.

    Args:
        backbone: its name.
        size: of the image, in pixels.
    """
    measured = timings.seconds_each("extraction", backbone=backbone, size=size)
    if measured is not None:
        return measured, "by what the frozen layers took here"
    return A_PASS * (size / 224) ** 2, "as nothing was measured here yet, a guess"


def each_epoch(each_pass: float, share: float) -> float:
    """Return the seconds that an epoch of phase 2 takes an image.

    Args:
        each_pass: of ``a_pass``.
        share: of the computation that is unfrozen.
    """
    return BACKWARD * share * (each_pass + A_STEP)


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
    """Return one line for people: how long the stages after `prepare` may take, and for how much work.

    Args:
        settings: of the run.
        splits: the figures of each, as `prepare` writes them.
    """
    images = {name: splits[name]["images"] for name in ("train", "val")}
    count, phase2 = images["train"], settings.phase2
    work = {
        "extraction": f"{views(settings, images):,} views through the frozen layers",
        "phase1": f"{settings.phase1.epochs} epochs of phase 1",
        "phase2": f"{phase2.most_epochs(count)} epochs of phase 2",
    }
    if phase2.unfreeze_spec.kind is Kind.NONE:
        del work["phase2"]
    each = {what: _each(what, settings) for what in work}
    a_view, source = a_pass(settings.backbone.name, settings.image.size)
    if None not in each.values():
        source = "by what it took here before"
    spec = phase2.unfreeze_spec
    share = {Kind.SHARE: spec.number, Kind.ALL: 1.0}.get(spec.kind, DEEPEST)
    guesses = {"extraction": a_view, "phase1": A_HEAD, "phase2": each_epoch(a_view, share)}
    parts, total = [], 0.0
    for what, said in work.items():
        measured = each[what]
        an_image = guesses[what] if measured is None else measured
        spent, told = an_image * counts(settings, images)[what], ""
        if what == "phase2":
            spent, told = min(spent, 60 * phase2.minutes or spent), of_phase2(an_image, phase2, count)
        parts.append(f"{said} ({told or console.duration(spent)})")
        total += spent
    most = console.duration(total)
    return f"what follows takes at most about {most}, {source}: {', '.join(parts)}; then test and export"
