"""export: write the classifier as it is deployed, proven equal to what was evaluated."""

from dataclasses import dataclass

from thaw import console, paths, records
from thaw.classifier import model
from thaw.config import load, policy, schema
from thaw.evaluation import intervals
from thaw.exports import gate, provenance, unfamiliarity, write
from thaw.images import decoding, manifest
from thaw.runtime import devices
from thaw.tracking import mlflow_mirror, registry, unfinished

STAGE = "export"


@dataclass
class Config:
    """The groups of params.yaml that this stage reads."""

    data: schema.Data
    compute: schema.Compute
    export: schema.Export
    tracking: schema.Tracking


def main() -> None:
    """Write every format; fail unless fresh processes get evaluate's probabilities from each on the test images."""
    settings, params = load.groups(Config)
    done = unfinished.results(STAGE, provenance.writers())
    with mlflow_mirror.stage(STAGE, settings.tracking, params) as run, console.stage(STAGE), done as kept:
        devices.choose(settings.compute.device)
        phase = provenance.phase(settings.export.model)
        folder, classifier = paths.PHASES[phase], model.load(paths.PHASES[phase])
        reading = decoding.Reading(settings.data.max_pixels, settings.data.policy.unused_bits == policy.STRETCH)
        (train, test), classes = manifest.read(settings.data.raw, "train", "test"), manifest.classes()
        deployed = write.write(
            kept / paths.EXPORTED.name,
            classifier,
            settings.export.formats,
            reading,
            temperature=provenance.temperature(phase),
            provenance=provenance.hashes(folder / model.WEIGHTS),
            calibration=gate.calibration(train, reading, classifier.card.image, settings.export.calibration),
            unfamiliarity=unfamiliarity.read(phase),
            go_on=True,
        )
        probes = gate.probes(test, phase, deployed, settings.export.probe)
        found = gate.proven(kept, probes, classes, settings.export, deployed, test)
        made_from = records.made_from([folder / model.WEIGHTS, paths.probabilities(phase)])
        records.write_json(paths.metrics(STAGE), gate.figures(found, probes) | {"made_from": made_from})
        tested = registry.tested(classes, test.hashes, test.labels, provenance.evaluated(phase), test.units)
        registry.register(run, paths.EXPORTED, tested, intervals.mcnemar)
        if settings.export.latency:
            gate.record_latencies(test, settings.export.formats, run.note)
        console.result(STAGE, f"{gate.described(found, probes)} → {paths.EXPORTED}")


if __name__ == "__main__":
    load.run(main, STAGE)
