"""Mirror a run of the pipeline in MLflow, one run for one.

Files are the truth. Each stage copies to MLflow every record on disk that belongs to the run, not only its own. So a
stage that DVC restored has its figures there too, and what a dead server missed is made good by the next stage.
"""

import math
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from thaw import paths, pipes, records
from thaw.config import schema
from thaw.runtime import team
from thaw.tracking import connection, dataset_input, dvc_lock, mirrored, naming, pipeline, saved_view, system_metrics

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATA = "thaw.data_sha256"
FAILURE = "thaw.failure"
MIRRORED = "thaw.mirrored."
# These stages make the data, and the data is part of what identifies a run: theirs is opened when they end.
SHARED = "phase2_finetune"  # by several processes, of which the first is mirrored
BEFORE_DATA = ("sample", "prepare")
PARAMS_A_BATCH, METRICS_A_BATCH, PARAM_LENGTH, TAG_LENGTH = 100, 1000, 6000, 5000  # limits that MLflow sets
FIRST = "/val_accuracy"  # MLflow's comparison of runs opens on the metric that was logged first


@dataclass
class Run:
    """The run in MLflow as one stage sees it. Without tracking, or without a server, it does nothing."""

    stage: str
    settings: schema.Tracking
    params: Mapping[str, Any]
    client: "MlflowClient | None" = None  # None: not opened yet, or MLflow has failed
    id: str = ""
    warned: bool = False
    before: Mapping[str, float] = field(default_factory=dict)  # names that had values when the run was opened
    points: dict[str, dict[int, float]] = field(default_factory=dict)  # by name and step: what MLflow already has

    def epoch(self, phase: str, epoch: int, values: Mapping[str, float]) -> None:
        """Log an epoch while training goes on.

        Args:
            phase: phase1 or phase2.
            epoch: From 1, within the phase.
            values: By name, as in the columns of the phase's history.
        """
        if self.client is None:
            return
        step = mirrored.first_step(phase) + epoch
        rows = [row for name, value in values.items() for row in mirrored.points(phase, name, step, float(value))]
        attempt(self, lambda: _log_points(self, [row for row in rows if row[0].endswith(FIRST)]))
        attempt(self, lambda: _log_points(self, rows))

    def note(self, name: str, text: str) -> str:
        """Mark the run with how the work was done, which no file says since it changes nothing in them.

        Returns:
            The text.
        """

        def mark() -> None:
            _open(self).set_tag(self.id, f"thaw.{name}", text[:TAG_LENGTH])

        if self.client is not None:
            attempt(self, mark)
        return text


@contextmanager
def stage(name: str, settings: schema.Tracking, params: Mapping[str, Any]) -> Iterator[Run]:
    """Mirror a stage of the pipeline: what came before it when it begins, what is true on disk when it ends.

    The run is RUNNING inside, FINISHED after, FAILED (KILLED after Ctrl-C) with the reason as the tag ``thaw.failure``
    if the stage raises; the exception goes on to the caller. Trouble with MLflow never stops the stage: it is said
    once on stderr.

    Args:
        name: The stage's name in dvc.yaml.
        settings: Whether and where to mirror.
        params: The whole of params.yaml.

    Raises:
        ValueError: The stage is unknown.
    """
    if name not in pipeline.STAGES:
        raise ValueError(f"tracking: expected one of the stages {', '.join(pipeline.STAGES)}, received {name!r}")
    if name == SHARED and team.number(params.get("compute", {}).get("workers", 1)):
        settings = replace(settings, enabled=False)
    run = Run(name, settings, params)
    if name not in BEFORE_DATA:
        attempt(run, lambda: _begin(run))
    try:
        with _watched(run):
            yield run
    except BaseException as error:
        reason = error
        attempt(run, lambda: _fail(run, reason))
        raise
    if name in BEFORE_DATA and pipeline.of_sweep():
        return  # a later stage of the trial copies its record too; this one need not wait for MLflow's import
    attempt(run, lambda: _finish(run))


@contextmanager
def _watched(run: Run) -> Iterator[None]:
    """Sample the machine's load; not in trials of a sweep, many of which may share a database."""
    finish: list[Callable[[], None]] = []
    if run.client is not None and not pipeline.of_sweep():
        attempt(run, lambda: finish.extend(system_metrics.start(run.id, connection.tracking_uri(run.settings))))
    try:
        yield
    finally:
        if run.client is not None and finish:  # else a dead server would be waited for
            attempt(run, finish[0])


def attempt(run: Run, action: Callable[[], None]) -> None:
    """Do it if tracking is on. Whatever goes wrong in a mirror must not cost the hours of training it shows."""
    if not run.settings.enabled:
        return
    try:
        action()
    except Exception as error:  # also those of an artifact store's client, which nothing here can name
        run.client = None
        if not run.warned:
            uri, reason = connection.tracking_uri(run.settings), f"{type(error).__name__}: {error}"
            text = f"MLflow at {uri} failed: {reason}".splitlines()[0]
            text = pipes.without_secrets(re.sub(r"//[^/@\s]*@", "//", text))  # a password
            print(
                f"WARNING: {text}\n"
                f"WARNING: {run.stage} goes on without tracking. Its files are complete; what MLflow lacks is "
                "logged when this stage ends or by the next stage, once MLflow answers.",
                file=sys.stderr,
                flush=True,
            )
        run.warned = True


def _open(run: Run) -> "MlflowClient":
    """Connect, then continue this pipeline's run or begin it."""
    if run.client is not None:
        return run.client
    client, experiment = connection.connect(run.settings)
    key, since = pipeline.identity(run.params)
    found = client.search_runs(
        [experiment],
        filter_string=f"tags.`thaw.pipeline` = '{key}' AND attributes.start_time >= {int(since * 1000)}",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    if found:
        run.id = found[0].info.run_id
        client.update_run(run.id, status="RUNNING")
    else:
        _close_killed(client, experiment)
        tags = pipeline.tags(key) | naming.filters(run.params)
        run.id = client.create_run(experiment, tags=tags, run_name=naming.title(run.params)).info.run_id
        saved_view.save(client, experiment, saved_view.RUNS)
        if paths.PARAMS.exists():
            client.log_artifact(run.id, str(paths.PARAMS))
    data = client.get_run(run.id).data
    _log_params(client, run, data.params)
    if paths.MANIFEST.exists():
        client.set_tag(run.id, DATA, sha256 := records.sha256(paths.MANIFEST))
        dataset_input.log(client, run.id, str(run.params.get("data", {}).get("raw", "")), sha256)
    run.before, run.points, run.client = data.metrics, {}, client
    return client


def _close_killed(client: "MlflowClient", experiment: str) -> None:
    """End this project's runs whose process could not: ``kill -9`` leaves them RUNNING."""
    own = f"attributes.status = 'RUNNING' AND tags.`{pipeline.PROJECT}` = '{pipeline.project()}'"
    for each in client.search_runs([experiment], filter_string=own):
        if pipeline.ended(each.data.tags["thaw.pipeline"], each.info.start_time / 1000):
            client.set_tag(each.info.run_id, FAILURE, "its process ended without a word")
            client.set_terminated(each.info.run_id, "KILLED")


def _log_params(client: "MlflowClient", run: Run, there: Mapping[str, str]) -> None:
    """Log the parameters that are not there yet; MLflow never changes one."""
    from mlflow.entities import Param  # noqa: PLC0415

    listed = pipeline.leaves(run.params, ".")
    new = [Param(key, str(value)[:PARAM_LENGTH]) for key, value in listed if key not in there]
    for start in range(0, len(new), PARAMS_A_BATCH):
        client.log_batch(run.id, params=new[start : start + PARAMS_A_BATCH])


def _log_points(run: Run, rows: Iterable[tuple[str, int, float]]) -> None:
    """Log name, step and value of what MLflow does not have yet, so that a curve is never drawn twice."""
    from mlflow.entities import Metric  # noqa: PLC0415

    client = _open(run)
    new = []
    for name, step, value in rows:
        if name not in run.points:
            past = client.get_metric_history(run.id, name) if name in run.before else []
            run.points[name] = {point.step: point.value for point in past}
        known = run.points[name].get(step)
        if known is None or not (known == value or (math.isnan(known) and math.isnan(value))):
            new.append(Metric(name, value, int(time.time() * 1000), step))
    for start in range(0, len(new), METRICS_A_BATCH):
        batch = new[start : start + METRICS_A_BATCH]
        client.log_batch(run.id, metrics=batch)
        for point in batch:
            run.points[point.key][point.step] = point.value


def _begin(run: Run) -> None:
    """Show what came before; of a trial of a sweep when the stage ends, since all its trials have that in common."""
    if pipeline.of_sweep():
        _open(run)
    else:
        _mirror(run, finished=False)


def _mirror(run: Run, *, finished: bool) -> None:
    """Log each valid record once: its figures, its curves, its files."""
    client = _open(run)
    tags = client.get_run(run.id).data.tags
    for name in dvc_lock.valid(run.stage, run.params, finished=finished):
        digest = records.sha256(paths.metrics(name))
        if tags.get(MIRRORED + name) == digest:
            continue
        _log_points(run, [(key, 0, value) for key, value in mirrored.figures(name).items()])
        _log_points(run, mirrored.curves(name))
        for path, folder in mirrored.files(name):
            client.log_artifact(run.id, str(path), folder)
        for key, value in naming.judged(name).items():
            client.set_tag(run.id, key, value[:TAG_LENGTH])
        client.set_tag(run.id, MIRRORED + name, digest)  # last: what was cut short is logged again


def _finish(run: Run) -> None:
    _mirror(run, finished=True)
    client = _open(run)
    if FAILURE in client.get_run(run.id).data.tags:
        client.delete_tag(run.id, FAILURE)
    client.set_terminated(run.id, "FINISHED")


def _fail(run: Run, error: BaseException) -> None:
    client = _open(run)
    client.set_tag(run.id, FAILURE, f"{type(error).__name__}: {error}"[:TAG_LENGTH])
    client.set_terminated(run.id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
    _mirror(run, finished=False)  # what a trial has not shown when it began; last, since it may be what fails
