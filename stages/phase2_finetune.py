"""phase2_finetune: thaw the top of the backbone and train on at a much lower rate."""

from dataclasses import dataclass
from functools import partial

from thaw import console, paths, records
from thaw.classifier import model
from thaw.config import load, schema
from thaw.features import inputs
from thaw.images import manifest
from thaw.runtime import seeds
from thaw.tracking import mlflow_mirror
from thaw.training import fit

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
    settings, params = load.groups(Config)
    with mlflow_mirror.stage(STAGE, settings.tracking, params) as run, console.stage(STAGE):
        seeds.fix(settings.phase2.seed)
        classifier = model.load_untrained(paths.PHASE1)
        train, val = manifest.read(settings.data.raw, "train", "val")
        boundary = inputs.boundary(classifier, settings.phase2.unfreeze_spec)
        console.say(boundary.describe())
        history, trained = fit.History([], 0, {}), classifier.head
        figures = {"boundary": boundary.describe(), "layers": boundary.thawed_layers}
        if boundary.thawed_layers:
            frozen_part, trained = model.thaw(classifier, boundary, settings.phase2.batch_norm)
            witness = model.witness(classifier, trained, settings.phase2.batch_norm)
            activations = inputs.at_boundary(frozen_part, boundary, classifier, settings, train, val)
            console.result(STAGE, activations.reason)
            figures["activations"] = activations.kind
            run.note("activations", activations.reason)
            batches = inputs.batches(activations, train, val, settings.phase2, len(classifier.card.classes))
            report, by_depth = partial(run.epoch, "phase2"), model.depths(classifier)
            history = fit.fit(trained, *batches, settings.phase2, report, "phase 2", by_depth)
            model.check(classifier, witness | model.waiting(classifier, history.moved))
        model.save(paths.PHASE2, classifier)
        if boundary.thawed_layers:
            inputs.unseen(activations, len(val), trained, paths.validation(paths.PHASE2))
        records.write_csv(paths.BLOCKS, model.BLOCKS, model.blocks(classifier, trained, history.moved))
        fit.record(STAGE, history, [paths.MANIFEST, paths.PHASE1 / model.WEIGHTS], **figures)
        console.result(STAGE, f"{boundary.describe()}; {history.summary()} → {paths.PHASE2}")


if __name__ == "__main__":
    load.run(main, STAGE)
