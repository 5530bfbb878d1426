"""phase2_finetune: fine-tuning, the top of the backbone is unfrozen and trained on at a much lower learning rate."""

from dataclasses import dataclass

from thaw import console, paths, records
from thaw.classifier import model
from thaw.config import load, schema
from thaw.features import inputs as feature_inputs
from thaw.images import manifest
from thaw.runtime import seeds
from thaw.tracking import mlflow_mirror
from thaw.training import fit

STAGE = "phase2_finetune"


@dataclass
class Config:
    """The groups of params.yaml that this stage reads."""

    data: schema.Data
    augment: schema.Augment
    phase2: schema.Phase2
    compute: schema.Compute
    tracking: schema.Tracking


def main() -> None:
    """Cut phase 1's classifier at the freeze boundary, train what lies behind it, prove that the rest is untouched."""
    settings = load.load(Config)
    with mlflow_mirror.stage(STAGE, settings.tracking, load.read()) as run, console.stage(STAGE):
        seeds.fix(settings.phase2.seed)
        classifier = model.load_untrained(paths.PHASE1)
        train, val = manifest.read(settings.data.raw, "train"), manifest.read(settings.data.raw, "val")
        boundary = feature_inputs.boundary(classifier, settings.phase2.unfreeze)
        console.say(boundary.describe())
        history, trained = fit.History([], 0, {}), classifier.head
        figures = {"boundary": boundary.describe(), "layers": boundary.thawed_layers}
        if boundary.thawed_layers:
            frozen_part, trained = model.thaw(classifier, boundary, settings.phase2.batch_norm)
            witness = model.witness(classifier, trained, settings.phase2.batch_norm)
            inputs = feature_inputs.at_boundary(frozen_part, boundary, classifier, settings, train, val)
            console.result(STAGE, inputs.reason)
            figures["activations"] = inputs.kind
            run.note("activations", inputs.reason)
            history = fit.fit(
                trained,
                *feature_inputs.batches(inputs, train, val, settings.phase2, len(classifier.card.classes)),
                settings.phase2,
                lambda epoch, values: run.epoch("phase2", epoch, values),
                "phase 2",
                model.depths(classifier),
            )
            model.check(classifier, witness | model.waiting(classifier, history.moved))

        model.save(paths.PHASE2, classifier)
        if boundary.thawed_layers:
            feature_inputs.unseen(inputs, len(val), trained, paths.validation(paths.PHASE2))
        records.write_csv(paths.BLOCKS, model.BLOCKS, model.blocks(classifier, trained, history.moved))
        fit.record(STAGE, history, [paths.MANIFEST, paths.PHASE1 / model.WEIGHTS], **figures)
        console.result(STAGE, f"{boundary.describe()}; {history.summary()} → {paths.PHASE2}")


if __name__ == "__main__":
    load.run(main, STAGE)
