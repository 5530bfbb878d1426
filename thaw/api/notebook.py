"""What a notebook shows: a bar while a project runs, and the figures and pictures of a run inline."""

import base64
import html
import importlib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from thaw import paths

BEGINS = re.compile(r"(?:Running stage|Stage) '(\w+)'")  # what DVC says when it comes to a stage
PHASES = {"phase1": "after phase 1, frozen features", "phase2": "after phase 2, fine-tuned"}


def is_here() -> bool:
    """Return whether this process is a notebook's."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython  # noqa: PLC0415 -- only a notebook has it

    return hasattr(get_ipython(), "kernel")


def bar(stages: Sequence[str]) -> Callable[[str], None]:
    """Show a bar of the stages of a pipeline, and return what moves it, given a line that DVC prints."""
    inline: Any = importlib.import_module("IPython.display")  # only a notebook has it
    shown = inline.display(inline.HTML(drawn(0, len(stages), "")), display_id=True)
    done = 0

    def move(line: str) -> None:
        nonlocal done
        if (found := BEGINS.match(line)) and found[1] in stages:
            done = stages.index(found[1])
        shown.update(inline.HTML(drawn(done, len(stages), line)))

    return move


def drawn(done: int, total: int, line: str) -> str:
    """Return the bar as HTML, with the line below it."""
    return (
        f'<progress value="{done}" max="{total}" style="width:20em"></progress> '
        f"stage {min(done + 1, total)} of {total}"
        f'<pre style="white-space:pre-wrap;margin:0">{html.escape(line.strip())}</pre>'
    )


def summary(found: dict[str, Any], folder: Path) -> str:
    """Return the outcome of a run as HTML: the verdict, the test of both phases, curves and confusion matrix.

    Args:
        found: what ``thaw.project.pipeline_run.outcome`` says.
        folder: the project.
    """
    rows = "".join(
        f"<tr><td>{name}</td><td>{each['accuracy']:.1%}</td>"
        f"<td>{each['accuracy_low']:.1%} to {each['accuracy_high']:.1%}</td><td>{each['images']:,}</td></tr>"
        for phase, name in PHASES.items()
        for each in [found[phase]]
    )
    pictures = (folder / path for path in (paths.CURVES, paths.confusion_picture(found["ship"] or "phase2")))
    images = "".join(
        f'<img alt="{path.stem}" style="max-width:48%" src="data:image/png;base64,{_base64(path)}">'
        for path in pictures
        if path.is_file()
    )
    return (
        f"<p><b>{html.escape(found['verdict'] or folder.name)}</b></p>"
        "<table><tr><th></th><th>test accuracy</th><th>interval</th><th>images</th></tr>"
        f"{rows}</table>{images}"
    )


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
