"""``fit``: Keras set up, run, and what it came to. Both phases are trained by it; they differ in what they give it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from thaw import console, paths, records, timings
from thaw.runtime import depthwise, devices, precision, threads, workers
from thaw.runtime.framework import keras
from thaw.training import (
    averaging,
    checkpoint,
    feed,
    improvement,
    mixing,
    multi_worker,
    optimizer,
    progress,
    replicas,
    resume,
    schedule,
    targets,
    validation,
)
from thaw.training.fit_settings import FitSettings

# ``loss`` is the mean cross-entropy in training as in validation. Training minimises the ``objective``: with the
# weights of images, and with penalties: that of ``head.l2`` and those that layers of a network from outside add.
COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "objective", "learning_rate")


@dataclass
class History:
    """The figures of each epoch, and which is kept, as ``fit`` says."""

    rows: list[dict[str, float]]  # keys are COLUMNS
    best: int  # epoch, from 1; 0: the start is kept, since the best epoch is shown to be worse
    start: dict[str, float]  # val_loss and val_accuracy before the first epoch; empty: there was no training
    precision: str = "float32"  # Keras's policy of the convolutions
    verdict: dict[str, Any] = field(default_factory=dict)  # why it ended, what it changed, if too early
    devices: int = 1  # that shared each batch, on one machine or on several
    checkpoint: Path | None = None  # of no use any more once all is written that comes of the training

    def at_best(self) -> dict[str, float]:
        """Return the figures of the weights that were kept."""
        return self.rows[self.best - 1] if self.best else self.start

    def summary(self) -> str:
        """Return one line for people."""
        if not self.start:
            return "nothing to train, the model stays as it was"
        kept = (
            f"epoch {self.best} of {len(self.rows)}" if self.best else f"the start, none of {len(self.rows)} epochs,"
        )
        is_best = not self.best or self.best == validation.lowest(self.rows)
        said = f"{kept} is {'best' if is_best else 'kept'}, validation accuracy {self.at_best()['val_accuracy']:.1%}"
        if self.verdict.get("stopped") == schedule.MINUTES:
            said += "; ended by phase2.minutes"
        return f"{said}; training ended too early, {self.advice}" if self.advice else said

    @property
    def advice(self) -> str:
        """Return what to set where training has ended too early; else empty."""
        return str(self.verdict.get("advice", ""))


def record(stage: str, history: History, made_from: Sequence[Path], **more: Any) -> None:
    """Write the stage's history as CSV and its figures as JSON, with the hashes of the files it was made from.

    It is the last that a stage writes: the checkpoint goes.
    """
    records.write_csv(paths.history(stage), COLUMNS, history.rows)
    figures = {
        "epochs": len(history.rows),
        "precision": history.precision,
        "threads": threads.used(),
        "device": devices.record(history.devices),
        "best_epoch": history.best,
        **{key: value for key, value in history.at_best().items() if key.startswith("val_")},
        "made_from": records.made_from(made_from),
        **history.verdict,
        **more,
    }
    records.write_json(paths.metrics(stage), figures)
    if history.checkpoint:
        history.checkpoint.unlink(missing_ok=True)


def fit(
    model: keras.Model,
    train: mixing.Mixed,
    val: mixing.Mixed,
    settings: FitSettings,
    report: progress.Report,
    description: str,
    depths: Mapping[str, int] = MappingProxyType({}),
    units: Sequence[str | int] = (),
    keep: Path | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> History:
    """Train with Adam until the validation loss stops falling, and leave the weights of one epoch in the model.

    Workers that share the training have its weights alike; only in the first the model gets those of the best epoch.
    It is the one of the lowest validation loss. Where the rate has fallen to zero it is the last, unless the images
    show that it is worse: the lowest of many losses of few images is the lowest by chance too. The validation loss is
    the cross-entropy without penalties, so that it means the same whatever is penalised. If the images show that the
    epoch is worse than the start, the model stays as it was.

    Args:
        model: gives logits; what of it is trainable is trained.
        train, val: as ``thaw.features.inputs.batches`` gives them.
        report: told of every epoch as it ends.
        depths: of ``thaw.networks.freeze_boundaries.depths``, for phase 2's rates by depth.
        units: of each validation image, the same for those that are alike; empty: each is one.
        keep: the file of checkpoints, from which training goes on if it is there; None: none are written.
        callbacks: more of them, of benchmarks.

    Raises:
        ValueError: the loss is no longer a number.
    """
    # Not the model itself: what is compiled carries its optimiser along into every file it is saved to.
    state = checkpoint.shared(keep) if settings.workers > 1 else checkpoint.read(keep)
    resume.replayed(train, state)
    plain, count = model, settings.devices * settings.workers
    given = _fed(model, train, val, settings)
    model = given.model
    by_path = given.named(depths)
    with given.scope():
        rate = schedule.rate(settings, len(train))
        figures = [
            keras.metrics.MeanMetricWrapper(targets.accuracy, "accuracy"),
            keras.metrics.MeanMetricWrapper(targets.cross_entropy, "cross_entropy"),
        ]
        model.compile(
            optimizer.optimiser(settings, rate, by_path, model.trainable_variables, len(train)),
            # On a CPU, XLA runs depthwise convolutions ten times slower; Keras refuses it where results repeat.
            jit_compile=False,
            **given.compiled(figures),
        )
        # A step that makes variables, as those of the optimiser or of a metric given by its name, is traced twice.
        model.optimizer.build(model.trainable_variables)
    before = plain.get_weights()
    policy = precision.choose(settings.precision)
    ending = schedule.Ending(settings, len(train), rate, progress.MONITORED, workers.clock)
    watch = progress.Watch(ending, len(train), report, description)
    watch.rows += state.rows
    if said := optimizer.describe(settings, by_path, model.trainable_variables):
        console.say(said)
    began = time.monotonic()
    with (
        watch.bar,
        precision.computing(plain, policy),
        depthwise.gradients(plain),
        devices.enough_memory(f"{settings.phase}.batch_size", settings.batch_size),
    ):
        run = validation.forward(plain)
        at_start = validation.answers(run, val)
        start = {"val_loss": float(at_start.loss.mean()), "val_accuracy": float(at_start.right.mean())}
        last = averaging.Last()
        every = [watch, *given.callbacks, *callbacks, last, *_callbacks(settings, ending)]
        falling = [rate.begin, rate.length] if isinstance(rate, schedule.StableDecay) else []
        file = keep if workers.here().is_chief else None
        every.append(resume.Checkpoints(file, state, watch.rows, every, falling, len(train)))
        with workers.told():
            resume.passed_over(model, given.val, state.step)
            model.fit(
                given.train,
                validation_data=given.val,
                epochs=settings.epochs,
                initial_epoch=settings.epochs if state.ended else state.epoch,
                shuffle=False,
                verbose=0,
                callbacks=every,
            )
        if settings.workers > 1 and not workers.here().is_chief:
            return History(watch.rows, validation.lowest(watch.rows), start, policy, devices=count)
        given.give_back()
        best = validation.lowest(watch.rows)
        units = units or range(len(at_start.loss))
        is_last = (
            ending.has_fallen
            and best < len(watch.rows)
            and validation.last_holds(model, given.give_back, last.weights, run, val, at_start, units)
        )
        change = improvement.compare(at_start.loss, validation.answers(run, val).loss, units)
    steps = (len(watch.rows) - state.epoch) * len(train) - state.step
    timings.note(settings.phase, count=max(steps, 0) * settings.batch_size, seconds=time.monotonic() - began)
    epoch = 0 if change.is_worse else len(watch.rows) if is_last else best
    if not epoch:
        plain.set_weights(before)
    history = History(watch.rows, epoch, start, policy, devices=count, checkpoint=keep)
    if settings.has_verdict:
        stopped = ending.stopped or schedule.PATIENCE
        losses = [row["val_loss"] for row in watch.rows]
        advice = improvement.too_early(settings, losses, start["val_loss"], min(epoch, best), stopped)
        early = {"ended_too_early": bool(advice), "advice": advice}
        history.verdict = {"stopped": stopped, **early, **change.record()}
    return history


def _fed(model: keras.Model, train: mixing.Mixed, val: mixing.Mixed, settings: FitSettings) -> feed.Fed:
    if settings.workers > 1:
        return multi_worker.shared(model, train, val, workers.here())
    if settings.devices > 1:
        return replicas.spread(model, train, val, settings.devices)
    return feed.fed(model, train, val)


def _callbacks(settings: FitSettings, ending: schedule.Ending) -> list[keras.callbacks.Callback]:
    """Return what stops training and chooses the weights; what has the average in the model is the last."""
    falling = {"monitor": progress.MONITORED, "mode": "min"}
    callbacks = [
        keras.callbacks.EarlyStopping(**falling, patience=settings.patience, restore_best_weights=True),
        ending,
    ]
    if settings.plateau_factor < 1:
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                **falling, factor=settings.plateau_factor, patience=settings.plateau_patience, min_delta=0
            )
        )
    if settings.average_epochs:
        callbacks.append(averaging.Averaging())
    return callbacks
