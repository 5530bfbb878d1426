"""The settings of a training: one type for both phases, and the one place where each phase's own become it.

What a phase has no option for is off, so that nothing that trains need ask which phase it is.
"""

from dataclasses import dataclass

from thaw.config import phases, schema


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """What ``thaw.training`` is told; a default turns its option off. Units and ranges are ``thaw.config.phases``'."""

    phase: str  # the group of conf/ that the options are in, by which people are told of them
    epochs: int  # at most
    batch_size: int
    learning_rate: float
    patience: int  # epochs without a better validation loss before training stops
    class_weight: str
    sampler: str
    seed: int
    # Whether the record says why training ended, what it changed, and if it ended too early.
    has_verdict: bool

    # The learning rate over the steps.
    schedule: str = "constant"
    warmup: float = 0
    flat_epochs: int = 1
    min_improvement: float = 0
    decay_share: float = 1
    plateau_factor: float = 1
    plateau_patience: int = 1
    minutes: float = 0

    # The steps.
    average_epochs: float = 0
    weight_decay: float = 0
    layer_decay: float = 1
    mixup: float = 0
    precision: str = "float32"
    devices: int = 1  # that share each batch


def phase1(phase: schema.Phase1) -> FitSettings:
    """Return phase 1's: a head's rate is cut on plateaus."""
    return FitSettings(
        phase="phase1",
        epochs=phase.epochs,
        batch_size=phase.batch_size,
        learning_rate=phase.learning_rate,
        patience=phase.patience,
        plateau_factor=phase.plateau_factor,
        plateau_patience=phase.plateau_patience,
        class_weight=phase.class_weight,
        sampler=phase.sampler,
        seed=phase.seed,
        has_verdict=False,
    )


def phase2(phase: schema.Phase2, compute: schema.Compute | None = None) -> FitSettings:
    """Return phase 2's: its rate follows a schedule, and several devices may share its batches."""
    return FitSettings(
        phase="phase2",
        epochs=phase.epochs,
        batch_size=phase.batch_size,
        learning_rate=phase.learning_rate,
        # Such a schedule is best at its end, and ends by itself.
        patience=phase.epochs if phase.schedule == phases.WSD else phase.patience,
        class_weight=phase.class_weight,
        sampler=phase.sampler,
        seed=phase.seed,
        has_verdict=True,
        schedule=phase.schedule,
        warmup=phase.warmup,
        flat_epochs=phase.flat_epochs,
        min_improvement=phase.min_improvement,
        decay_share=phase.decay_share,
        minutes=phase.minutes,
        average_epochs=phase.average_epochs,
        weight_decay=phase.weight_decay,
        layer_decay=phase.layer_decay,
        mixup=phase.mixup,
        precision=phase.precision,
        devices=compute.devices if compute else 1,
    )
