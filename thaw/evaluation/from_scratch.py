"""Training from scratch: the same network from random weights, as a baseline that shows what pretraining is worth.

All of it is trained at once, as one does without pretrained weights: BatchNorm on its own images, a learning rate of
its own, which rises for a while and falls along a cosine, and a fresh view of each image in every epoch. Nothing comes
from the activation cache, since nothing is frozen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from thaw import console
from thaw.classifier import model
from thaw.config import schema
from thaw.config.unfreeze import UnfreezeSpec
from thaw.evaluation import comparison, predictions, verdict
from thaw.features import inputs
from thaw.images import manifest
from thaw.networks import freeze_boundaries
from thaw.training import fit, fit_settings, progress, validation

NAME = verdict.SCRATCH


class Settings(Protocol):
    """The groups of the configuration that it depends on."""

    augment: schema.Augment
    phase2: schema.Phase2
    compute: schema.Compute
    evaluate: schema.Evaluate


@dataclass
class _Streaming:
    """What ``thaw.features.inputs`` asks of the configuration, with a fresh view in every epoch."""

    augment: schema.Augment
    compute: schema.Compute
    phase2: schema.Phase2


def train(
    card: model.Card,
    settings: Settings,
    splits: Mapping[str, manifest.Images],
    report: progress.Report,
    kept: Path | None = None,
) -> comparison.Trained:
    """Train the network of a classifier from random weights, and test it.

    The seconds that it took are said, and are in no file, since they are others each time.

    Args:
        card: of the classifier whose network it is.
        splits: the images by split.
        report: told of every epoch.
        kept: the folder of ``unfinished.results``, where its checkpoint is; None: it has none.
    """
    options = settings.evaluate
    card = replace(card, backbone=replace(card.backbone, weights="random", sha256=""))
    classifier = model.build(card, weights="random")
    boundary = freeze_boundaries.find(classifier.backbone, UnfreezeSpec.parse("all"))
    frozen, trained = model.thaw(classifier, boundary, "train")
    one, streaming = replace(settings.compute, devices=1), replace(settings.phase2, activations="streaming")
    fresh = _Streaming(settings.augment, one, streaming)
    images, val = splits["train"], splits["val"]
    given = inputs.at_boundary(frozen, boundary, classifier, fresh, images, val)
    how = fit_settings.from_scratch(options, settings.phase2)
    batches = inputs.batches(given, images, val, how, len(card.classes))
    seconds: list[float] = []

    def told(_: str, epoch: int, row: Mapping[str, float]) -> None:
        seconds.append(row["seconds"])
        report(NAME, epoch, row)

    keep = kept / f"{NAME}.npz" if kept else None
    history = fit.fit(trained, *batches, how, told, "from scratch", units=manifest.independent(val), keep=keep)
    runs = {NAME: predictions.predictor(classifier)}
    test = splits["test"]
    said = predictions.answers(runs, card.image, test, options.batch_size)[NAME].probabilities
    best = validation.lowest(history.rows) if history.best else 0  # which need not be the one that is kept
    is_whole = len(seconds) == len(history.rows)  # what goes on from a checkpoint does not know the seconds before
    took = f"; its best after {sum(seconds[:best]):,.0f} s of training" if is_whole else ""
    console.result("evaluate", f"from scratch: {history.summary()}{took}")
    return comparison.Trained(
        said.argmax(axis=1) == test.labels,
        {
            "epochs": len(history.rows),
            "best_epoch": best,
            "val_accuracy": history.at_best()["val_accuracy"],
            "images_to_best": best * len(images),
        },
        history.rows,
    )
