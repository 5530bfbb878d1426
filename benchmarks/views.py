"""How many cached views an image needs: test accuracy by their number, against streaming with a fresh view each epoch.

``python -m benchmarks.views --data DIR [DIR …]``. Split and test images are the same for all; seeds change the head's
first weights, the dropout, the order and the choice of views. Differences are paired, on the same test images.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import project, record
from thaw import activations, boundaries, features, images, layout, metrics, model, out_of_sample, schema

STREAMING = "streaming"


def trial(data: Path, views: str, seed: int, overrides: Sequence[str]) -> dict[str, Any]:
    """Both phases; which test images come out right, (n,) bool, and the seconds that phase 2 took."""
    how = ["phase2.activations=streaming"] if views == STREAMING else [f"augment.views={views}"]
    settings = project.configure(
        ["data=folder", f"data.raw={data.resolve()}", *overrides, *how, f"phase1.seed={seed}", f"phase2.seed={seed}"]
    )
    if not layout.MANIFEST.exists():
        project.run("prepare")
    project.run("phase1_head")
    start = time.monotonic()
    project.run("phase2_finetune")
    seconds = time.monotonic() - start
    return {"right": tested(settings), "seconds": seconds}


def tested(settings: schema.Project) -> np.ndarray:
    """Whether phase 2's model is right on each test image, (n,) bool; the frozen layers run once for all trials."""
    test, classifier = images.read(settings.data.raw, "test"), model.load(layout.PHASE2)
    boundary = boundaries.find(classifier.backbone, settings.phase2.unfreeze)
    frozen_part, thawed = model.thaw(classifier, boundary)
    card, cut = classifier.card, [boundary.tensor_layer]
    frozen = activations.Frozen(frozen_part, cut, card.weights_sha256, card.image, settings.augment, settings.compute)
    ((reader,),) = activations.cached(frozen, [(test, 1)])
    logits = out_of_sample.trained(features.clean(reader), len(test), lambda rows: thawed(rows, training=False))
    right: np.ndarray = logits.argmax(axis=1) == test.labels
    return right


def rows(results: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A row for each number of views: accuracy over all seeds, and its distance to streaming on the same images."""
    share = {views: np.mean([trial["right"] for trial in trials], axis=0) for views, trials in results.items()}
    table = []
    for views, trials in results.items():
        mean = float(share[views].mean())
        low, high = metrics.wilson(round(mean * len(share[views])), len(share[views]), 0.95)
        apart = share[views] - share[STREAMING]
        error = 1.96 * float(apart.std(ddof=1)) / len(apart) ** 0.5
        table.append(
            {
                "views": views,
                "test accuracy": f"{mean:.1%} ({low:.1%} to {high:.1%})",
                "by seed": ", ".join(f"{trial['right'].mean():.1%}" for trial in trials),
                "points from streaming": f"{100 * apart.mean():+.1f} ± {100 * error:.1f}",
                "phase 2 s": round(statistics.median(trial["seconds"] for trial in trials), 1),
            }
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders with one folder per class")
    parser.add_argument("--views", nargs="+", default=["1", "2", "4", "8", "16"], help="(default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--set", nargs="*", default=[], dest="overrides", help="more of the configuration")
    options = parser.parse_args()
    for data in (path.resolve() for path in options.data):
        results: dict[str, list[dict[str, Any]]] = {views: [] for views in (*options.views, STREAMING)}
        with project.scratch():
            for seed in range(options.seeds):
                for views, trials in results.items():
                    trials.append(trial(data, views, seed, options.overrides))
        right = {views: [int(each["right"].sum()) for each in trials] for views, trials in results.items()}
        record.write(f"views_{data.name}", f"{data.name}, {options.seeds} seeds", rows(results), right=right)


if __name__ == "__main__":
    main()
