"""export: the classifier as it is deployed, proven equal to what was evaluated."""

from dataclasses import dataclass

import numpy as np

from thaw import config, exporting, formats, images, layout, model, parity, policy, progress, records, schema, tracking

STAGE = "export"


@dataclass
class Config:
    """What this stage reads of params.yaml."""

    data: schema.Data
    export: schema.Export
    tracking: schema.Tracking


def main() -> None:
    """Write every format; fail unless a fresh process gets evaluate's probabilities from each on all test images."""
    settings = config.load(Config)
    with tracking.stage(STAGE, settings.tracking, config.read()), progress.stage(STAGE):
        reading = formats.Reading(settings.data.max_pixels, settings.data.policy.unused_bits == policy.STRETCH)
        exporting.write(layout.EXPORTED, model.load(layout.PHASE2), settings.export.formats, reading)

        test = images.read(settings.data.raw, "test")
        expected = np.load(layout.probabilities("phase2"), allow_pickle=False)
        try:
            differences = parity.check(
                layout.EXPORTED, test.paths, expected, images.classes(), settings.export.tolerance
            )
        except ValueError:
            images.check(test)  # or the model would be blamed for other images
            raise

        figures = {
            "largest_difference": max(differences.values()),
            "compared_images": len(test),
            "made_from": records.made_from([layout.PHASE2 / model.WEIGHTS, layout.probabilities("phase2")]),
        }
        records.write_json(layout.metrics(STAGE), figures)
        text = f"{', '.join(differences)} say what evaluate said, within {figures['largest_difference']:.0e}"
        progress.result(STAGE, f"{text} on {len(test):,} images → {layout.EXPORTED}")


if __name__ == "__main__":
    config.run(main, STAGE)
