"""What the trials of a sweep came to: a record each, and all of them as a table, the best first.

The table is shown on the terminal, and written as a file that says nothing of time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from thaw import records

FILE = "table.csv"
PLAN = "plan.json"  # of the same folder: what is no trial's record
FIGURES = ("val_loss", "val_accuracy", "best_epoch")


@dataclass
class Figures:
    """The outcome of a trial's training, on the validation images."""

    # Cross-entropy without penalties: what sweepers minimise. Accuracy moves in steps of one image, the loss does not.
    val_loss: float
    val_accuracy: float  # 0 to 1
    best_epoch: int  # of phase 2; 0: none was better than its start
    layers: int  # that phase 2 unfroze
    threads: int | None = None  # that computed, where the record says it

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Figures":
        """Return them out of the metrics of both phases, or of a trial's record; both may hold more."""
        return cls(**_known(cls, record))


@dataclass
class TrialResult:
    """How a trial ended; a file of the sweep's folder."""

    name: str
    overrides: list[str]
    shown: str  # the overrides that tell it from others
    label: str  # the same, short
    failure: str  # why it failed, one line; empty: it did not
    log: str  # path of all that DVC and the stages said
    seconds: float | None  # that it took; None: nobody knows any more
    figures: Figures | None  # None: it failed
    commit: str = ""  # that DVC has tied its experiment to

    @property
    def measured(self) -> Figures:
        """The figures of a trial that is finished.

        Raises:
            ValueError: it failed.
        """
        if self.figures is None:
            raise ValueError(f"{self.name}: expected a finished trial, received one that failed: {self.failure}")
        return self.figures

    @property
    def given(self) -> dict[str, str]:
        """Its overrides by key."""
        return dict(override.split("=", 1) for override in self.overrides if "=" in override)


def _known(kind: type, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a record the dataclass has a field for."""
    return {field.name: record[field.name] for field in fields(kind) if field.name in record}


def of_trial(path: Path) -> TrialResult | None:
    """Return the record that a trial has left; None where there is none.

    Raises:
        ValueError: the file is no such record.
    """
    if not path.is_file():
        return None
    record = records.read_json(path)
    try:
        figures = Figures.of(record["figures"]) if record["figures"] else None
        return TrialResult(**_known(TrialResult, record) | {"figures": figures})
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected the record of a trial, received another file ({error}); delete it, and run the sweep "
            "again"
        ) from None


def keep(path: Path, trial: TrialResult) -> None:
    """Write the record of a trial."""
    records.write_json(path, asdict(trial))


def read(folder: Path) -> list[TrialResult]:
    """Return the records that trials have left in the sweep's folder, the best first, the failed last."""
    trials = [found for path in folder.glob("*.json") if path.name != PLAN and (found := of_trial(path))]
    trials.sort(key=lambda each: (bool(each.failure), each.figures.val_loss if each.figures else 0, each.shown))
    return trials


def write(folder: Path, swept: Sequence[str], trials: Sequence[TrialResult]) -> None:
    """Write the table as CSV. No time is in it: a sweep that was stopped and went on ends with the same bytes."""
    rows = [
        {key: each.given.get(key, "") for key in swept}
        | {key: getattr(each.figures, key, "") for key in FIGURES}
        | {"trial": each.name, "failure": each.failure}
        for each in trials
    ]
    records.write_csv(folder / FILE, [*swept, *FIGURES, "trial", "failure"], rows)


def show(swept: Sequence[str], trials: Sequence[TrialResult]) -> None:
    """Print the table."""
    table = Table(*swept, "val loss", "val accuracy", "best epoch", "trial", box=None, header_style="bold")
    for each in trials:
        figures, cells = each.figures, ["failed", "", ""]
        if figures:
            cells = [f"{figures.val_loss:.4f}", f"{figures.val_accuracy:.1%}", str(figures.best_epoch)]
        table.add_row(*(each.given.get(key, "") for key in swept), *cells, each.name)
    # In a file or a pipe nothing need be cut to a screen's width.
    terminal = Console().is_terminal
    Console(width=None if terminal else 240, highlight=False, markup=False).print(table)
