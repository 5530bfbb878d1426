"""Connect to MLflow: where its server or database is, and the experiment of the settings."""

import logging
import os
from typing import TYPE_CHECKING

from thaw import paths
from thaw.config import schema
from thaw.runtime import imports
from thaw.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Without it the pages open in the view for language models, which hides curves and parameters.
KIND = {"mlflow.experimentKind": "custom_model_development"}
# MLflow's own values let a stage hang for ten minutes on a dead server.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def tracking_uri(settings: schema.Tracking) -> str:
    """Return MLFLOW_TRACKING_URI, or else the settings', or else mlflow.db in the main repository.

    A relative SQLite path is taken from there too: the folder of an isolated experiment is deleted after it.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or settings.uri or "sqlite:///mlflow.db"
    if not uri.startswith("sqlite:///"):
        return uri
    return f"sqlite:///{(paths.main_root() / uri.removeprefix('sqlite:///')).as_posix()}"


def connect(settings: schema.Tracking) -> tuple["MlflowClient", str]:
    """Return a client, and the id of the settings' experiment."""
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    with imports.without():
        from mlflow import MlflowClient  # noqa: PLC0415  seconds, which a stage without tracking need not wait

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    uri = tracking_uri(settings)
    with store.opened_alone(uri, lambda new: MlflowClient(new, registry_uri=new).search_experiments()):
        client = MlflowClient(uri, registry_uri=uri)
        return client, _experiment(client, uri, settings.experiment)


def _experiment(client: "MlflowClient", uri: str, name: str) -> str:
    """Return the experiment's id; it is created if missing."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # Without a server MLflow would put artifacts where the stage runs, which may be a copy that is deleted.
        location = None if uri.startswith(store.REMOTE) else (paths.main_root() / "mlruns").as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location, tags=KIND))
        except MlflowException:
            experiment = client.get_experiment_by_name(name)  # another client of the server was faster
            if experiment is None:
                raise
    return str(experiment.experiment_id)
