"""The images of a run as MLflow's dataset of it: a name and a digest, by which runs are told apart and filtered."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

DIGITS = 12  # of the manifest's sha256


def log(client: "MlflowClient", run: str, raw: str, sha256: str) -> None:
    """Note which images a run is on, once.

    Args:
        run: its id.
        raw: ``data.raw``.
        sha256: of the manifest: which images there are, and in which split each is.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415

    inputs = client.get_run(run).inputs
    if all(each.dataset.digest != sha256[:DIGITS] for each in (inputs.dataset_inputs if inputs else ())):
        images = Dataset(Path(raw).name or "images", sha256[:DIGITS], "local", json.dumps({"uri": raw}))
        client.log_inputs(run, [DatasetInput(images, [InputTag("mlflow.data.context", "train, val, test")])])
