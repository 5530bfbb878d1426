"""phase1_head: transfer learning, a new head is trained on the frozen backbone."""

from dataclasses import dataclass

from thaw import console, paths
from thaw.classifier import frozen_weights, model
from thaw.config import load, schema
from thaw.features import inputs, phase_outputs
from thaw.images import manifest
from thaw.networks import range_check
from thaw.runtime import seeds
from thaw.tracking import mlflow_mirror
from thaw.training import checkpoint, fit, fit_settings

STAGE = "phase1_head"


@dataclass
class Config:
    """The groups of params.yaml that this stage reads."""

    data: schema.Data
    image: schema.Image
    augment: schema.Augment
    backbone: schema.Backbone
    head: schema.Head
    phase1: schema.Phase1
    phase2: schema.Phase2
    compute: schema.Compute
    tracking: schema.Tracking


def main() -> None:
    """Build the classifier, train its head on pooled features, write it."""
    settings, params = load.groups(Config)
    with mlflow_mirror.stage(STAGE, settings.tracking, params) as run, console.stage(STAGE):
        seeds.fix(settings.phase1.seed, deterministic=settings.compute.deterministic, device=settings.compute.device)
        card = model.Card(settings.backbone, "", settings.image, settings.head, manifest.classes())
        classifier = model.build(card, weights=settings.backbone.weights)
        run.note("weights_sha256", sha256 := classifier.card.weights_sha256)

        train, val = manifest.read(settings.data.raw, "train", "val")
        verdict = range_check.check(classifier.backbone, manifest.few(card.image, train), settings.phase1.canary)
        pooled = inputs.pooled(classifier, settings, train, val)
        how = fit_settings.phase1(settings.phase1)
        batches = inputs.batches(pooled, train, val, how, len(card.classes))
        history = fit.fit(classifier.head, *batches, how, run.epoch, "phase 1", keep=checkpoint.place(STAGE))

        frozen_weights.check(classifier, classifier.pretrained)
        model.save(paths.PHASE1, classifier)
        phase_outputs.phase1(pooled, classifier, train, val, settings.phase1.seed)
        fit.record(STAGE, history, [paths.MANIFEST], weights_sha256=sha256, canary=verdict.text)
        console.result(STAGE, f"{history.summary()} → {paths.PHASE1}")


if __name__ == "__main__":
    load.run(main, STAGE)
