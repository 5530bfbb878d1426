"""``fit``: optimiser, schedule, stopping. Both phases are trained by it; they differ in what they give it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from thaw import console, paths, records, timings
from thaw.config import phases, schema
from thaw.runtime import devices, precision, threads
from thaw.runtime.framework import keras
from thaw.training import feed, mixing, optimizer

# Called after every epoch with its number, from 1, and its figures.
Report = Callable[[int, Mapping[str, float]], None]

# Steps between two returns to Python, which cost more than a step of a head on pooled features.
STEPS_AT_ONCE = 8

# ``loss`` is the mean cross-entropy in training as in validation. Training minimises the ``objective``: with the
# weights of images, and with penalties: that of ``head.l2`` and those that layers of a network from outside add.
COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "objective", "learning_rate")
# Keras calls the objective "loss"; what is compared is a metric.
MONITORED = "val_cross_entropy"
FROM_KERAS = {"cross_entropy": "loss", MONITORED: "val_loss", "loss": "objective"}
FROM_KERAS |= {name: name for name in ("accuracy", "val_accuracy")}


@dataclass
class History:
    """What each epoch came to, and which was the best by validation loss."""

    rows: list[dict[str, float]]  # keys are COLUMNS
    best: int  # epoch, from 1; 0: no epoch was better than what training started from
    start: dict[str, float]  # val_loss and val_accuracy before the first epoch; empty: there was no training
    precision: str = "float32"  # Keras's policy of the convolutions
    moved: int | None = None  # blocks from the top that came to their turn by the best epoch; None: all at once

    def at_best(self) -> dict[str, float]:
        """The figures of the weights that were kept."""
        return self.rows[self.best - 1] if self.best else self.start

    def summary(self) -> str:
        """One line for people."""
        if not self.start:
            return "nothing to train, the model stays as it was"
        kept = (
            f"epoch {self.best} of {len(self.rows)}" if self.best else f"the start, none of {len(self.rows)} epochs,"
        )
        return f"{kept} is best, validation accuracy {self.at_best()['val_accuracy']:.1%}"


def record(stage: str, history: History, made_from: Sequence[Path], **more: Any) -> None:
    """Write the stage's history as CSV and its figures as JSON, with the hashes of the files it was made from."""
    records.write_csv(paths.history(stage), COLUMNS, history.rows)
    figures = {
        "epochs": len(history.rows),
        "precision": history.precision,
        "threads": threads.used(),
        "device": devices.record(),
        "best_epoch": history.best,
        **{key: value for key, value in history.at_best().items() if key.startswith("val_")},
        "made_from": records.made_from(made_from),
        **({} if history.moved is None else {"moved_blocks": history.moved}),
        **more,
    }
    records.write_json(paths.metrics(stage), figures)


def fit(
    model: keras.Model,
    train: mixing.Mixed,
    val: mixing.Mixed,
    settings: schema.Phase1 | schema.Phase2,
    report: Report,
    description: str,
    depths: Mapping[str, int] = MappingProxyType({}),
) -> History:
    """Train with Adam until the validation loss stops falling, and leave the weights of the best epoch in the model.

    The validation loss is the cross-entropy without penalties, so that it means the same whatever is penalised.

    Args:
        model: gives logits; what of it is trainable is trained.
        train, val: with one-hot labels, as ``thaw.features.inputs.batches`` gives them.
        report: told of every epoch as it ends.
        depths: of ``thaw.networks.freeze_boundaries.depths``, for phase 2's rates by depth.

    Raises:
        ValueError: the loss is no longer a number.
    """
    epochs = phases.epochs(settings.epochs, len(train))
    # Not the model itself: what is compiled carries its optimiser along into every file it is saved to.
    given = feed.fed(model, train, val)
    model = given.model
    model.compile(
        optimizer.optimiser(settings, _rate(settings, epochs * len(train)), depths),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", keras.metrics.CategoricalCrossentropy("cross_entropy", from_logits=True)],
        # On a CPU, XLA runs depthwise convolutions ten times slower; Keras refuses it where results are repeatable.
        jit_compile=False,
        steps_per_execution=STEPS_AT_ONCE,
    )
    before = model.get_weights()
    watch = _Watch(epochs, len(train), report, description)
    callbacks = [
        watch,
        *given.callbacks,
        keras.callbacks.EarlyStopping(MONITORED, mode="min", patience=settings.patience, restore_best_weights=True),
    ]
    if isinstance(settings, schema.Phase1) and settings.plateau_factor < 1:
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                MONITORED,
                mode="min",
                factor=settings.plateau_factor,
                patience=settings.plateau_patience,
                min_delta=0,
            )
        )
    if isinstance(settings, schema.Phase2):
        if settings.thaw_every:
            callbacks.append(optimizer.Thawing(settings.thaw_every))
        if by_depth := optimizer.describe(settings, epochs, depths, model.trainable_variables):
            console.say(by_depth)
    policy = precision.choose(settings.precision) if isinstance(settings, schema.Phase2) else "float32"
    began = time.monotonic()
    kind = type(settings).__name__.lower()
    with (
        watch.bar,
        precision.computing(model, policy),
        devices.enough_memory(f"{kind}.batch_size", settings.batch_size),
    ):
        found = model.evaluate(given.val, verbose=0, return_dict=True)
        start = {"val_loss": float(found["cross_entropy"]), "val_accuracy": float(found["accuracy"])}
        model.fit(given.train, validation_data=given.val, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)
    count = len(watch.rows) * len(train) * settings.batch_size
    timings.note(kind, count=count, seconds=time.monotonic() - began)
    best = min(watch.rows, key=lambda row: row["val_loss"])
    if best["val_loss"] < start["val_loss"]:
        epoch = int(best["epoch"])
        every = settings.thaw_every if isinstance(settings, schema.Phase2) else 0
        moved = optimizer.thawed_in(epoch - 1, every) if every else None
        return History(watch.rows, epoch, start, policy, moved)
    model.set_weights(before)
    return History(watch.rows, 0, start, policy, 0 if isinstance(settings, schema.Phase2) else None)


def _rate(settings: schema.Phase1 | schema.Phase2, total: int) -> Any:
    if isinstance(settings, schema.Phase1) or (settings.schedule == "constant" and not settings.warmup):
        return settings.learning_rate
    warmup = round(settings.warmup * total)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else settings.learning_rate,
        decay_steps=total - warmup,
        # A "decay" to the full rate is a constant rate after the warm-up.
        alpha=0.0 if settings.schedule == "cosine" else 1.0,
        warmup_target=settings.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no stubs
    """Keeps the history, shows the bar, tells ``report``, and stops what has diverged."""

    def __init__(self, epochs: int, steps: int, report: Report, description: str):
        super().__init__()
        self.rows: list[dict[str, float]] = []
        self.report, self.steps = report, steps
        self.bar = console.bar("steps")
        self.task = self.bar.add_task(description, total=epochs * steps, note="")
        self.epochs = epochs

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.start, self.done = time.monotonic(), epoch * self.steps
        # Read here, since a plateau changes the rate after the epoch that it belongs to.
        self.rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.bar.update(self.task, completed=self.done + batch + 1)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        figures = {FROM_KERAS[key]: float(value) for key, value in (logs or {}).items() if key in FROM_KERAS}
        row = {"epoch": epoch + 1, **figures, "learning_rate": self.rate}
        if not all(abs(value) < float("inf") for value in row.values()):
            raise ValueError(
                f"training diverged in epoch {epoch + 1}: the loss is {row['objective']}; choose a lower learning rate"
            )
        self.rows.append(row)
        note = f"epoch {epoch + 1} of {self.epochs}: accuracy {row['accuracy']:.3f}, val {row['val_accuracy']:.3f}"
        self.bar.update(self.task, completed=(epoch + 1) * self.steps, note=note)
        self.report(epoch + 1, {**row, "seconds": time.monotonic() - self.start})
