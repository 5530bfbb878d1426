"""The table of a sweep's trials, the best first: on the terminal, and as a file that says nothing of time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from thaw import records

# What sweepers minimise and the table is sorted by. Accuracy moves in steps of one image, the loss does not.
OBJECTIVE = "val_loss"
FILE = "table.csv"
FIGURES = ("val_loss", "val_accuracy", "best_epoch")


def read(folder: Path) -> list[dict[str, Any]]:
    """Read the records that trials have left in the sweep's folder, the best first, the failed last."""
    found = [records.read_json(path) for path in folder.glob("*.json")]
    trials = [record for record in found if "figures" in record]
    trials.sort(key=lambda record: (bool(record["failure"]), record["figures"].get(OBJECTIVE, 0), record["shown"]))
    return trials


def write(folder: Path, swept: Sequence[str], trials: Sequence[dict[str, Any]]) -> None:
    """Write the table as CSV. No time is in it: a sweep that was stopped and went on ends with the same bytes."""
    rows = [
        {key: given(record).get(key, "") for key in swept}
        | {key: record["figures"].get(key, "") for key in FIGURES}
        | {"trial": record["name"], "failure": record["failure"]}
        for record in trials
    ]
    records.write_csv(folder / FILE, [*swept, *FIGURES, "trial", "failure"], rows)


def show(swept: Sequence[str], trials: Sequence[dict[str, Any]]) -> None:
    """Print the table."""
    table = Table(*swept, "val loss", "val accuracy", "best epoch", "trial", box=None, header_style="bold")
    for record in trials:
        figures, cells = record["figures"], ["failed", "", ""]
        if figures:
            cells = [f"{figures['val_loss']:.4f}", f"{figures['val_accuracy']:.1%}", str(figures["best_epoch"])]
        table.add_row(*(given(record).get(key, "") for key in swept), *cells, record["name"])
    # In a file or a pipe nothing need be cut to a screen's width.
    terminal = Console().is_terminal
    Console(width=None if terminal else 240, highlight=False, markup=False).print(table)


def given(record: dict[str, Any]) -> dict[str, str]:
    """Return a trial's overrides by key."""
    return dict(override.split("=", 1) for override in record["overrides"] if "=" in override)
