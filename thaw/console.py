"""Output for a person while a stage runs. On a terminal: stage, bar, time left, result. Elsewhere: the result only."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from thaw import pipes

Item = TypeVar("Item")

console = Console(highlight=False)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Print the head line of the stage ``name``, and at its end the total time."""
    if console.is_terminal:
        console.rule(f"[bold]{name}", align="left")
    start = time.monotonic()
    yield
    if console.is_terminal:
        console.print(f"[dim]{name} took {duration(time.monotonic() - start)}")


def say(text: str) -> None:
    """Print a line for people at a terminal."""
    if console.is_terminal:
        console.print(text, markup=False)


def result(name: str, *texts: str) -> None:
    """Print what came of a stage and where it lies, a line a text; also written when nobody watches."""
    for text in texts:
        console.print(pipes.shown(f"{name}: {text}"), markup=False, soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning on stderr; also written when nobody watches."""
    Console(stderr=True, highlight=False).print(pipes.shown(f"warning: {text}"), markup=False, soft_wrap=True)


def errors() -> Console:
    """Return the terminal behind standard error, for a bar where standard output is what is read."""
    return Console(stderr=True, highlight=False)


def bar(unit: str, on: Console | None = None) -> Progress:
    """Return a progress bar with the time left and a free text field ``note``; invisible when not on a terminal."""
    on = on or console
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}", markup=False),
        console=on,
        transient=True,
        disable=not on.is_terminal,
        redirect_stdout=not on.stderr,  # what is printed there is not for the terminal with the bar
    )


def track(
    items: Iterable[Item], description: str, total: int, unit: str = "images", on: Console | None = None
) -> Iterator[Item]:
    """Yield ``items`` with a bar that shows how many are done, how many a second, and the time left."""
    start = time.monotonic()
    with bar(unit, on) as progress:
        task = progress.add_task(description, total=total, note="")
        for done, item in enumerate(items, start=1):
            yield item
            rate = done / max(time.monotonic() - start, 1e-9)
            progress.update(task, completed=done, note=f"{rate:,.0f} {unit}/s")


def duration(seconds: float) -> str:
    """Return a duration in words: 3 s, 2 min 5 s, 1 h 4 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
