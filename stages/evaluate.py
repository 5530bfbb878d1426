"""evaluate: what the models of both phases are worth on images that nothing was chosen by."""

from dataclasses import dataclass

from thaw import (
    config,
    data_report,
    evaluation,
    images,
    label_errors,
    layout,
    model,
    progress,
    schema,
    seeds,
    tracking,
)

STAGE = "evaluate"


@dataclass
class Config:
    """What this stage reads of params.yaml; most of it only for the report."""

    data: schema.Data
    image: schema.Image
    augment: schema.Augment
    backbone: schema.Backbone
    head: schema.Head
    phase1: schema.Phase1
    phase2: schema.Phase2
    evaluate: schema.Evaluate
    tracking: schema.Tracking


def main() -> None:
    """Run both models over every test image once; write figures, tables, pictures and the report."""
    settings = config.load(Config)
    with tracking.stage(STAGE, settings.tracking, config.read()), progress.stage(STAGE):
        seeds.fix(0)
        test = images.read(settings.data.raw, "test")
        classifiers = [model.load(folder) for folder in evaluation.PHASES.values()]
        found = evaluation.probabilities(classifiers, test, settings.evaluate.batch_size)
        by_phase = dict(zip(evaluation.PHASES, found, strict=True))
        text = evaluation.write(by_phase, test, settings, images.classes())
        learned = {split: images.read(settings.data.raw, split) for split in ("train", "val")}
        label_errors.record(images.classes(), learned)
        data_report.write(settings.data.raw, images.classes(), settings.evaluate.suspects)
        progress.result(STAGE, f"{text} → {layout.REPORT}")


if __name__ == "__main__":
    config.run(main, STAGE)
