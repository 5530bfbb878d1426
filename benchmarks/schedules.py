"""Measure phase 2's schedule and options, and what is against learning by heart, each against the default.

``python -m benchmarks.schedules --data DIR [DIR …]``. ``--images N`` trains on N images of a set at most, and tests on
the others.
"""

import argparse

from benchmarks import record, trials
from benchmarks.trials import DEFAULT

SETTINGS = {
    DEFAULT: [],
    "article": ["phase2=article"],
    "without MixUp": ["phase2.mixup=0"],
    "without warm-up": ["phase2.warmup=0"],
    "rate 1e-4": ["phase2.learning_rate=1e-4"],
    "rate 6e-4": ["phase2.learning_rate=6e-4"],
    "without averaged weights": ["phase2.average_epochs=0"],
    "average over an epoch": ["phase2.average_epochs=1"],
    "flat over 2 epochs": ["phase2.flat_epochs=2"],
    "decay as long as before": ["phase2.decay_share=1"],
    "AdamW 0.05": ["phase2.weight_decay=0.05"],
    "layer decay 0.8": ["phase2.layer_decay=0.8"],
    "BatchNorm affine": ["phase2.batch_norm=trainable_affine"],
    "BatchNorm train": ["phase2.batch_norm=train"],
    "at most 120 epochs": ["phase2.epochs=120"],
    "at most 256 epochs": ["phase2.epochs=256"],
    "without dropout": ["head.dropout=[0,0]"],
    "without augmentation": ["augment=none"],
    "augmentation strong": ["augment=strong"],
    "class weights": ["phase1.class_weight=balanced", "phase2.class_weight=balanced"],
    "balanced sampler": ["phase1.sampler=balanced", "phase2.sampler=balanced"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trials.add_arguments(parser)
    parser.set_defaults(seeds=2)
    parser.add_argument("--only", nargs="+", default=list(SETTINGS), choices=SETTINGS, help="(default: all)")
    options = parser.parse_args()
    settings = {name: SETTINGS[name] for name in SETTINGS if name in (DEFAULT, *options.only)}
    for data in (path.resolve() for path in options.data):
        results = trials.run(data, settings, options.seeds, options.overrides, images=options.images)
        table = trials.rows(results, "phase 2", DEFAULT)
        name = f"{data.name}_{options.images}" if options.images else data.name
        record.write(f"schedules_{name}", f"{name}, {options.seeds} seeds", table, right=trials.right(results))


if __name__ == "__main__":
    main()
