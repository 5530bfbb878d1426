"""MLflow's system metrics of a stage: load of processor and GPU, memory, disk and network, sampled in a thread."""

import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

# Seconds between two samples. One costs some 20 ms of a core, mostly for the lines in the database.
INTERVAL = 10.0
SWITCH = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"  # MLflow's own; here they are on unless it says false


def start(run_id: str, uri: str) -> Iterator[Callable[[], None]]:
    """Sample from now on, after the steps of the stages before, and yield what ends it; nothing where it is off.

    Args:
        run_id: the run in MLflow.
        uri: of the tracking store.
    """
    if os.environ.get(SWITCH, "").lower() in ("false", "0"):
        return
    from mlflow.system_metrics import system_metrics_monitor  # noqa: PLC0415 -- with MLflow

    kind: Any = system_metrics_monitor.SystemMetricsMonitor
    logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)  # no graphics card is no news
    monitor = kind(run_id, sampling_interval=INTERVAL, resume_logging=True, tracking_uri=uri)
    monitor.start()
    yield monitor.finish
