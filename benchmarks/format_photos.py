"""Measure export formats on photographs: what float16 and int8 keep of a network with a linear head.

    python -m benchmarks.format_photos --data DIR [--images N] [--size PIXELS] [--formats FORMAT …] -- NAME=WEIGHTS …

The head is a logistic regression on the frozen network's embeddings of one half of the images; the other half is what
the formats are asked about. Nothing is fine-tuned, so that it takes minutes.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from benchmarks import formats as measured
from benchmarks import record
from thaw.classifier import model
from thaw.config import schema
from thaw.exports import causes, formats, gate, parity
from thaw.images import decoding

BATCH = 32


def images(folder: Path, most: int) -> tuple[list[str], np.ndarray, list[str]]:
    """Return so many images of each class, spread over its files: paths, (n,) labels, and the classes."""
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    found: list[tuple[str, int]] = []
    for label, name in enumerate(classes):
        files = sorted(map(str, (folder / name).iterdir()))
        found += [(files[index], label) for index in gate.spread(len(files), most)]
    return [path for path, _ in found], np.array([label for _, label in found]), classes


def trained(name: str, weights: str, size: int, classes: list[str], files: Sequence[str], labels: np.ndarray) -> Any:
    """Return a classifier of the frozen network, whose head is fitted to images."""
    image, linear = schema.Image(size, "squash", "bilinear", antialias=True), schema.Head("avg", [], [], 0.0)
    card = model.Card(schema.Backbone(name, weights, "", "", ""), "", image, linear, classes)
    classifier = model.build(card, weights=weights)
    embed, batches = causes.embedded(classifier), range(0, len(files), BATCH)
    rows = np.concatenate([embed([Path(file).read_bytes() for file in files[at : at + BATCH]]) for at in batches])
    scaler = StandardScaler().fit(rows)
    fitted = LogisticRegression(max_iter=1000).fit(scaler.transform(rows), labels)
    kernel = fitted.coef_ / scaler.scale_
    logits = classifier.head.get_layer("logits")
    logits.kernel.assign(kernel.T)
    logits.bias.assign(fitted.intercept_ - kernel @ scaler.mean_)
    return classifier


def rows_of(name: str, weights: str, data: Path, most: int, size: int, wanted: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row a format."""
    files, labels, classes = images(data, most)
    classifier = trained(name, weights, size, classes, files[::2], labels[::2])
    answer, asked = causes.evaluated(classifier, 1.0), files[1::2]
    batches = range(0, len(asked), BATCH)
    expected = [answer([Path(file).read_bytes() for file in asked[at : at + BATCH]]) for at in batches]
    probes = parity.Probes(asked, np.concatenate(expected), labels[1::2])
    options = schema.Export(list(wanted), 1e-4, 1.0, 0.9, 128, len(asked), latency=False, model="phase1")

    def pictures() -> Any:
        for index in gate.spread(len(files[::2]), options.calibration):
            yield decoding.pixels(Path(files[2 * index]).read_bytes(), decoding.USUAL, classifier.card.image)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "export")
        found = measured.judged(folder, wanted, classifier, probes, options, calibration=pictures)
        timed = [measured.milliseconds(folder, row, Path(asked[0])) for row in found]
    right = float(np.mean(probes.expected.argmax(axis=1) == probes.labels))
    return [
        {"network": name, "images": len(asked), "evaluated": right} | row | {"ms": each}
        for row, each in zip(found, timed, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", metavar="NAME=WEIGHTS", help="of the catalog, and backbone.weights")
    parser.add_argument("--data", type=Path, required=True, help="a folder of class folders")
    parser.add_argument("--images", type=int, default=80, help="of a class, half of them to train the head")
    parser.add_argument("--size", type=int, default=96, help="pixels, the input")
    parser.add_argument("--formats", nargs="+", default=list(formats.FORMATS), help="those to measure")
    options = parser.parse_args()
    found = []
    for each in options.networks:
        name, _, weights = each.partition("=")
        found += rows_of(name, weights, options.data, options.images, options.size, options.formats)
    record.write("format_photos", f"Formats on {options.data.name}, {options.size} px", found)


if __name__ == "__main__":
    main()
