"""prepare: read every image once, leave out what cannot be used, split the rest."""

from dataclasses import dataclass

from thaw import console, forecast, paths, records
from thaw.config import load, schema
from thaw.data import attributes, manifest_table, splits, units, validation, validation_on_ray
from thaw.tracking import mlflow_mirror


@dataclass
class Config:
    """The groups of params.yaml that this stage reads."""

    data: schema.Data
    image: schema.Image
    augment: schema.Augment
    backbone: schema.Backbone
    phase1: schema.Phase1
    phase2: schema.Phase2
    compute: schema.Compute
    tracking: schema.Tracking


def main() -> None:
    settings, params = load.groups(Config)
    with mlflow_mirror.stage("prepare", settings.tracking, params), console.stage("prepare"):
        data = settings.data
        if settings.compute.ray:
            validation_on_ray.fill(data, settings.compute.ray)
        found = validation.read(data, console.track)
        records.write_csv(paths.QUARANTINE, validation.COLUMNS, validation.rows(found))
        validation.check(found, data)

        division = splits.divide(found.samples, data, splits.remembered(data))
        splits.write(found.samples, division, data)
        for warning in (*splits.warnings(found.samples, division), *units.few(division.units, division.splits)):
            console.warn(warning)
        splits.assign(found.samples, division)
        own = attributes.read(data.raw)
        manifest_table.write(found.samples, own)
        if said := own.describe():
            console.result("prepare", said)
        records.write_json(paths.CLASSES, {"classes": found.classes})

        figures = splits.figures(found.samples, found.classes, division) | validation.figures(found)
        records.write_json(paths.metrics("prepare"), figures)
        console.result(
            "prepare",
            f"{len(found.samples):,} images of {len(found.classes)} classes, "
            + ", ".join(
                f"{figures['splits'][name]['images']:,} {name} ({division.sources[name]})" for name in paths.SPLITS
            )
            + f"; {figures['refused']:,} files left out → {paths.PREPARED}",
        )
        console.result("prepare", forecast.after_prepare(settings, figures["splits"]))


if __name__ == "__main__":
    load.run(main, "prepare")
