"""phase2_finetune: thaw the top of the backbone and train on at a much lower rate."""

from dataclasses import dataclass

from thaw import config, features, images, layout, model, progress, records, schema, seeds, tracking, training

STAGE = "phase2_finetune"


@dataclass
class Config:
    """What this stage reads of params.yaml."""

    data: schema.Data
    augment: schema.Augment
    phase2: schema.Phase2
    compute: schema.Compute
    tracking: schema.Tracking


def main() -> None:
    """Cut phase 1's classifier at the boundary, train what lies behind it, prove that the rest is untouched."""
    settings = config.load(Config)
    with tracking.stage(STAGE, settings.tracking, config.read()) as run, progress.stage(STAGE):
        seeds.fix(settings.phase2.seed)
        classifier = model.load_untrained(layout.PHASE1)
        train, val = images.read(settings.data.raw, "train"), images.read(settings.data.raw, "val")
        boundary = features.boundary(classifier, settings.phase2.unfreeze)
        progress.say(boundary.describe())
        history, trained = training.History([], 0, {}), classifier.head
        figures = {"boundary": boundary.describe(), "layers": boundary.thawed_layers}
        if boundary.thawed_layers:
            frozen_part, trained = model.thaw(classifier, boundary, settings.phase2.batch_norm)
            witness = model.witness(classifier, trained, settings.phase2.batch_norm)
            inputs = features.at_boundary(frozen_part, boundary, classifier, settings, train, val)
            progress.result(STAGE, inputs.reason)
            figures["activations"] = inputs.kind
            run.note("activations", inputs.reason)
            history = training.fit(
                trained,
                *features.batches(inputs, train, val, settings.phase2, len(classifier.card.classes)),
                settings.phase2,
                lambda epoch, values: run.epoch("phase2", epoch, values),
                "phase 2",
                model.depths(classifier),
            )
            model.check(classifier, witness | model.waiting(classifier, history.moved))

        model.save(layout.PHASE2, classifier)
        if boundary.thawed_layers:
            said = features.unseen(inputs, len(val), trained)
            records.write_array(layout.validation(layout.PHASE2), said)
        records.write_csv(layout.BLOCKS, model.BLOCKS, model.blocks(classifier, trained, history.moved))
        training.record(STAGE, history, [layout.MANIFEST, layout.PHASE1 / model.WEIGHTS], **figures)
        progress.result(STAGE, f"{boundary.describe()}; {history.summary()} → {layout.PHASE2}")


if __name__ == "__main__":
    config.run(main, STAGE)
