"""The settings of the two phases: types, units and ranges, as in ``thaw.config.schema``."""

from dataclasses import dataclass

from thaw.config.ranges import LARGEST_SEED, between, one_of
from thaw.config.unfreeze import Kind, UnfreezeSpec

WSD = "warmup_stable_decay"
SCHEDULES = (WSD, "constant", "cosine")
ACTIVATIONS = ("auto", "cached", "streaming")
CLASS_WEIGHTS = ("none", "balanced")
PRECISIONS = ("auto", "float32", "tf32", "mixed")
SAMPLERS = ("shuffle", "balanced")
CANARIES = ("stop", "warn")
BATCH_NORMS = ("inference", "trainable_affine", "train")


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
    epochs: int  # at most, 1 to 1000; of the cosine all of them
    minutes: float  # of training, about, at most; 0 (no bound) to 100000
    batch_size: int  # images a step, 1 to 4096
    learning_rate: float  # Adam's, above 0 and at most 1, below phase 1's
    allow_high_rate: bool  # accept a learning rate that is not below phase 1's
    schedule: str  # warmup_stable_decay: ends when the loss is flat; constant; or cosine: down to zero over all epochs
    warmup: float  # epochs over which the rate rises from zero, 0 to 1000, half of all epochs at most
    flat_epochs: int  # epochs without a min_improvement after which the stable part ends and the rate falls, 1 to 1000
    min_improvement: float  # share of the validation loss by which an epoch must lower it to count, 0 to 0.5
    decay_share: float  # epochs in which the rate falls to zero, as a share of those before, 0.1 to 2; two at least
    average_epochs: float  # window of the moving average of the weights that is validated and kept, 0 (none) to 100
    patience: int  # of constant and cosine: epochs without a better loss before training stops, 1 to 1000
    weight_decay: float  # AdamW's, of kernels, 0 (none: Adam) to 1
    layer_decay: float  # a block's rate as a share of that of the block above it, 0.1 to 1 (1: all alike)
    mixup: float  # alpha of MixUp on the thawed layers' inputs, 0 (none) to 1
    class_weight: str  # none, or balanced: each class weighs the same in the loss, however few images it has
    sampler: str  # shuffle: each image once an epoch; balanced: drawn so that each class comes as often as the others
    activations: str  # cached: frozen layers run once per view; streaming: in every epoch; auto: cached if it fits
    precision: (
        str  # of training: float32; tf32: rounded in a GPU; mixed: bfloat16 convolutions; auto: mixed where it pays
    )
    seed: int  # 0 to 4294967295, of the dropout and the order of the images

    def __post_init__(self) -> None:
        between(self, "seed", 0, LARGEST_SEED)
        between(self, "epochs", 1, 1000, "epochs")
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
        between(self, "decay_share", 0.1, 2)
        between(self, "average_epochs", 0, 100, "epochs")
        if self.minutes and self.schedule == "cosine":
            raise ValueError(
                f"phase2.minutes: expected 0 where phase2.schedule is cosine, received {self.minutes:g}; a cosine "
                f"takes all phase2.epochs, so set these, or phase2.schedule={WSD}"
            )
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
