"""What ``test_replicas`` asks of a process of its own: TensorFlow divides a processor only before its first use.

Trains the same network on one device and on two, and writes what came of it: ``python spread.py FOLDER``, or with a
word behind it what takes longer, of a real backbone too.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.training import short
from thaw.classifier import frozen_weights, model
from thaw.config import phases, schema
from thaw.config.unfreeze import UnfreezeSpec
from thaw.networks import freeze_boundaries
from thaw.runtime import devices, seeds
from thaw.runtime.framework import keras, tf
from thaw.training import checkpoint, fit, mixing, resume
from thaw.training.fit_settings import FitSettings

RANDOM = np.random.default_rng(0)
VIEWS, COUNT, VAL = 3, 53, 30  # batches of 8, the last of 5: three images on one device, two on the other
LABELS = np.arange(COUNT) % 3
POINTS = (np.eye(3)[LABELS] + RANDOM.normal(size=(VIEWS, COUNT, 3))).astype(np.float32)
WEIGHTS = np.linspace(0.5, 2, COUNT).astype(np.float32)
PHASE2 = replace(
    short.SETTINGS,
    schedule=phases.WSD,
    warmup=1,
    average_epochs=1,
    weight_decay=0.01,
    mixup=0.4,
)
WEIGHTED = replace(PHASE2, class_weight="balanced", layer_decay=0.5)
COSINE = replace(WEIGHTED, schedule="cosine", epochs=3)


def network(dropout: float, norm: bool = False) -> keras.Model:
    """Dense layers with a penalty, which a device must not count twice."""
    seeds.fix(0)
    inputs = keras.Input((3,), name="points")
    values = keras.layers.Reshape((1, 1, 3))(inputs)
    values = keras.layers.Conv2D(8, 1, name="wide")(values)
    values = keras.layers.BatchNormalization(name="norm")(values) if norm else values
    values = keras.layers.Flatten()(values)
    values = keras.layers.Dense(8, "relu", name="hidden", kernel_regularizer=keras.regularizers.L2(0.05))(values)
    values = keras.layers.Dropout(dropout, name="dropout")(values)
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(values), name="head")


def trained(
    settings: FitSettings, dropout: float = 0, norm: bool = False, keep: Path | None = None, *more: Any
) -> dict[str, Any]:
    """Train; the history, and the weights as hexadecimal bytes and as numbers."""
    small = network(dropout, norm)
    weights = WEIGHTS if settings.class_weight == "balanced" else None
    train = mixing.Mixed(
        lambda indices, views: POINTS[views, indices],
        LABELS,
        settings.batch_size,
        VIEWS,
        0,
        weights=weights,
        classes=3,
        alpha=settings.mixup,
    )
    val = mixing.Mixed(lambda indices, _: POINTS[0, indices], LABELS[:VAL], settings.batch_size, classes=3, alpha=0)
    depths = {small.get_layer("hidden").kernel.path: 1, small.get_layer("wide").kernel.path: 2}
    history = fit.fit(small, train, val, settings, lambda *_: None, "test", depths, keep=keep, callbacks=more)
    arrays = [np.asarray(variable) for variable in small.variables]
    return {
        "rows": history.rows,
        "best": history.best,
        "start": history.start,
        "verdict": history.verdict,
        "bytes": [array.tobytes().hex() for array in arrays],
        "numbers": [array.astype(float).ravel().tolist() for array in small.get_weights()],
    }


def on_a_cosine(count: int) -> dict[str, Any]:
    """Train without a schedule that looks for its end."""
    return trained(replace(COSINE, devices=count))


def backbone(count: int) -> dict[str, Any]:
    """Fine-tune the top of EfficientNet-Lite0 on noise of 32 pixels, and check that the rest is untouched."""
    seeds.fix(0)
    image, head = schema.Image(32, "squash", "bilinear", antialias=True), schema.Head("avg", [8], [0.0], 1e-3)
    card = model.Card(schema.Backbone("efficientnet_lite0", "random", "", "", ""), "0" * 64, image, head, list("abc"))
    classifier = model.build(card, weights="random")
    cut = freeze_boundaries.find(classifier.backbone, UnfreezeSpec.parse("2blocks"))
    frozen, rest = model.thaw(classifier, cut, "inference")
    witness = frozen_weights.witness(classifier, rest, "inference")
    before = rest.get_weights()
    pixels = np.random.default_rng(1).uniform(0, 255, (14, 32, 32, 3)).astype(np.float32)
    inputs, labels = np.asarray(frozen(pixels)), np.arange(14) % 3
    settings = replace(PHASE2, epochs=2, learning_rate=1e-3, devices=count)
    train, val = (
        mixing.Mixed(lambda indices, _: inputs[indices], labels, 8, classes=3, alpha=0, seed=seed)
        for seed in (0, None)
    )
    history = fit.fit(rest, train, val, settings, lambda *_: None, "test", model.depths(classifier))
    frozen_weights.check(classifier, witness)
    moved = max(float(np.abs(one - other).max()) for one, other in zip(before, rest.get_weights(), strict=True))
    return {"rows": history.rows, "start": history.start, "moved": moved}


def main(folder: Path, what: str = "") -> None:
    """Write FOLDER/results.json."""
    processor = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
    tf.config.set_visible_devices([], "GPU")
    phases.FEWEST_STEPS, resume.SHARE = 1, np.inf
    results: dict[str, Any] = {}
    if what:
        real, cosine = ([train(count) for count in (1, 2)] for train in (backbone, on_a_cosine))
        (folder / "results.json").write_text(json.dumps({"backbone": real, "cosine": cosine}))
        return
    results["averaged"] = [trained(replace(WEIGHTED, devices=count)) for count in (1, 2)]
    both, keep = replace(PHASE2, devices=2, precision="mixed"), folder / "checkpoint.npz"
    results["undisturbed"] = trained(both, 0.5, norm=True)
    resume.MINUTE, results["at"] = 0, []
    for stop in ((1, 5), (3, 1)):
        try:
            trained(both, 0.5, True, keep, short.Break(*stop))
        except KeyboardInterrupt:
            kept = checkpoint.read(keep)
            results["at"].append([kept.epoch, kept.step])
    results["resumed"] = trained(both, 0.5, True, keep)
    try:
        devices.several(3)
    except ValueError as error:
        results["too many"] = str(error)
    (folder / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
