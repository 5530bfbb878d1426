"""Measure every export format: agreement, accuracy, bytes and milliseconds; and which networks a format refuses.

    python -m benchmarks.formats --project DIR        the model of a project in which `dvc repro` has run
    python -m benchmarks.formats --networks           one network of each family, random weights, smallest input
    python -m benchmarks.formats --networks NAME …    these networks

A format that is refused takes nothing from the others.
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
from PIL import Image

from benchmarks import record
from thaw import paths
from thaw.catalog import backbones
from thaw.classifier import model
from thaw.config import load, schema
from thaw.exports import causes, formats, gate, latency, odd_photos, parity, provenance, unfamiliarity, write
from thaw.images import decoding, manifest, preprocessing
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
    folder: Path,
    wanted: Sequence[str],
    classifier: model.Classifier,
    probes: parity.Probes,
    options: schema.Export,
    **how: Any,
) -> list[dict[str, Any]]:
    """Write formats and ask them: a row each.

    They are written and asked together; where that fails, one by one, so that one that is refused takes nothing from
    the others.
    """
    blank: dict[str, Any] = {"MB": 0.0, "difference": float("nan"), "same answers": float("nan")}
    blank |= {"accuracy": float("nan"), "refused": ""}
    kept = _alone(folder, "answers")
    try:
        write.write(folder, classifier, wanted, **how)
        found = parity.check(folder, probes, classifier.card.classes, options, kept=kept)
    except ValueError as error:
        if len(wanted) == 1:
            return [{"format": wanted[0]} | blank | {"refused": str(error)}]
        alone = {name: _alone(folder, name) for name in wanted}
        return [row for name in wanted for row in judged(alone[name], [name], classifier, probes, options, **how)]
    said = _likeliest(kept, len(probes.files))
    return [
        {
            "format": name,
            "MB": latency.size(folder / formats.FORMATS[name].about.file) / 1e6,
            "difference": found[name]["largest_difference"],
            "same answers": float(np.mean(said[name] == probes.expected.argmax(axis=1))),
            "accuracy": float("nan") if probes.labels is None else float(np.mean(said[name] == probes.labels)),
            "refused": "",
        }
        for name in wanted
    ]


def _likeliest(kept: Path, images: int) -> dict[str, np.ndarray]:
    """Return the likeliest class of each image, (images,) int64, by way to ask: of the answers that the gate kept."""
    found: dict[str, np.ndarray] = {}
    for file in kept.glob("*.npz"):
        with np.load(file, allow_pickle=False) as answers:
            found |= {way: rows[:images].argmax(axis=-1) for way, rows in answers.items()}
    return found


def _alone(folder: Path, name: str) -> Path:
    """Return the folder beside one, of a format that is written by itself or of what all of them say."""
    return folder.with_name(f"{folder.name}_{name}")


def timed(folder: Path, row: dict[str, Any], files: Sequence[str]) -> dict[str, Any]:
    """Return a row of ``judged`` with what its format costs on this machine."""
    cost = latency.measure(folder, row["format"], list(files)[:: max(1, len(files) // 32)])
    return row | {
        "cold start s": cost.cold_start,
        "p50 ms": cost.p50,
        "p95 ms": cost.p95,
        "images/s": cost.throughput,
        "processor ms": cost.processor,
        "processor start s": cost.processor_start,
        "memory MB": cost.memory / 1e6,
    }


def of_project(wanted: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row a format, of the model that the project in the current folder exports."""
    settings = load.check(yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8")))
    phase = provenance.phase(settings.export.model) if paths.VERDICT.is_file() else "phase2"
    classifier, by = model.load(paths.PHASES[phase]), provenance.temperature(phase)
    score = unfamiliarity.read(phase)
    train, test = manifest.read(settings.data.raw, "train", "test")
    pictures = gate.calibration(train, decoding.USUAL, classifier.card.image, settings.export.calibration)
    with tempfile.TemporaryDirectory() as scratch:
        deployed = write.write(Path(scratch, "none"), classifier, [], temperature=by, unfamiliarity=score)
        probes = gate.probes(test, phase, deployed, settings.export.probe)
        how = {"temperature": by, "calibration": pictures, "unfamiliarity": score}
        folder = Path(scratch, "export")
        rows = judged(folder, wanted, classifier, probes, settings.export, **how)
        found = []
        for row in rows:
            alone = _alone(folder, row["format"])
            place = alone if alone.is_dir() else folder
            found.append(row if row["refused"] else timed(place, row, probes.files))
        return found


def of_network(
    name: str, wanted: Sequence[str], options: schema.Export, *, clock: bool = False
) -> list[dict[str, Any]]:
    """Return a row a format, of a network with random weights at its smallest input.

    It is asked about the odd photographs, on which int8 is calibrated too. ``clock``: milliseconds of the processor
    for an image as large as the input are measured too.
    """
    keras.utils.set_random_seed(0)
    image = schema.Image(max(32, backbones.ROWS[name].smallest), "squash", "bilinear", antialias=True)
    head = schema.Head("avg", [], [], 0.0)
    card = model.Card(schema.Backbone(name, "random", "", "", ""), "", image, head, CLASSES)
    classifier = model.build(card, weights="random")
    photos = odd_photos.photos(decoding.USUAL)
    pixels = [decoding.pixels(data, decoding.USUAL, image) for data in photos.values()]
    _spread_out(classifier, pixels)
    with tempfile.TemporaryDirectory() as scratch:
        files = [Path(scratch, f"{number}") for number in range(len(photos))]
        for file, data in zip(files, photos.values(), strict=True):
            file.write_bytes(data)
        expected = causes.evaluated(classifier, 1.0)(list(photos.values()))
        probes = parity.Probes(list(map(str, files)), expected)
        # Answers of random weights are near each other, so that the agreement of what rounds says nothing.
        loose = replace(options, agreement=0.0, tolerance=1e-3)
        how = {"calibration": lambda: iter(pixels)}
        rows = judged(Path(scratch, "export"), wanted, classifier, probes, loose, **how)
        if clock:
            noise = np.random.default_rng(0).integers(0, 256, (image.size, image.size, 3), dtype=np.uint8)
            Image.fromarray(noise).save(small := Path(scratch, "small.png"))
            rows = [row | {"ms": milliseconds(Path(scratch, "export"), row, small)} for row in rows]
        return [{"network": name} | row for row in rows]


def milliseconds(folder: Path, row: dict[str, Any], image: Path) -> float:
    """Return the processor's time for an image by itself; not a number for what is refused."""
    name = row["format"]
    if row["refused"]:
        return float("nan")
    alone = _alone(folder, name)
    return latency.measure(alone if alone.is_dir() else folder, name, [str(image)]).processor


def _spread_out(classifier: model.Classifier, pictures: Sequence[np.ndarray]) -> None:
    """Let the logits have mean 0 and deviation 1 over the pictures: with random weights all would be nearly equal."""
    fit, logits = preprocessing.resizer(classifier.card.image), classifier.head.get_layer("logits")
    fitted = np.stack([np.asarray(fit(picture.astype(np.float32))) for picture in pictures])
    said = np.asarray(model.whole(classifier)(fitted, training=False))
    deviation = float(said.std(axis=0).mean())
    logits.kernel.assign(logits.kernel / deviation)
    logits.bias.assign(-said.mean(axis=0) / deviation)


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
            found += of_network(name, options.formats, settings, clock=True)
            print(name, [f"{row['format']}: {row['refused'] or 'yes'}" for row in found if row["network"] == name])
        record.write("formats_of_networks", "Formats of networks with random weights", found)


if __name__ == "__main__":
    main()
