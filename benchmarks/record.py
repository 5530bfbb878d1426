"""Record the results of benchmarks: a table on the terminal, JSON with hardware and date on disk."""

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from thaw.runtime import threads

FOLDER = Path("benchmarks/results")


def machine() -> dict[str, Any]:
    """Return the machine that the figures were measured on."""
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    packages = {name: version(name) for name in ("tensorflow", "keras", "onnxruntime")}
    return {"cpu": cpu, "cores": threads.cores(), "python": platform.python_version(), **packages}


def write(name: str, title: str, rows: Sequence[Mapping[str, Any]], **more: Any) -> None:
    """Print ``rows`` as a table and write them to benchmarks/results/<name>.json."""
    table = Table(title=title)
    for column in rows[0]:
        table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right")
    for row in rows:
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(table)
    FOLDER.mkdir(parents=True, exist_ok=True)
    record = {"date": datetime.now(UTC).date().isoformat(), "machine": machine(), "rows": list(rows), **more}
    (FOLDER / f"{name}.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
