"""The comparison of both phases and the baselines on the test images, which ``thaw.evaluation.verdict`` judges."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw import console, paths, records
from thaw.config import schema
from thaw.evaluation import baselines, held_out, intervals, verdict


@dataclass
class Trained:
    """The same network trained from scratch, as a baseline."""

    right: intervals.Bools  # (images,) whether each test image is answered right
    about: dict[str, Any]  # epochs, best_epoch, val_accuracy, images_to_best
    rows: list[dict[str, float]]  # the figures of each epoch


def write(
    right: Mapping[str, intervals.Bools],
    embeddings: NDArray[np.floating[Any]],
    splits: Mapping[str, held_out.Split],
    options: schema.Evaluate,
    *,
    same: bool,
    early: str = "",
    scratch: Trained | None = None,
) -> verdict.Verdict:
    """Write ``paths.VERDICT``, of the test images that are not leaked; of all where each is.

    Args:
        right: (images,) bool by phase, whether each test image is answered right.
        embeddings: of the test images by phase 1's model, (images, channels).
        splits: train, val and test.
        options: whether there are baselines of the embeddings, and what a difference must be.
        same: whether phase 2 found nothing better than its start.
        early: what to set, where phase 2 ended too early.
        scratch: the same network trained from scratch, where it was.
    """
    test = splits["test"]
    about: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    compared = {"majority": baselines.majority(splits["train"].labels, test.labels), **right}
    if options.baselines:
        train, val = (_embedded(split, splits[split]) for split in ("train", "val"))
        for name, fit in baselines.FITS.items():
            try:
                compared[name], about[name] = fit(train, val, baselines.Embedded(embeddings, test.labels))
            except baselines.LeftOutError as error:
                left_out[name] = str(error)
                console.warn(f"{verdict.FROZEN[name]} is left out: {error}")
    if scratch:
        compared[verdict.SCRATCH], about[verdict.SCRATCH] = scratch.right, scratch.about
        records.write_csv(paths.FROM_SCRATCH, list(scratch.rows[0]), scratch.rows)
    clean = np.ones_like(test.leaked) if test.leaked.all() else ~test.leaked
    found = verdict.judge(
        {name: correct[clean] for name, correct in compared.items()},
        about,
        options.confidence,
        options.worth,
        test.units[clean],
        same=same,
        early=early,
        leaked=int((~clean).sum()),
    )
    found.left_out = left_out
    records.write_json(paths.VERDICT, asdict(found))
    return found


def _embedded(name: str, split: held_out.Split) -> baselines.Embedded:
    rows, images = held_out.embedded(paths.PHASE1, name)
    return baselines.Embedded(rows, split.labels[images])
