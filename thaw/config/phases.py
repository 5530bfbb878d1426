"""The settings of the two phases: types, units and ranges, as in ``thaw.config.schema``."""

import math
from dataclasses import dataclass
from typing import Any

from thaw.config.ranges import LARGEST_SEED, between, one_of
from thaw.config.unfreeze import Kind, UnfreezeSpec

SCHEDULES = ("constant", "cosine")
ACTIVATIONS = ("auto", "cached", "streaming")
CLASS_WEIGHTS = ("none", "balanced")
PRECISIONS = ("auto", "float32", "mixed")
SAMPLERS = ("shuffle", "balanced")
CANARIES = ("stop", "warn")
BATCH_NORMS = ("inference", "trainable_affine", "train")
FEWEST_STEPS = 128  # that thawed layers need to come to more than their first, harmful steps: docs/performance.md
FEWEST_EPOCHS, MOST_EPOCHS = 3, 20


def epochs(wanted: int | str, steps: int) -> int:
    """The epochs of a phase.

    Args:
        wanted: their number, or auto: three, or more where an epoch has few steps, but no more than twenty.
        steps: of an epoch.
    """
    return int(wanted) if wanted != "auto" else min(max(FEWEST_EPOCHS, math.ceil(FEWEST_STEPS / steps)), MOST_EPOCHS)


def _check_balance(phase: "Phase1 | Phase2") -> None:
    one_of(phase, "class_weight", CLASS_WEIGHTS)
    one_of(phase, "sampler", SAMPLERS)
    if phase.class_weight == phase.sampler == "balanced":
        name = type(phase).__name__.lower()
        raise ValueError(
            f"{name}.sampler: expected shuffle where {name}.class_weight is balanced, received 'balanced'; both "
            "together would make up for the sizes of the classes twice"
        )


@dataclass
class Phase1:
    """Training of the head on the frozen backbone."""

    epochs: int  # at most; 1 to 1000
    batch_size: int  # images a step, 1 to 4096
    learning_rate: float  # Adam's, above 0 and at most 1
    patience: int  # epochs without a better validation loss before training stops, 1 to 1000
    plateau_patience: int  # epochs without a better validation loss before the rate is cut, 1 to 1000
    plateau_factor: float  # what the rate is multiplied by on a plateau, 0.01 to 1 (1: never cut)
    class_weight: str  # none, or balanced: each class weighs the same in the loss, however few images it has
    sampler: str  # shuffle: each image once an epoch; balanced: drawn so that each class comes as often as the others
    canary: str  # what follows if the backbone's pixels seem to be in a wrong range: stop or warn
    seed: int  # 0 to 4294967295, of the head's initial weights, the dropout and the order of the images

    def __post_init__(self) -> None:
        between(self, "seed", 0, LARGEST_SEED)
        between(self, "epochs", 1, 1000)
        between(self, "batch_size", 1, 4096, "images")
        between(self, "learning_rate", 1e-8, 1)
        between(self, "patience", 1, 1000, "epochs")
        between(self, "plateau_patience", 1, 1000, "epochs")
        between(self, "plateau_factor", 0.01, 1)
        one_of(self, "canary", CANARIES)
        _check_balance(self)


@dataclass
class Phase2:
    """Training on, with the top of the backbone thawed."""

    unfreeze: (
        str  # 40 (layers from the output), 3blocks, 30% (of the computation), a block, none, all, auto, variables:…
    )
    batch_norm: str  # of thawed blocks: inference (as pretrained), trainable_affine (scale and offset), train (all)
    epochs: Any  # at most; 1 to 1000, or auto: as many as the number of images asks for
    batch_size: int  # images a step, 1 to 4096
    learning_rate: float  # Adam's, above 0 and at most 1, below phase 1's
    allow_high_rate: bool  # accept a learning rate that is not below phase 1's
    patience: int  # epochs without a better validation loss before training stops, 1 to 1000
    weight_decay: float  # AdamW's, of kernels, 0 (none: Adam) to 1
    layer_decay: float  # a block's rate as a share of that of the block above it, 0.1 to 1 (1: all alike)
    thaw_every: int  # epochs until one more block is thawed, from the top, 0 (all at once) to 1000
    schedule: str  # constant, or cosine: down to zero over all epochs
    warmup: float  # share of all steps over which the rate rises from zero, 0 to 0.5
    mixup: float  # alpha of MixUp on the thawed layers' inputs, 0 (none) to 1
    class_weight: str  # none, or balanced: each class weighs the same in the loss, however few images it has
    sampler: str  # shuffle: each image once an epoch; balanced: drawn so that each class comes as often as the others
    activations: str  # cached: frozen layers run once per view; streaming: in every epoch; auto: cached if it fits
    precision: (
        str  # of thawed convolutions: float32; mixed: bfloat16; auto: mixed where the processor has units for it
    )
    seed: int  # 0 to 4294967295, of the dropout and the order of the images

    def __post_init__(self) -> None:
        between(self, "seed", 0, LARGEST_SEED)
        if self.epochs != "auto" and not (type(self.epochs) is int and 1 <= self.epochs <= 1000):
            raise ValueError(f"phase2.epochs: expected 1 to 1000 epochs or auto, received {self.epochs!r}")
        between(self, "batch_size", 1, 4096, "images")
        between(self, "learning_rate", 1e-8, 1)
        between(self, "patience", 1, 1000, "epochs")
        one_of(self, "batch_norm", BATCH_NORMS)
        between(self, "weight_decay", 0, 1)
        between(self, "layer_decay", 0.1, 1)
        between(self, "thaw_every", 0, 1000, "epochs")
        if self.thaw_every and self.batch_norm == "train":
            raise ValueError(
                f"phase2.thaw_every: expected 0 where phase2.batch_norm is train, received {self.thaw_every}; the "
                "statistics of blocks that still wait would move"
            )
        one_of(self, "schedule", SCHEDULES)
        between(self, "warmup", 0, 0.5)
        between(self, "mixup", 0, 1)
        one_of(self, "activations", ACTIVATIONS)
        one_of(self, "precision", PRECISIONS)
        _check_balance(self)
        if self.unfreeze_spec.kind is Kind.VARIABLES and self.batch_norm == "train":
            raise ValueError(
                "phase2.batch_norm: expected inference or trainable_affine where phase2.unfreeze is variables:…, "
                "received 'train'; the statistics of the whole network would move, whatever the pattern"
            )

    @property
    def unfreeze_spec(self) -> UnfreezeSpec:
        """``unfreeze``, parsed."""
        return UnfreezeSpec.parse(self.unfreeze)
