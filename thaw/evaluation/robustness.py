"""Robustness: the accuracy of both phases on corrupted test images, since fine-tuning can cost it.

A bounded number of test images is corrupted, each at first in one way and one severity. So what it costs goes neither
by the thirty conditions nor, from some images on, by the test. Both phases see the same corrupted images. Images of a
condition may be few; its interval says so, and the rows over all corruptions, all severities and both together have
more.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw import paths, records
from thaw.evaluation import corruptions, intervals
from thaw.runtime import threads

COLUMNS = ("corruption", "severity", "phase", "images", "accuracy", "low", "high")
ALL, CLEAN = "all", "none"
CONDITIONS = tuple(product(corruptions.CORRUPTIONS, corruptions.SEVERITIES))
SAMPLE = 300  # corrupted images at most where not all are corrupted: ten of each condition
Integers = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Draw:
    """One corrupted image."""

    place: int  # of the image in the split
    corruption: str
    severity: int


@dataclass
class Corrupted:
    """The corrupted images, and what each phase's model takes them for."""

    draws: list[Draw]
    guesses: Mapping[str, Integers]  # by phase (draws,)


def draws(hashes: Sequence[str], share: float) -> list[Draw]:
    """Return which images are corrupted in which way, sorted by image.

    Args:
        hashes: of the images, hex; images are taken in their order, which has nothing to do with what is on them.
        share: corrupted images, as a share of all, of which a part has at most ``SAMPLE``; above 1 an image is
            corrupted in several ways, each once.
    """
    count = len(hashes)
    order = np.argsort(hashes, kind="stable")
    wanted = min(round(share * count), SAMPLE if share < 1 else count * len(CONDITIONS))
    # In each round through the images the conditions are one further on.
    found = [
        Draw(int(order[n % count]), *CONDITIONS[(n % count + n // count) % len(CONDITIONS)]) for n in range(wanted)
    ]
    return sorted(found, key=lambda draw: (draw.place, draw.corruption, draw.severity))


def answers(
    wanted: Sequence[Draw],
    pixels: Iterable[NDArray[Any]],
    hashes: Sequence[str],
    runs: Mapping[str, Callable[[NDArray[np.float32]], Integers]],
    batch_size: int,
) -> Iterator[dict[str, Integers]]:
    """Corrupt images and ask each model; yield for each batch of draws what each phase's takes them for.

    Args:
        wanted: of ``draws``.
        pixels: batches (b, size, size, 3) float32 in [0, 255] of the images of ``places``, in that order.
        hashes: of all images of the split.
        runs: by phase, from pixels (b, size, size, 3) float32 to classes (b,).
        batch_size: images at once.
    """
    for batch in _batches(_corrupted(wanted, pixels, hashes), batch_size):
        yield {phase: run(batch) for phase, run in runs.items()}


def places(wanted: Sequence[Draw]) -> list[int]:
    """Return the places of the images that are corrupted, each once, in order."""
    return sorted({draw.place for draw in wanted})


def _corrupted(
    wanted: Sequence[Draw], pixels: Iterable[NDArray[Any]], hashes: Sequence[str]
) -> Iterator[NDArray[np.float32]]:
    """Yield the corrupted images in the order of the draws; several are made at a time."""
    of: dict[int, list[Draw]] = {place: [] for place in places(wanted)}
    for draw in wanted:
        of[draw.place].append(draw)
    waiting = iter(of.values())
    with ThreadPoolExecutor(threads.used()) as pool:
        for batch in pixels:
            tasks = [
                (image, draw.corruption, draw.severity, hashes[draw.place])
                for image in batch
                for draw in next(waiting)
            ]
            yield from pool.map(lambda task: corruptions.corrupt(*task), tasks)


def _batches(images: Iterator[NDArray[np.float32]], size: int) -> Iterator[NDArray[np.float32]]:
    held: list[NDArray[np.float32]] = []
    for image in images:
        held.append(image)
        if len(held) == size:
            yield np.stack(held)
            held = []
    if held:
        yield np.stack(held)


def write(
    found: Corrupted, labels: Integers, right: Mapping[str, intervals.Bools], confidence: float, units: intervals.Units
) -> dict[str, Any]:
    """Write ``paths.ROBUSTNESS``: the accuracy of each phase by corruption and severity.

    The rows with corruption ``none`` are of the same images as they are.

    Args:
        found: what the models take the corrupted images for.
        labels: of all test images, (images,).
        right: by phase, (images,) bool, whether the images as they are are answered right.
        confidence: of the intervals.
        units: (images,) integer, which images are not independent.

    Returns:
        Figures for ``metrics/evaluate.json``: ``images``; by phase ``clean`` and ``corrupted``, accuracies on the same
        images; and ``difference``, phase 2 less phase 1 on the corrupted ones, with the paired test's ``p_value``.
    """
    at = np.array([draw.place for draw in found.draws])
    own = units[at]
    stands = {phase: guesses == labels[at] for phase, guesses in found.guesses.items()}
    kinds = np.array([draw.corruption for draw in found.draws])
    severities = np.array([draw.severity for draw in found.draws])
    rows = []
    for kind, severity in product((*corruptions.CORRUPTIONS, ALL), (*corruptions.SEVERITIES, ALL)):
        some = ((kinds == kind) | (kind == ALL)) & ((severities == severity) | (severity == ALL))
        rows += [
            {"corruption": kind, "severity": severity, "phase": phase, **_figures(correct, some, confidence, own)}
            for phase, correct in stands.items()
            if some.any()
        ]
    every = np.ones(len(at), bool)
    clean = {phase: right[phase][at] for phase in stands}
    rows += [
        {"corruption": CLEAN, "severity": 0, "phase": phase, **_figures(correct, every, confidence, own)}
        for phase, correct in clean.items()
    ]
    records.write_csv(paths.ROBUSTNESS, COLUMNS, rows)
    by_phase = {
        phase: {"clean": float(clean[phase].mean()), "corrupted": float(stands[phase].mean())} for phase in stands
    }
    return {
        "images": len(at),
        **by_phase,
        "difference": {
            **intervals.difference(stands["phase1"], stands["phase2"], confidence, own),
            "p_value": intervals.mcnemar(stands["phase1"], stands["phase2"], own)["p_value"],
        },
    }


def _figures(
    correct: intervals.Bools, some: intervals.Bools, confidence: float, units: intervals.Units
) -> dict[str, float]:
    low, high = intervals.accuracy(correct[some], confidence, units[some])
    return {"images": int(some.sum()), "accuracy": float(correct[some].mean()), "low": low, "high": high}
