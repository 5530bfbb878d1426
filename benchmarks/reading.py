"""Measure what reading costs in an epoch of phase 2 on cached activations: ``python -m benchmarks.reading --data
DIR``.

Batches are read, mixed and handed over as in training, but not trained on; the time is set against that of the epoch.
"""

import argparse
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import project, record
from thaw import paths
from thaw.classifier import model
from thaw.features import inputs
from thaw.images import manifest
from thaw.tracking import mlflow_mirror
from thaw.training import fit_settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with one folder per class")
    parser.add_argument("--set", nargs="*", default=[], dest="overrides", help="more of the configuration")
    options = parser.parse_args()
    data = options.data.resolve()
    epochs: list[float] = []

    def noted(self: mlflow_mirror.Run, phase: str, epoch: int, values: Mapping[str, float]) -> None:
        del self, phase, epoch
        epochs.append(values["seconds"])

    with project.scratch():
        settings = project.configure(["data=folder", f"data.raw={data}", *options.overrides])
        project.run("prepare")
        project.run("phase1_head")
        # The stage tells MLflow of each epoch with its seconds; tracking is off here, so they are taken on the way.
        mlflow_mirror.Run.epoch = noted  # type: ignore[method-assign]
        project.run("phase2_finetune")
        classifier = model.load(paths.PHASE1)
        boundary = inputs.boundary(classifier, settings.phase2.unfreeze_spec)
        frozen_part, _ = model.thaw(classifier, boundary)
        train, val = manifest.read(settings.data.raw, "train", "val")
        activations = inputs.at_boundary(frozen_part, boundary, classifier, settings, train, val)
        read: list[float] = []
        how = fit_settings.phase2(settings.phase2, len(train))
        for batches in [inputs.batches(activations, train, val, how, len(manifest.classes()))] * 3:
            start = time.monotonic()
            for part in batches:
                for number in range(len(part)):
                    part[number]
            read.append(time.monotonic() - start)
    epoch, reading = statistics.median(epochs), statistics.median(read)
    row = {"images": len(train) + len(val), "epoch s": epoch, "reading s": reading, "share": reading / epoch}
    record.write("reading", f"{data.name}: reading, of an epoch of phase 2", [row])


if __name__ == "__main__":
    main()
