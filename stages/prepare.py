"""prepare: read every image once, leave out what cannot be used, divide the rest."""

from collections import Counter
from dataclasses import asdict, dataclass, fields

from thaw import config, layout, progress, records, schema, splits, tracking, triage


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

        contents = [sample.sha256 for sample in found.samples]
        labels = [sample.label for sample in found.samples]
        given = [sample.split for sample in found.samples]
        shares = {"val": data.val, "test": data.test}
        divided, sources = splits.complete(contents, labels, given, **shares, seed=data.seed)
        for sample, split in zip(found.samples, divided, strict=True):
            sample.split = split
        columns = [field.name for field in fields(triage.Sample)]
        records.write_csv(layout.MANIFEST, columns, map(asdict, found.samples))
        records.write_json(layout.CLASSES, {"classes": found.classes})

        sizes, cells = Counter(divided), Counter(zip(labels, divided, strict=True))
        figures = {
            "images": len(found.samples),
            "classes": len(found.classes),
            "duplicates": len(contents) - len(set(contents)),
            "label_conflicts": len(splits.conflicts(contents, labels)),
            "leaks": splits.leaks(contents, divided),
            "splits": {name: {"images": sizes[name], "source": sources[name]} for name in layout.SPLITS},
            # A list, which DVC leaves out of its tables: a column for each class would bury the rest.
            "per_class": [{"class": c} | {name: cells[c, name] for name in layout.SPLITS} for c in found.classes],
        } | triage.figures(found)
        records.write_json(layout.metrics("prepare"), figures)
        progress.result(
            "prepare",
            f"{len(found.samples):,} images of {len(found.classes)} classes, "
            + ", ".join(f"{sizes[name]:,} {name} ({sources[name]})" for name in layout.SPLITS)
            + f"; {figures['refused']:,} files left out → {layout.PREPARED}",
        )


if __name__ == "__main__":
    config.run(main, "prepare")
