"""prepare: read every image once, leave out what cannot be used, divide the rest."""

from dataclasses import dataclass, fields

from thaw import config, layout, partition, progress, records, schema, tracking, triage


@dataclass
class Config:
    """The groups of params.yaml that this stage reads."""

    data: schema.Data
    tracking: schema.Tracking


def main() -> None:
    settings = config.load(Config)
    with tracking.stage("prepare", settings.tracking, config.read()), progress.stage("prepare"):
        data = settings.data
        found = triage.read(data, progress.track)
        records.write_csv(layout.QUARANTINE, triage.COLUMNS, triage.rows(found))
        triage.check(found, data)

        division = partition.divide(found.samples, data, partition.remembered(data))
        partition.write(found.samples, division, data)
        for warning in partition.warnings(found.samples, division):
            progress.warn(warning)
        partition.assign(found.samples, division)
        columns = [field.name for field in fields(triage.Sample)]
        rows = ({column: getattr(sample, column) for column in columns} for sample in found.samples)
        records.write_csv(layout.MANIFEST, columns, rows)
        records.write_json(layout.CLASSES, {"classes": found.classes})

        figures = partition.figures(found.samples, found.classes, division) | triage.figures(found)
        records.write_json(layout.metrics("prepare"), figures)
        progress.result(
            "prepare",
            f"{len(found.samples):,} images of {len(found.classes)} classes, "
            + ", ".join(
                f"{figures['splits'][name]['images']:,} {name} ({division.sources[name]})" for name in layout.SPLITS
            )
            + f"; {figures['refused']:,} files left out → {layout.PREPARED}",
        )


if __name__ == "__main__":
    config.run(main, "prepare")
