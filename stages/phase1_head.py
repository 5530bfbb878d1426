"""phase1_head: train a new head on the frozen backbone."""

from dataclasses import dataclass

from thaw import canary as canaries
from thaw import config, features, images, layout, model, progress, schema, seeds, tracking, training

STAGE = "phase1_head"


@dataclass
class Config:
    """What this stage reads of params.yaml."""

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
    settings = config.load(Config)
    with tracking.stage(STAGE, settings.tracking, config.read()) as run, progress.stage(STAGE):
        seeds.fix(settings.phase1.seed)
        card = model.Card(settings.backbone, "", settings.image, settings.head, images.classes())
        classifier = model.build(card, weights=settings.backbone.weights)
        run.note("weights_sha256", sha256 := classifier.card.weights_sha256)

        train, val = images.read(settings.data.raw, "train"), images.read(settings.data.raw, "val")
        verdict = canaries.check(classifier.backbone, images.few(card.image, train), settings.phase1.canary)
        inputs = features.pooled(classifier, settings, train, val)
        history = training.fit(
            classifier.head,
            *features.batches(inputs, train, val, settings.phase1, len(card.classes)),
            settings.phase1,
            lambda epoch, values: run.epoch("phase1", epoch, values),
            "phase 1",
        )

        model.check(classifier, classifier.pretrained)
        model.save(layout.PHASE1, classifier)
        features.leave(inputs, classifier, train, val, settings.phase1.seed)
        training.record(STAGE, history, [layout.MANIFEST], weights_sha256=sha256, canary=verdict.text)
        progress.result(STAGE, f"{history.summary()} → {layout.PHASE1}")


if __name__ == "__main__":
    config.run(main, STAGE)
