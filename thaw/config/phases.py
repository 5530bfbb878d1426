"""The settings of the two phases: types, units and ranges, as in ``thaw.config.schema``."""

import math
from dataclasses import dataclass

from thaw.config.ranges import LARGEST_SEED, between, one_of
from thaw.config.unfreeze import Kind, UnfreezeSpec

WSD = "warmup_stable_decay"
SCHEDULES = (WSD, "constant", "cosine")
# Steps that an epoch counts as at least in what phase 2 counts in epochs: a few steps tell nothing.
FEWEST_STEPS = 64
EPOCHS, MOST_EPOCHS = 40, 300  # where `phase2.epochs` leaves it to the number of images; the second of few
ACTIVATIONS = ("auto", "cached", "streaming")
STORED = ("float16", "int8")  # as thaw.features.stored has them
CLASS_WEIGHTS = ("none", "balanced")
PRECISIONS = ("auto", "float32", "tf32", "mixed")
SAMPLERS = ("shuffle", "balanced")
CANARIES = ("stop", "warn")
BATCH_NORMS = ("inference", "trainable_affine", "train")


def counted(epochs: float, steps: int) -> float:
    """Return so many epochs of ``FEWEST_STEPS`` steps at least in epochs of ``steps`` steps."""
    return epochs * max(1.0, FEWEST_STEPS / steps)


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
    # at most; of a cosine all; 0: 40, and of few images as many more as make 2,560 steps, up to 300
    epochs: int
    minutes: float  # of training, at most, about, see docs/training.md#the-learning-rate; 0: no bound
    batch_size: int  # in a step
    learning_rate: float  # learning rate of Adam; below `phase1.learning_rate`
    allow_high_rate: bool  # accept a learning rate that is not below that of phase 1
    # of the learning rate, see docs/training.md#the-learning-rate: falls when the validation loss is flat; stays;
    # falls over all `phase2.epochs`
    schedule: str
    warmup: float  # epochs over which the learning rate rises from zero; half of `phase2.epochs` at most
    # whose mean validation loss is compared with that of as many before; if it is about the same, the learning rate of
    # `warmup_stable_decay` falls
    flat_epochs: int
    min_improvement: float  # share of the mean validation loss before by which the later one must be lower to count
    # and by how much at least, in nats: where nearly all images are right, any share of their loss is next to nothing
    min_delta: float
    # share of the validation images that is enough: when so many are right in each of the last `phase2.flat_epochs`
    # epochs, that learning rate falls too; 1: all of them; 0: it does not end training
    target_accuracy: float
    decay_share: float  # epochs in which that learning rate falls to zero, as a share of those before; two at least
    # window of the moving average of the weights that is validated and kept, see docs/training.md#averaged-weights; 0:
    # none
    average_epochs: float
    # early stopping: epochs without a better validation loss before training stops, at a constant learning rate or a
    # cosine
    patience: int
    weight_decay: float  # AdamW's, of kernels only, times the learning rate; 0: Adam
    # layer-wise learning rate decay: a block's share of the learning rate of the block above it; 1: all alike, see
    # docs/training.md#rates-by-depth for what it is good for
    layer_decay: float
    mixup: float  # alpha of MixUp, done to the inputs of the unfrozen layers; 0: none
    class_weight: str  # class weights in the loss; `balanced`: each class weighs the same, however few images it has
    sampler: str  # each image once an epoch, or drawn so that each class comes as often as the others
    # frozen layers run once per view, in every epoch with fresh views, or cached if that fits `compute.cache_gb` and
    # fp16 can hold the activations (`auto`)
    activations: str
    # how the cache stores them; `int8`: with a scale a channel and image, in about half the bytes of `float16`. Pooled
    # features are float16 always
    stored_as: str
    # numbers in which the unfrozen convolutions are computed while they train; `mixed`: mixed precision with bfloat16,
    # a third faster on a processor that has units for it; `auto`: that where processor or GPU has such units; `tf32`:
    # all layers multiply float32 rounded to 11 bits, on NVIDIA's GPUs from Ampere on, elsewhere float32. What is
    # tested, compared or exported is float32 whatever this says
    precision: str
    seed: int  # of the dropout, the order and the choice of views

    def __post_init__(self) -> None:
        between(self, "seed", 0, LARGEST_SEED)
        between(self, "epochs", 0, 1000, "epochs")
        between(self, "minutes", 0, 100_000, "minutes")
        between(self, "batch_size", 1, 4096, "images")
        between(self, "learning_rate", 1e-8, 1)
        between(self, "patience", 1, 1000, "epochs")
        one_of(self, "batch_norm", BATCH_NORMS)
        between(self, "weight_decay", 0, 1)
        between(self, "layer_decay", 0.1, 1)
        one_of(self, "schedule", SCHEDULES)
        between(self, "warmup", 0, 1000, "epochs")
        between(self, "flat_epochs", 1, 1000, "epochs")
        between(self, "min_improvement", 0, 0.5)
        between(self, "min_delta", 0, 10)
        between(self, "target_accuracy", 0, 1)
        between(self, "decay_share", 0.1, 2)
        between(self, "average_epochs", 0, 100, "epochs")
        if self.minutes and self.schedule == "cosine":
            raise ValueError(
                f"phase2.minutes: expected 0 where phase2.schedule is cosine, received {self.minutes:g}; a cosine "
                f"takes all phase2.epochs, so set these, or phase2.schedule={WSD}"
            )
        between(self, "mixup", 0, 1)
        one_of(self, "activations", ACTIVATIONS)
        one_of(self, "stored_as", STORED)
        one_of(self, "precision", PRECISIONS)
        _check_balance(self)
        if self.unfreeze_spec.kind is Kind.VARIABLES and self.batch_norm == "train":
            raise ValueError(
                "phase2.batch_norm: expected inference or trainable_affine where phase2.unfreeze is variables:…, "
                "received 'train'; the statistics of the whole network would move, whatever the pattern"
            )

    def most_epochs(self, images: int) -> int:
        """Return ``epochs``, or what it leaves to the number of images that are trained on.

        In an epoch of few steps little is learned. So the fewer there are the more epochs there may be, up to a number
        whose validations still take less than the steps.
        """
        return self.epochs or min(math.ceil(counted(EPOCHS, self.steps(images))), MOST_EPOCHS)

    def steps(self, images: int) -> int:
        """Return the steps of an epoch of so many images."""
        return max(1, math.ceil(images / self.batch_size))

    @property
    def unfreeze_spec(self) -> UnfreezeSpec:
        """``unfreeze``, parsed."""
        return UnfreezeSpec.parse(self.unfreeze)
