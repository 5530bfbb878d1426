"""Measure what it costs to freeze in the middle of a block, and to let BatchNorm go on counting.

``python -m benchmarks.freezing --data DIR [DIR …]``. The pipeline never cuts a block in two, so the benchmark freezes
the first half of the first unfrozen block by hand.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import record, trials
from thaw.classifier import model
from thaw.networks import freeze_boundaries
from thaw.runtime.framework import keras

BOUNDARY = "block boundary, BatchNorm inference"
POLICIES = {
    BOUNDARY: [],
    "BatchNorm trainable_affine": ["phase2.batch_norm=trainable_affine"],
    "BatchNorm train": ["phase2.batch_norm=train"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders with one folder per class")
    parser.add_argument("--seeds", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--set", nargs="*", default=[], dest="overrides", help="more of the configuration")
    options = parser.parse_args()
    for data in (path.resolve() for path in options.data):
        results = trials.run(data, POLICIES, options.seeds, options.overrides)
        with _half_a_block_frozen():
            results |= trials.run(data, {"middle of a block": []}, options.seeds, options.overrides)
        table = trials.rows(results, "phase 2", BOUNDARY)
        record.write(
            f"freezing_{data.name}", f"{data.name}, {options.seeds} seeds", table, right=trials.right(results)
        )


@contextmanager
def _half_a_block_frozen() -> Iterator[None]:
    thaw = model.thaw

    def thaw_less(
        classifier: model.Classifier, boundary: freeze_boundaries.Boundary, policy: str = "inference"
    ) -> Any:
        frozen, trained = thaw(classifier, boundary, policy)
        cuts = freeze_boundaries.every(classifier.backbone)
        following = next(cut for cut in cuts if cut.thawed_layers < boundary.thawed_layers)
        layers = classifier.backbone.layers[1 + boundary.frozen_layers : 1 + following.frozen_layers]
        weighted = [
            layer for layer in layers if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D))
        ]
        for layer in weighted[: (len(weighted) + 1) // 2]:
            layer.trainable = False
        return frozen, trained

    model.thaw = thaw_less
    try:
        yield
    finally:
        model.thaw = thaw


if __name__ == "__main__":
    main()
