"""prepare: read every image once, leave out what cannot be used, divide the rest."""

from collections import Counter
from dataclasses import asdict, dataclass, fields

from thaw import config, layout, partition, progress, records, schema, splits, tracking, triage, units


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
        for sample, split in zip(found.samples, division.splits, strict=True):
            sample.split = split
        records.write_csv(layout.MANIFEST, [f.name for f in fields(triage.Sample)], map(asdict, found.samples))
        records.write_json(layout.CLASSES, {"classes": found.classes})
        labels, contents, groups = ([getattr(s, n) for s in found.samples] for n in ("label", "sha256", "group"))
        leaked = units.leaks(units.of(contents, groups, list(map(str, division.clusters))), division.splits)
        sizes, cells = Counter(division.splits), Counter(zip(labels, division.splits, strict=True))
        figures = {
            "images": len(found.samples),
            "classes": len(found.classes),
            "duplicates": len(contents) - len(set(contents)),
            "label_conflicts": len(splits.conflicts(contents, labels)),
            "near_duplicates": division.repeated(),
            "left_out_of_splits": sizes[splits.LEFT_OUT],
            "leaks": splits.leaks(contents, division.splits),
            "leaked_images": leaked,
            "near_leaks": len(splits.across(division.copies, division.splits)),
            "random_split_leaks": division.random_leaks,
            "splits": {name: {"images": sizes[name], "source": division.sources[name]} for name in layout.SPLITS},
            # A list, which DVC leaves out of its tables: a column for each class would bury the rest.
            "per_class": [{"class": c} | {name: cells[c, name] for name in layout.SPLITS} for c in found.classes],
        } | triage.figures(found)
        records.write_json(layout.metrics("prepare"), figures)
        progress.result(
            "prepare",
            f"{len(found.samples):,} images of {len(found.classes)} classes, "
            + ", ".join(f"{sizes[name]:,} {name} ({division.sources[name]})" for name in layout.SPLITS)
            + f"; {figures['refused']:,} files left out → {layout.PREPARED}",
        )
        if warning := units.warning(leaked, division.splits):
            progress.warn(warning)


if __name__ == "__main__":
    config.run(main, "prepare")
