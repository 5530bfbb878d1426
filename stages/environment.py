"""environment: record the packages that compute and the bytes of the weights, which also determine results."""

from dataclasses import dataclass

from thaw import console, paths, records
from thaw.config import load, schema
from thaw.exports import rehearsal
from thaw.networks import environment

STAGE = "environment"


@dataclass
class Config:
    """The groups of params.yaml that this stage reads."""

    image: schema.Image
    backbone: schema.Backbone
    export: schema.Export


def main() -> None:
    """Write it down, and try what is not known of a network from outside the catalog: which formats can hold it.

    DVC runs this each time, and what depends on it only where its file is another than before.
    """
    settings, _ = load.groups(Config)
    # No run is opened in MLflow: there are no figures to show, and none should be there where nothing else has run.
    with console.stage(STAGE):
        found = environment.describe(settings.backbone)
        rehearsal.check(settings.backbone, settings.image, settings.export, found)
        records.write_json(paths.ENVIRONMENT, found)
        text = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
        console.result(STAGE, f"{text}; weights {settings.backbone.weights} → {paths.ENVIRONMENT}")


if __name__ == "__main__":
    load.run(main, STAGE)
