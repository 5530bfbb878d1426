"""``thaw ui``: the runs in MLflow's pages, on this machine only."""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from thaw import paths
from thaw.tracking import saved_view

SQLITE = "sqlite:///"
GRACE = 10.0  # seconds in which MLflow ends by itself
TRAINING = "#/experiments?workflowType=machine_learning"  # the view for models that are trained, not asked

EXAMPLES = """\
examples:
  thaw ui
  thaw ui --port 5001"""


def add(commands: Any) -> None:
    """Add ``ui`` to the command ``thaw``."""
    command = commands.add_parser(
        "ui",
        help="show the runs in MLflow",
        description="Start MLflow's pages on 127.0.0.1; Ctrl-C stops them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--port", type=int, default=5000, help="(default: %(default)s)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Start MLflow's server, and wait for its end."""
    from thaw.config import schema  # noqa: PLC0415 -- which the help need not wait for
    from thaw.tracking import connection  # noqa: PLC0415

    uri = connection.tracking_uri(schema.Tracking(enabled=True, uri=_configured(), experiment="-"))
    if uri.startswith("http"):
        print(f"the runs are at {uri}: open it in a browser")
        return
    local = Path(uri.removeprefix(SQLITE)).absolute() if uri.startswith(SQLITE) else None
    if local and not local.is_file():  # MLflow would make an empty one, wherever one is
        raise ValueError(f"expected runs in {local}, found none; go to the project's root, or make some: thaw run")
    try:  # MLflow ends with exit code 0 where it does not get its port
        socket.create_server(("127.0.0.1", options.port)).close()
    except (OSError, OverflowError):
        raise ValueError(
            f"--port: expected a free port, received {options.port}; choose another: thaw ui --port 5001"
        ) from None
    views = saved_view.kept(local) if local else {}
    address = f"http://127.0.0.1:{options.port}/"
    print(f"MLflow's pages: {address}{views.pop(saved_view.RUNS, TRAINING)} (Ctrl-C stops it)")
    for name, page in views.items():
        print(f"sweep {name}: {address}{page}")
    sys.stdout.flush()
    # MLflow starts seven more processes for jobs of its own, which showing runs has no use for.
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    words = ["ui", "--host", "127.0.0.1", "--port", str(options.port), "--workers", "1", "--backend-store-uri", uri]
    _serve([sys.executable, "-m", "mlflow", *words], environment)


def _configured() -> str:
    """Return ``tracking.uri`` of params.yaml; nothing where there is none. Whatever else is wrong in it may be."""
    values = yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8")) if paths.PARAMS.is_file() else {}
    tracking = values.get("tracking", {}) if isinstance(values, dict) else {}
    return str(tracking.get("uri") or "")


def _serve(words: list[str], environment: dict[str, str]) -> None:
    """Run a server until it ends, or is stopped by Ctrl-C, SIGTERM or the end of the terminal.

    It has a process group of its own, which gets SIGTERM: on Ctrl-C in the terminal uvicorn shows a traceback.
    """
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    with subprocess.Popen(words, env=environment, process_group=0) as server:
        try:
            returned = server.wait()
        except KeyboardInterrupt:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(GRACE)
            except (KeyboardInterrupt, subprocess.TimeoutExpired):
                os.killpg(server.pid, signal.SIGKILL)
            return
    if returned:
        raise ValueError(f"expected MLflow to show the runs, received exit code {returned}; its lines are above")
