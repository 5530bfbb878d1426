"""evaluate: measure the models of both phases on the held-out test images, by which nothing was chosen."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from thaw import console, paths, records
from thaw.config import load, schema
from thaw.evaluation import data_report, documents, evaluate, from_scratch, inspection, label_errors, predictions
from thaw.images import columns, manifest
from thaw.runtime import seeds
from thaw.tracking import lineage, mlflow_mirror, unfinished

STAGE = "evaluate"


@dataclass
class Config:
    """The groups of params.yaml that this stage reads; most of them only for the report."""

    data: schema.Data
    image: schema.Image
    augment: schema.Augment
    backbone: schema.Backbone
    head: schema.Head
    phase1: schema.Phase1
    phase2: schema.Phase2
    compute: schema.Compute
    evaluate: schema.Evaluate
    tracking: schema.Tracking


def main() -> None:
    """Run both models over every test image once; write figures, tables, pictures and the report."""
    settings, params = load.groups(Config)
    done, aside = unfinished.results(STAGE), ThreadPoolExecutor(1)
    with mlflow_mirror.stage(STAGE, settings.tracking, params) as run, console.stage(STAGE), done as kept, aside:
        seeds.fix(0, deterministic=settings.compute.deterministic, device=settings.compute.device)
        rows, classes = columns.read(), manifest.classes()
        train, val, test = manifest.read(settings.data.raw, "train", "val", "test", rows=rows)
        records.make_new(paths.EVALUATION)
        label_errors.record(classes, {"train": train, "val": val})
        page = aside.submit(data_report.write, settings.data.raw, classes, settings.evaluate.suspects, rows)
        runs = predictions.predictors(classifiers := predictions.classifiers())
        card, options = classifiers["phase1"].card, settings.evaluate
        found = predictions.answers(runs, card.image, test, options.batch_size, kept)
        stressed = predictions.corrupted(runs, card.image, test, options, kept)
        splits = {"train": train, "val": val, "test": test}
        scratch = from_scratch.train(card, settings, splits, run.epoch, kept) if options.scratch else None
        text, judged = evaluate.write(found, test, rows, classes, options, stressed, scratch)
        run.note("verdict", judged.text)
        inspection.write(judged.ship, classifiers[judged.ship], test, found[judged.ship].probabilities)
        page.result()
        documents.write(asdict(settings))
        records.write_json(paths.PROVENANCE, lineage.describe())
        console.result(STAGE, f"{text} → {paths.REPORT}")
        console.result(STAGE, judged.text)


if __name__ == "__main__":
    load.run(main, STAGE)
