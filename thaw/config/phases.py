"""The settings of the two phases: types, units and ranges, as in ``thaw.config.schema``."""

import math
import re
from dataclasses import dataclass
from typing import Any

from thaw.config.ranges import LARGEST_SEED, between, one_of

SCHEDULES = ("constant", "cosine")
ACTIVATIONS = ("auto", "cached", "streaming")
CLASS_WEIGHTS = ("none", "balanced")
PRECISIONS = ("auto", "float32", "tf32", "mixed")
SAMPLERS = ("shuffle", "balanced")
CANARIES = ("stop", "warn")
BATCH_NORMS = ("inference", "trainable_affine", "train")
VARIABLES = "variables:"  # what phase2.unfreeze begins with where a pattern follows
FEWEST_STEPS = 128  # that unfrozen layers need to come to more than their first, harmful steps: docs/performance.md
FEWEST_EPOCHS, MOST_EPOCHS = 3, 20


def epochs(wanted: int | str, steps: int) -> int:
    """Return the number of epochs of a phase.

    Args:
        wanted: it, or auto: three, or more where an epoch has few steps, but no more than twenty.
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
    """Transfer learning by feature extraction: a new head is trained on the frozen backbone."""

    epochs: int  # 1 to 1000 epochs | at most; early stopping ends training sooner
    batch_size: int  # in a step
    learning_rate: float  # learning rate of Adam
    patience: int  # early stopping: epochs without a better validation loss before training stops
    plateau_patience: int  # epochs without a better validation loss before the learning rate is cut
    plateau_factor: float  # what the learning rate is multiplied by then; 1: it is never cut
    class_weight: str  # class weights in the loss; `balanced`: each class weighs the same, however few images it has
    sampler: str  # each image once an epoch, or drawn so that each class comes as often as the others
    # what follows if the backbone's pixels seem to be in a wrong range, see docs/preprocessing.md#the-range-canary
    canary: str
    seed: int  # of the head's first weights, the dropout, the order and the choice of views

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
    """Fine-tuning: the top of the backbone is unfrozen and trained on at a lower learning rate."""

    # `40` layers, `3blocks`, `30%`, a block, `none`, `all`, `auto` or `variables:PATTERN` | how much is unfrozen,
    # counted from the output and moved to the nearest freeze boundary, see docs/backbones.md#how-deep; `python -m
    # thaw.backbone efficientnet_lite0` lists the blocks
    unfreeze: str
    # BatchNorm of unfrozen blocks, see docs/training.md#batchnorm: as pretrained; scale and offset trained; statistics
    # of the images too
    batch_norm: str
    epochs: Any  # 1 to 1000 epochs, `auto` | at most; `auto`: three, or as many as give 128 steps, no more than twenty
    batch_size: int  # in a step
    learning_rate: float  # learning rate of Adam; below `phase1.learning_rate`
    allow_high_rate: bool  # accept a learning rate that is not below that of phase 1
    patience: int  # early stopping: epochs without a better validation loss before training stops
    weight_decay: float  # AdamW's, of kernels only, times the learning rate; 0: Adam
    # layer-wise learning rate decay: a block's share of the learning rate of the block above it; 1: all alike, see
    # docs/training.md#rates-by-depth for what it is good for
    layer_decay: float
    # until one more block is unfrozen, from the top, see docs/training.md#gradual-thawing; 0: all at once
    thaw_every: int
    schedule: str  # of the learning rate; cosine falls to zero over all `phase2.epochs`
    warmup: float  # share of all steps over which the learning rate rises from zero
    mixup: float  # alpha of MixUp, done to the inputs of the unfrozen layers; 0: none
    class_weight: str  # class weights in the loss; `balanced`: each class weighs the same, however few images it has
    sampler: str  # each image once an epoch, or drawn so that each class comes as often as the others
    # frozen layers run once per view, in every epoch with fresh views, or cached if that fits `compute.cache_gb` and
    # fp16 can hold the activations (`auto`)
    activations: str
    # mixed precision: numbers in which the unfrozen convolutions are computed while they train; `mixed`: bfloat16, a
    # third faster where the processor has units for it (`auto`); `tf32`: all layers multiply float32 rounded to 11
    # bits, on NVIDIA's GPUs from Ampere on, elsewhere float32. What is tested, compared or exported is float32
    # whatever this says
    precision: str
    seed: int  # of the dropout, the order and the choice of views

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
        self._check_unfreeze()

    def _check_unfreeze(self) -> None:
        if self.unfreeze.startswith(VARIABLES):
            self._check_pattern(self.unfreeze.removeprefix(VARIABLES))
        number = re.fullmatch(r"([+-]?\d+(?:\.\d+)?) ?(blocks?|%|)", self.unfreeze)
        share = number is not None and number[2] == "%"
        if not self.unfreeze or (
            number and not (0 < float(number[1]) <= 100 if share else number[1].isdecimal() and float(number[1]) >= 1)
        ):
            raise ValueError(
                "phase2.unfreeze: expected a number of layers from 1 (40), of blocks (3blocks), a share of the "
                f"computation up to 100% (30%), a block's name, none, all or auto, received {self.unfreeze!r}"
            )

    def _check_pattern(self, pattern: str) -> None:
        try:
            re.compile(pattern)
            fault = "" if pattern else "it is empty"
        except re.error as error:
            fault = str(error)
        if fault:
            raise ValueError(
                f"phase2.unfreeze: expected a regular expression after {VARIABLES}, received {self.unfreeze!r} "
                f"({fault})"
            )
        if self.batch_norm == "train":
            raise ValueError(
                f"phase2.batch_norm: expected inference or trainable_affine where phase2.unfreeze is {VARIABLES}…, "
                "received 'train'; the statistics of the whole network would move, whatever the pattern"
            )
