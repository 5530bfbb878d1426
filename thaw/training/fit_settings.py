"""The settings of a training: one type for all, and the one place where the options of the configuration become it.

What a phase has no option for is off, so that nothing that trains need ask which phase it is.
"""

from dataclasses import dataclass, fields, replace

from thaw.config import phases, schema
from thaw.runtime import workers
from thaw.runtime.devices import several

SCRATCH_WARMUP = 0.05  # of all epochs: a network of random weights diverges at the full rate


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
    min_delta: float = 0
    target_accuracy: float = 0
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
    workers: int = 1  # processes that do

    @property
    def shares(self) -> tuple[int, int]:
        """Return among how many devices and workers a batch is divided."""
        return self.devices, self.workers


def phase1(phase: schema.Phase1) -> FitSettings:
    """Return phase 1's: a head's rate is cut on plateaus."""
    return _named(phase, phase="phase1", has_verdict=False)


def phase2(phase: schema.Phase2, images: int, compute: schema.Compute | None = None) -> FitSettings:
    """Return phase 2's for so many images: its rate follows a schedule, and several may share its batches.

    These are several devices, or the workers that have met.
    """
    epochs = phase.most_epochs(images)
    # What warms up, stays and decays is best at its end, and ends by itself.
    patience = epochs if phase.schedule == phases.WSD else phase.patience
    count = workers.here().count
    devices = len(several(compute.devices)) if compute and count == 1 else 1
    named = _named(phase, phase="phase2", has_verdict=True, devices=devices)
    return replace(named, epochs=epochs, patience=patience, workers=count)


def from_scratch(options: schema.Evaluate, phase: schema.Phase2) -> FitSettings:
    """Return those of training from scratch: ``evaluate``'s own options, and phase 2's of classes and precision."""
    return FitSettings(
        phase="evaluate",
        epochs=options.scratch_epochs,
        batch_size=options.batch_size,
        learning_rate=options.scratch_learning_rate,
        patience=options.scratch_epochs,
        class_weight=phase.class_weight,
        sampler=phase.sampler,
        seed=phase.seed,
        has_verdict=False,
        schedule="cosine",
        warmup=SCRATCH_WARMUP * options.scratch_epochs,
        precision=phase.precision,
    )


def _named(group: schema.Phase1 | schema.Phase2, *, phase: str, has_verdict: bool, devices: int = 1) -> FitSettings:
    """Return the settings with all options that have the same name in a phase's group."""
    known = {field.name for field in fields(FitSettings)}
    options = {field.name: getattr(group, field.name) for field in fields(group) if field.name in known}
    return FitSettings(**options, phase=phase, has_verdict=has_verdict, devices=devices)
