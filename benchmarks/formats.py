"""Measure every export format: agreement, accuracy, bytes and milliseconds; and which networks a format refuses.

    python -m benchmarks.formats --project DIR        the model of a project in which `dvc repro` has run
    python -m benchmarks.formats --networks           one network of each family, random weights, smallest input
    python -m benchmarks.formats --networks NAME …    these networks

Each network's formats are written one by one, so that one that is refused takes nothing from the others.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks import record
from thaw import paths
from thaw.catalog import backbones
from thaw.classifier import model
from thaw.config import load, schema
from thaw.exports import causes, formats, gate, latency, odd_photos, parity, provenance, write
from thaw.images import decoding, manifest
from thaw.runtime.framework import keras

HERE = Path.cwd()
CLASSES = ["a", "b", "c"]


def families() -> list[str]:
    """Return the smallest network of each family of the catalog."""
    smallest: dict[Any, str] = {}
    for name, row in backbones.ROWS.items():
        known = smallest.get(row.blocks)
        if known is None or row.parameters < backbones.ROWS[known].parameters:
            smallest[row.blocks] = name
    return list(smallest.values())


def judged(
    folder: Path, name: str, classifier: model.Classifier, probes: parity.Probes, options: schema.Export, **how: Any
) -> dict[str, Any]:
    """Write one format, ask it and measure it: a row of the table."""
    row: dict[str, Any] = {"format": name, "MB": 0.0, "difference": 0.0, "same answers": 1.0, "accuracy": float("nan")}
    row |= {"cold start s": 0.0, "p50 ms": 0.0, "p95 ms": 0.0, "images/s": 0.0, "memory MB": 0.0, "refused": ""}
    try:
        write.write(folder, classifier, [name], **how)
        found = parity.check(folder, probes, classifier.card.classes, options)[name]
    except ValueError as error:
        return row | {"refused": str(error)}
    expected = probes.expected.argmax(axis=1)
    right = 1.0 if probes.labels is None else float(np.mean(expected == probes.labels))
    cost = latency.measure(folder, name, list(probes.files)[:: max(1, len(probes.files) // 32)])
    return row | {
        "MB": cost.bytes / 1e6,
        "difference": found["largest_difference"],
        "same answers": found.get("agreement", 1.0),
        "accuracy": found.get("accuracy", right),
        "cold start s": cost.cold_start,
        "p50 ms": cost.p50,
        "p95 ms": cost.p95,
        "images/s": cost.throughput,
        "memory MB": cost.memory / 1e6,
    }


def of_project(wanted: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row a format, of the model that the project in the current folder exports."""
    settings = load.check(yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8")))
    phase = provenance.phase(settings.export.model) if paths.VERDICT.is_file() else "phase2"
    classifier, by = model.load(paths.PHASES[phase]), provenance.temperature(phase)
    train, test = manifest.read(settings.data.raw, "train", "test")
    pictures = gate.calibration(train, decoding.USUAL, classifier.card.image, settings.export.calibration)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        deployed = write.write(Path(scratch, "none"), classifier, [], temperature=by)
        probes = gate.probes(test, phase, deployed, settings.export.probe)
        for name in wanted:
            how = {"temperature": by, "calibration": pictures}
            rows.append(judged(Path(scratch, name), name, classifier, probes, settings.export, **how))
    return rows


def of_network(name: str, wanted: Sequence[str], options: schema.Export) -> list[dict[str, Any]]:
    """Return a row a format, of a network with random weights at its smallest input, on the odd photographs."""
    keras.utils.set_random_seed(0)
    image = schema.Image(max(32, backbones.ROWS[name].smallest), "squash", "bilinear", antialias=True)
    head = schema.Head("avg", [], [], 0.0)
    card = model.Card(schema.Backbone(name, "random", "", "", ""), "", image, head, CLASSES)
    classifier = model.build(card, weights="random")
    photos = odd_photos.photos(decoding.USUAL)
    with tempfile.TemporaryDirectory() as scratch:
        files = [Path(scratch, f"{number}") for number in range(len(photos))]
        for file, data in zip(files, photos.values(), strict=True):
            file.write_bytes(data)
        expected = causes.evaluated(classifier, 1.0)(list(photos.values()))
        probes = parity.Probes(list(map(str, files)), expected)
        pixels = [decoding.pixels(data, decoding.USUAL, image) for data in photos.values()]
        # Answers of random weights are near each other, so that the agreement of what rounds says nothing.
        loose = replace(options, agreement=0.0, tolerance=1e-3)
        return [
            {"network": name}
            | judged(Path(scratch, kind), kind, classifier, probes, loose, calibration=lambda: iter(pixels))
            for kind in wanted
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, help="a project in which the pipeline has run")
    parser.add_argument("--networks", nargs="*", help="names of the catalog; none: one of each family")
    parser.add_argument("--formats", nargs="+", default=list(formats.FORMATS), help="those to measure")
    options = parser.parse_args()
    if options.project:
        os.chdir(options.project)
        rows = of_project(options.formats)
        os.chdir(HERE)
        record.write("formats", f"Formats of {options.project.name}", rows)
    if options.networks is not None:
        settings = load.check(yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))).export
        found = []
        for name in options.networks or families():
            found += of_network(name, options.formats, settings)
            print(name, [f"{row['format']}: {row['refused'] or 'yes'}" for row in found if row["network"] == name])
        record.write("formats_of_networks", "Formats of networks with random weights", found)


if __name__ == "__main__":
    main()
