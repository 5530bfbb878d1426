"""A sweep in MLflow: one run, above those of its trials. ``thaw.tracking.connection`` connects to MLflow."""

from collections.abc import Iterable
from pathlib import Path

from thaw.config import schema
from thaw.tracking import connection, mlflow_mirror, naming, pipeline, saved_view

KIND = "thaw.kind"  # the tag that tells the run of a sweep from those of its trials


def begin(settings: schema.Tracking, name: str, swept: str) -> str:
    """Begin the run that those of a sweep's trials hang under, or go on with it where the sweep ran before.

    It is made before trials run at once, and so are the database and the experiment.

    Returns:
        Its id; empty without tracking, or where MLflow fails, which is said and stops nothing.
    """
    run = mlflow_mirror.Run("sweep", settings, {})

    def open_parent() -> None:
        client, experiment = connection.connect(settings)
        own = f"tags.`{pipeline.SWEEP}` = '{name}' AND tags.`{KIND}` = 'sweep'"
        found = client.search_runs([experiment], filter_string=own, max_results=1)
        if found:
            run.id = found[0].info.run_id
            client.update_run(run.id, status="RUNNING")
        else:
            tags = {pipeline.SWEEP: name, KIND: "sweep", "thaw.swept": swept}
            run.id = client.create_run(
                experiment, tags=tags, run_name=f"sweep {naming.label(swept.split(', '))}"
            ).info.run_id
        saved_view.save_sweep(client, experiment, name, swept.split(", "), run.id)

    mlflow_mirror.attempt(run, open_parent)
    return run.id


def end(settings: schema.Tracking, parent: str, files: Iterable[Path], status: str = "FINISHED") -> None:
    """Copy a sweep's files to its run, and end that.

    Args:
        parent: as ``begin`` gave it; empty: there is nothing to do.
        status: MLflow's word for how it ended.
    """

    def close() -> None:
        client, _ = connection.connect(settings)
        for path in files:
            if path.is_file():
                client.log_artifact(parent, str(path))
        client.set_terminated(parent, status)

    if parent:
        mlflow_mirror.attempt(mlflow_mirror.Run("sweep", settings, {}), close)
