"""Views of runs in MLflow: which runs, in which order, with which columns, so that its pages open on what matters.

MLflow keeps a view that was shared in a tag of the experiment, as its pages make it. That form is not documented:
where a later MLflow takes another, the page opens as it would without.
"""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from thaw.config import fields
from thaw.tracking import pipeline

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAG = "mlflow.sharedViewState."
RUNS = "thaw"  # the view of all runs of an experiment; that of a sweep has the sweep's name
COLUMNS = (
    *("metrics.`test/accuracy`", "metrics.`test_phase1/accuracy`", "metrics.`phase2_summary/val_loss`"),
    *("params.`backbone.name`", "params.`phase2.unfreeze`", "params.`phase2.learning_rate`"),
    *("tags.`thaw.helped`", "tags.`thaw.ship`", "attributes.`Dataset`", "attributes.`Models`"),
)
VALIDATION = ("metrics.`phase2_summary/val_loss`", "metrics.`phase2_summary/val_accuracy`")


def save(client: "MlflowClient", experiment: str, name: str, columns: Sequence[str] = COLUMNS) -> None:
    """Save the view of all runs, the newest first.

    Args:
        experiment: its id.
        name: of the view, which stands in its address.
        columns: in MLflow's words, such as ``metrics.`test/accuracy```.
    """
    _save(client, experiment, name, _state(columns, "", "attributes.start_time", ascending=False))


def save_sweep(client: "MlflowClient", experiment: str, name: str, swept: Sequence[str], parent: str) -> None:
    """Save the view of a sweep's trials: what was swept and what came of it, the lowest validation loss first.

    Args:
        experiment: its id.
        name: of the sweep.
        swept: keys as they were typed, such as phase2.learning_rate, backbone or +experiment.
        parent: the run of the sweep, under which the trials are shown.
    """
    columns = [*map(column, filter(None, swept)), *VALIDATION]
    state = _state(columns, f"tags.`thaw.sweep` = '{name}'", VALIDATION[0], ascending=True)
    _save(client, experiment, name, state | {"runsExpanded": {parent: True}})


def column(key: str) -> str:
    """Return the column of what was swept: the value of a field, and of a group or an experiment the option's name.

    A run has the fields of the configuration as parameters, and what was swept as tags, which a trial begins with.
    """
    field = key.lstrip("+~")
    return f"params.`{field}`" if field in fields.every() else f"tags.`{pipeline.allowed(key)}`"


def _save(client: "MlflowClient", experiment: str, name: str, state: dict[str, object]) -> None:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    with suppress(MlflowException):  # who may log runs on a server need not be allowed to change the experiment
        client.set_experiment_tag(experiment, f"{TAG}{name}", json.dumps(state, sort_keys=True))


def _state(columns: Sequence[str], wanted: str, order: str, *, ascending: bool) -> dict[str, object]:
    return {
        "searchFilter": wanted,
        "orderByKey": order,
        "orderByAsc": ascending,
        "selectedColumns": list(columns),
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsHiddenMode": "FIRST_10_RUNS",
        "viewMaximized": False,
        "runListHidden": False,
    }


def page(experiment: str, name: str) -> str:
    """Return where MLflow's pages show a view, after their address."""
    return f"#/experiments/{experiment}/runs?viewStateShareKey={name}&workflowType=machine_learning"


def kept(database: Path) -> dict[str, str]:
    """Return the pages of the views in a database of SQLite by name: of all runs first, then of sweeps.

    Of several experiments the newest one's view of all runs is given; none where the database cannot be asked.
    """
    asked = (
        "SELECT key, experiment_id FROM experiment_tags JOIN experiments USING (experiment_id) "
        "WHERE key LIKE ? AND lifecycle_stage = 'active' ORDER BY experiment_id"
    )
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as opened:
            rows = opened.execute(asked, (f"{TAG}%",)).fetchall()
    except sqlite3.Error:
        return {}
    found = {str(key).removeprefix(TAG): page(str(experiment), str(key).removeprefix(TAG)) for key, experiment in rows}
    return dict(sorted(found.items(), key=lambda each: (each[0] != RUNS, each[0])))
