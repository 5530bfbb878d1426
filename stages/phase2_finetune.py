"""phase2_finetune: fine-tuning, the top of the backbone is unfrozen and trained on at a much lower learning rate."""

from dataclasses import dataclass

from thaw import console, paths
from thaw.classifier import frozen_weights, model
from thaw.config import load, schema
from thaw.features import inputs, phase_outputs
from thaw.images import manifest
from thaw.runtime import seeds, workers
from thaw.tracking import lineage, mlflow_mirror
from thaw.training import checkpoint, estimate, fit, fit_settings

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
    """Cut phase 1's classifier at the boundary, train what lies behind it, prove that the rest is untouched."""
    settings, params = load.groups(Config)
    with mlflow_mirror.stage(STAGE, settings.tracking, params) as run, console.stage(STAGE):
        seeds.fix(settings.phase2.seed, deterministic=settings.compute.deterministic, device=settings.compute.device)
        workers.meet(STAGE, settings.compute, lambda: lineage.key({"given": params, **lineage.inputs(STAGE)}))
        classifier = frozen_weights.load_untrained(paths.PHASE1)
        train, val = manifest.read(settings.data.raw, "train", "val")
        boundary = inputs.boundary(classifier, settings.phase2.unfreeze_spec)
        history, trained = fit.History([], 0, {}), classifier.head
        figures = {"boundary": boundary.describe(), "layers": boundary.thawed_layers}
        if boundary.thawed_layers:
            frozen_part, trained = model.thaw(classifier, boundary, settings.phase2.batch_norm)
            witness = frozen_weights.witness(classifier, trained, settings.phase2.batch_norm)
            activations = inputs.at_boundary(frozen_part, boundary, classifier, settings, train, val)
            figures["activations"], why = activations.kind, run.note("activations", activations.reason)
            console.result(STAGE, why, estimate.phase2(classifier.card, settings.phase2, boundary.share, len(train)))
            how, alone = fit_settings.phase2(settings.phase2, len(train), settings.compute), manifest.independent(val)
            batches = inputs.batches(activations, train, val, how, len(classifier.card.classes))
            depths, keep = model.depths(classifier), checkpoint.place(STAGE, activations.kind, how.shares)
            history = fit.fit(trained, *batches, how, run.epoch, "phase 2", depths, alone, keep)
            frozen_weights.check(classifier, witness if history.best else classifier.pretrained)
        workers.leave()  # but the first, which alone writes
        model.save(paths.PHASE2, classifier)
        if boundary.thawed_layers:
            phase_outputs.phase2(activations, train.labels, len(val), trained, paths.PHASE2)
        model.write_blocks(paths.BLOCKS, classifier, trained, moved=history.best > 0)
        fit.record(STAGE, history, [paths.MANIFEST, paths.PHASE1 / model.WEIGHTS], **figures)
        console.result(STAGE, f"{boundary.describe()}; {history.summary()} → {paths.PHASE2}")


if __name__ == "__main__":
    load.run(main, STAGE)
