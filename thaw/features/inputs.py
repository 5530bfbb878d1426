"""The inputs of both phases: the output of the frozen layers, cached or computed as it is needed.

Both phases train only what comes after a cut. Where the inputs at the cut come from makes no difference to them: from
the activation cache, in which every view of an image is computed once, or streaming, with a fresh view in every epoch.
"""

import hashlib
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from thaw import console, paths, records
from thaw.catalog import backbones
from thaw.classifier import model
from thaw.config import schema
from thaw.config.unfreeze import Kind, UnfreezeSpec
from thaw.features import auto_unfreeze, cache, engines, extraction, streaming
from thaw.features.frozen import Frozen
from thaw.images import manifest
from thaw.networks import freeze_boundaries
from thaw.runtime import devices, team
from thaw.runtime.framework import keras
from thaw.training import imbalance, mixing, schedule
from thaw.training.fit_settings import FitSettings

FRESH_VIEWS = 2**31  # to draw from when views are not kept
SHALLOW = 0.5  # share of the computation that is less than what ``auto`` unfreezes in most tasks


class Settings(Protocol):
    """The groups of the configuration that both phases' inputs depend on."""

    augment: schema.Augment
    compute: schema.Compute
    phase2: schema.Phase2


@dataclass
class Inputs:
    """The inputs of phase 2."""

    train: manifest.Source
    val: manifest.Source
    views: int  # to draw from in each epoch
    kind: str  # cached or streaming
    reason: str  # why


def pooled(classifier: model.Classifier, settings: Settings, train: manifest.Images, val: manifest.Images) -> Inputs:
    """Return phase 1's inputs: what comes out of the whole backbone and pooling.

    Phase 2 will want the activations at its boundary, which the images pass on their way. If it will take them from
    the cache, they are kept in passing, so that no image goes this way again.

    Raises:
        ValueError: there are fewer devices than ``compute.devices``, or not the workers that ``compute.workers`` says;
            phase 2 would say so only when phase 1 is done.
    """
    team.named(settings.compute.workers)
    devices.several(settings.compute.devices)
    cuts = _at_cuts(classifier, settings, train, val, {})
    frozen = _frozen(classifier, settings, _pool(classifier) | cuts, classifier.backbone.input, cuts)
    (train_reader,), (val_reader,) = extraction.cached(frozen, [(train, frozen.views()), (val, 1)])
    return Inputs(train_reader, val_reader, frozen.views(), "cached", "pooled features cached")


def _pool(classifier: model.Classifier) -> dict[str, Any]:
    """Return the tensor that the head sees."""
    return {f"pool:{classifier.card.head.pooling}": classifier.pool(classifier.backbone.output)}


def _at_cuts(
    classifier: model.Classifier, settings: Settings, train: manifest.Images, val: manifest.Images, own: dict[str, Any]
) -> dict[str, Any]:
    """Return the tensors at the boundaries of phase 2 and of ``compute.depths``, as far as the cache is to take them.

    Args:
        own: the tensor at phase 2's boundary, if that is known; before phase 1 has ended ``auto`` may be one of two.
    """
    backbone, outputs = classifier.backbone, dict(own)
    for unfreeze in dict.fromkeys([settings.phase2.unfreeze, *settings.compute.depths]):
        auto = unfreeze == Kind.AUTO.value
        for word in ([] if own else auto_unfreeze.candidates(len(train))) if auto else [unfreeze]:
            try:
                cut = freeze_boundaries.find(backbone, UnfreezeSpec.parse(word), told=not auto)
            except ValueError:
                if unfreeze == settings.phase2.unfreeze:
                    raise
                continue  # the trial that wants it will say so
            if cut.thawed_layers and cut.frozen_layers:
                frozen_part, _ = freeze_boundaries.split(backbone, cut)
                more = outputs | {cut.tensor_layer: frozen_part.output}
                frozen = _frozen(classifier, settings, more, backbone.input)
                # What may never be asked for must fit, also where all else is kept whether it does or not.
                if keep(frozen, settings, train, val)[0] and (not auto or fits(frozen, settings, train, val)):
                    outputs = more
    return outputs


def boundary(classifier: model.Classifier, unfreeze: UnfreezeSpec) -> freeze_boundaries.Boundary:
    """Return the cut that ``phase2.unfreeze`` means, also where that depends on what phase 1 has left.

    Who unfreezes little where ``auto`` would unfreeze most is told so.

    Raises:
        ValueError: phase 1 has left nothing.
    """
    if not paths.AUTO_DEPTH.is_file():
        raise ValueError(f"{paths.AUTO_DEPTH}: expected what phase 1 leaves, found none; run `dvc repro` first")
    auto = auto_unfreeze.Choice(**records.read_json(paths.AUTO_DEPTH))
    if unfreeze.kind is Kind.AUTO:
        chosen = freeze_boundaries.find(classifier.backbone, UnfreezeSpec.parse(auto.unfreeze))
        cut = replace(chosen, reason=auto.reason)
    else:
        cut = freeze_boundaries.find(classifier.backbone, unfreeze)
    console.say(cut.describe())
    if unfreeze.kind is not Kind.AUTO and auto.unfreeze == auto_unfreeze.MOST and 0 < cut.share < SHALLOW:
        console.warn(
            f"phase2.unfreeze={unfreeze} unfreezes {cut.share:.0%} of the computation; {auto.unfreeze}, which auto "
            f"would take, may reach more ({auto.reason})"
        )
    return cut


def clean(source: manifest.Source) -> Callable[[np.ndarray], np.ndarray]:
    """Return the source of pooled features without augmentation: (b,) int64 → (b, channels) float32."""
    return lambda indices: source(indices, np.zeros_like(indices))


def at_boundary(
    frozen_part: keras.Model,
    boundary: freeze_boundaries.Boundary,
    classifier: model.Classifier,
    settings: Settings,
    train: manifest.Images,
    val: manifest.Images,
) -> Inputs:
    """Return phase 2's inputs, cached or streaming as ``phase2.activations`` says.

    With ``auto`` they are streaming if they don't fit the budget, or if one is too large for the cache.

    Args:
        frozen_part: images → activations at ``boundary``.
        classifier: the whole. If images must pass its frozen layers, they pass once for ``compute.depths`` too.

    Raises:
        ValueError: there are fewer devices than ``compute.devices``.
    """
    devices.several(settings.compute.devices)
    frozen = _frozen(classifier, settings, {boundary.tensor_layer: frozen_part.output}, frozen_part.input)
    kept, reason = keep(frozen, settings, train, val)
    if kept:
        sets, passed = [(train, frozen.views()), (val, 1)], frozen
        try:
            if settings.compute.depths and not extraction.complete(frozen, sets):
                own = {boundary.tensor_layer: frozen_part.output}
                cuts = _at_cuts(classifier, settings, train, val, own)
                passed = _frozen(classifier, settings, cuts, classifier.backbone.input, cuts.keys() - own.keys())
            (train_reader,), (val_reader,) = extraction.cached(passed, sets)
            return Inputs(train_reader, val_reader, frozen.views(), "cached", reason)
        except cache.TooLargeError as error:
            if settings.phase2.activations != "auto":
                raise
            reason = f"activations streaming: {error.what}"
    # The first of them is the image as it is, cached or not.
    views = 1 if settings.augment.is_clean else FRESH_VIEWS
    for_training, for_validation = streaming.sources(frozen, train, val)
    return Inputs(for_training, for_validation, views, "streaming", reason)


def batches(
    inputs: Inputs, train: manifest.Images, val: manifest.Images, settings: FitSettings, classes: int
) -> tuple[mixing.Mixed, mixing.Mixed]:
    """Return the batches: in training seeded, balanced and mixed as the settings say; in validation plain.

    MixUp begins when the learning rate has risen.
    """
    size = settings.batch_size
    steps = math.ceil(len(train) / size)
    trained = mixing.Mixed(
        inputs.train,
        train.labels,
        size,
        inputs.views,
        settings.seed,
        imbalance.weights(train.labels, settings.class_weight, train.weights),
        imbalance.chances(train.labels, settings.sampler, train.weights),
        classes=classes,
        alpha=settings.mixup,
        begin=math.ceil(schedule.warmup_steps(settings, steps) / steps),
    )
    return trained, mixing.Mixed(inputs.val, val.labels, size, classes=classes, alpha=0)


def _frozen(
    classifier: model.Classifier, settings: Settings, outputs: dict[str, Any], inputs: Any, spare: Collection[str] = ()
) -> Frozen:
    # By the size of the whole, or phase 1 and phase 2 could take different engines for the same numbers.
    extractor = engines.settled(settings.compute.extractor, classifier.backbone.count_params())
    compute, image = replace(settings.compute, extractor=extractor), classifier.card.image
    frozen = keras.Model(inputs, list(outputs.values()))
    kind = settings.phase2.stored_as
    return Frozen(frozen, list(outputs), _weights(classifier), image, settings.augment, compute, list(spare), kind)


def _weights(classifier: model.Classifier) -> str:
    """Return what stands for the frozen layers in the cache, wherever they are cut.

    A network of the catalog is also what its own row says, and no other row. One from outside is what its builder and
    its contract make of the weights, so it is asked what it says of an image.
    """
    card, backbone = classifier.card, classifier.backbone
    if card.backbone.name in backbones.ROWS:
        own = f"{card.weights_sha256} {backbones.identity(card.backbone.name)}"
        return hashlib.sha256(own.encode()).hexdigest()
    noise = np.random.default_rng(0).uniform(0, 255, (1, *backbone.input_shape[1:])).astype(np.float32)
    said = backbone(noise, training=False).numpy().tobytes()
    return hashlib.sha256(card.weights_sha256.encode() + said).hexdigest()


def keep(frozen: Frozen, settings: Settings, train: manifest.Images, val: manifest.Images) -> tuple[bool, str]:
    """Return whether phase 2's activations go to the cache, and why."""
    wanted, needed, budget = settings.phase2.activations, _gigabytes(frozen, train, val), settings.compute.cache_gb
    if wanted != "auto":
        return wanted == "cached", f"activations {wanted}, as phase2.activations says ({needed:.2f} GB)"
    if needed <= budget:
        return True, f"activations cached: {needed:.2f} GB of {budget:g} GB in compute.cache_gb"
    return False, f"activations streaming: cached they need {needed:.2f} GB, compute.cache_gb is {budget:g}"


def fits(frozen: Frozen, settings: Settings, train: manifest.Images, val: manifest.Images) -> bool:
    """Return whether the cache's budget has room for the activations."""
    return _gigabytes(frozen, train, val) <= settings.compute.cache_gb


def _gigabytes(frozen: Frozen, train: manifest.Images, val: manifest.Images) -> float:
    return frozen.cache_bytes(len(train), len(val)) / 1e9
