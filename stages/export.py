"""export: write the classifier as it is deployed, proven equal to what was evaluated."""

from dataclasses import dataclass

import numpy as np

from thaw import console, paths, records
from thaw.classifier import model
from thaw.config import load, policy, schema
from thaw.evaluation import intervals
from thaw.exports import parity, provenance, write
from thaw.images import decoding, manifest
from thaw.tracking import mlflow_mirror, registry

STAGE = "export"


@dataclass
class Config:
    """The groups of params.yaml that this stage reads."""

    data: schema.Data
    export: schema.Export
    tracking: schema.Tracking


def main() -> None:
    """Write every format; fail unless a fresh process gets evaluate's probabilities from each on all test images."""
    settings, params = load.groups(Config)
    with mlflow_mirror.stage(STAGE, settings.tracking, params) as run, console.stage(STAGE):
        reading = decoding.Reading(settings.data.max_pixels, settings.data.policy.unused_bits == policy.STRETCH)
        judged = settings.export.model == "verdict"
        phase = records.read_json(paths.VERDICT)["ship"] if judged else settings.export.model
        folder, wanted = paths.PHASES[phase], settings.export.formats
        temperature, came_of = provenance.temperature(phase), provenance.hashes(folder / model.WEIGHTS)
        classifier = model.load(folder)
        write.write(paths.EXPORTED, classifier, wanted, reading, temperature=temperature, provenance=came_of)
        (test,), classes = manifest.read(settings.data.raw, "test"), manifest.classes()
        expected = provenance.calibrated(np.load(paths.probabilities(phase), allow_pickle=False), temperature)
        try:
            differences = parity.check(paths.EXPORTED, test.paths, expected, classes, settings.export.tolerance)
        except ValueError:
            manifest.check(test)  # or the model would be blamed for other images
            raise

        figures = {
            "largest_difference": max(differences.values()),
            "compared_images": len(test),
            "made_from": records.made_from([folder / model.WEIGHTS, paths.probabilities(phase)]),
        }
        records.write_json(paths.metrics(STAGE), figures)
        tested = registry.tested(classes, test.hashes, test.labels, expected, test.units)
        registry.register(run, paths.EXPORTED, tested, intervals.mcnemar)
        text = f"{', '.join(differences)} say what evaluate said, within {figures['largest_difference']:.0e}"
        console.result(STAGE, f"{text} on {len(test):,} images → {paths.EXPORTED}")


if __name__ == "__main__":
    load.run(main, STAGE)
