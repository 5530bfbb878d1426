"""What the parity gate is asked: the test images, with what was evaluated of them, and odd photographs."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thaw import console, paths, records
from thaw.config import schema
from thaw.exports import causes, latency, odd_photos, parity, provenance, unfamiliarity, write
from thaw.exports.exported import Deployed
from thaw.exports.parity import Probes
from thaw.images import content, decoding, manifest


def spread(images: int, most: int) -> np.ndarray:
    """Return the indices of as many images as may be asked about, evenly over all, which lie by class: (n,) int64."""
    return np.unique(np.linspace(0, images - 1, min(images, most)).round().astype(np.int64))


def calibration(
    train: manifest.Images, reading: decoding.Reading, image: schema.Image, most: int
) -> Callable[[], Iterator[np.ndarray]]:
    """Return a function that yields pixels of training images, (height, width, 3) uint8, for formats of int8."""

    def pictures() -> Iterator[np.ndarray]:
        for index in spread(len(train), most):
            data = content.prepared(train.paths[index], train.hashes[index])
            yield decoding.pixels(data, reading, image)

    return pictures


def probes(test: manifest.Images, phase: str, deployed: Deployed, most: int) -> Probes:
    """Return the images that each format is asked about, and what `evaluate` and the evaluated model say of them.

    Args:
        test: the test images.
        phase: the one whose model is deployed, of whose probabilities `evaluate` kept.
        deployed: the model, for the odd photographs.
        most: test images at most.
    """
    chosen = spread(len(test), most)
    rows = provenance.evaluated(phase)[chosen]
    fitted, photos = deployed.unfamiliarity, odd_photos.photos(deployed.reading)
    score = None
    if fitted is not None:
        odd = fitted.score(causes.embedded(deployed.classifier)(list(photos.values())))
        score = np.concatenate([unfamiliarity.tested(phase, fitted)[chosen], odd])
    _, units = np.unique(np.array(manifest.independent(test))[chosen], return_inverse=True)
    answers = causes.evaluated(deployed.classifier, deployed.temperature)(list(photos.values()))
    return Probes(
        [test.paths[index] for index in chosen],
        provenance.calibrated(rows, deployed.temperature),
        test.labels[chosen],
        units,
        {name: (data, row) for (name, data), row in zip(photos.items(), answers, strict=True)},
        score,
        fitted.rounding if fitted else 0.0,
    )


def proven(
    kept: Path,
    asked: Probes,
    classes: Sequence[str],
    options: schema.Export,
    deployed: Deployed,
    test: manifest.Images,
) -> dict[str, dict[str, Any]]:
    """Let an export through the parity gate, to ``paths.EXPORTED``; set it aside if it is refused.

    Args:
        kept: the folder of ``unfinished.results``; the export is in it.
        asked, classes, options: as of ``parity.check``.
        deployed: what was exported.
        test: the test images.

    Returns:
        Figures by way to ask.

    Raises:
        ValueError: an answer is another, or the images are.
    """
    made = kept / paths.EXPORTED.name
    try:
        found = parity.check(made, asked, classes, options, explain(deployed), kept)
    except ValueError:
        write.set_aside(made)
        shutil.rmtree(kept)
        manifest.check(test)  # or the model would be blamed for other images
        raise
    write.put_in_place(made)
    return found


def explain(deployed: Deployed) -> Callable[[Sequence[bytes], np.ndarray, bool], str]:
    """Return the function that seeks the cause where a format fails; it costs nothing before one does."""
    return causes.explainer(deployed)


def record_latencies(test: manifest.Images, names: Sequence[str], note: Callable[[str, str], Any]) -> None:
    """Measure what each format costs on this machine: to the console, to MLflow, and to a file outside of all outs.

    Args:
        test: the test images.
        names: of the formats.
        note: notes a text under a name in MLflow.
    """
    files = [test.paths[index] for index in spread(len(test), latency.BATCH)]
    found = {name: latency.measure(paths.EXPORTED, name, files) for name in names}
    records.write_json(paths.main_root() / paths.LATENCY, latency.table(found))
    for name, each in found.items():
        note(f"latency.{name}", each.described())
        console.result("export", f"{name}: {each.described()}")


def described(found: dict[str, dict[str, Any]], asked: Probes) -> str:
    """Return the outcome in a line."""
    all_of = figures(found, asked)
    exact = [way for way, each in found.items() if "agreement" not in each]
    rounded = [
        f"{way} gives {each['agreement']:.1%} of the same answers" for way, each in found.items() if way not in exact
    ]
    said = [f"{', '.join(exact)} say what evaluate said, within {all_of['largest_difference']:.0e}"] if exact else []
    return f"{'; '.join([*said, *rounded])}, on {len(asked.files):,} images and {len(asked.odd)} odd photographs"


def figures(found: dict[str, dict[str, Any]], asked: Probes) -> dict[str, Any]:
    """Return the figures of the stage: of all formats, and of each way to ask one."""
    exact = [each["largest_difference"] for each in found.values() if "agreement" not in each]
    return {
        "largest_difference": max(exact, default=max(each["largest_difference"] for each in found.values())),
        "compared_images": len(asked.files),
        "odd_photos": len(asked.odd),
        "formats": found,
    }
