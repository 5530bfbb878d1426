"""The script that a user would write: plain Keras, every image through the whole network in every epoch.

``python -m benchmarks.script PROJECT OUT.json`` trains on the split in PROJECT's manifest, so that it and the pipeline
learn from the same images. Head, backbone and weights are the same too; loading, augmentation,
callbacks and schedule are those of the usual two-phase tutorial: 10 epochs of the head at 1e-3, then 20 epochs of the
top 40 layers at 1e-4, both stopped early.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import epoch_clock
from thaw.classifier import model
from thaw.config import load
from thaw.config.unfreeze import UnfreezeSpec
from thaw.images import manifest
from thaw.networks import freeze_boundaries
from thaw.runtime.framework import keras, tf

EPOCHS, PATIENCE, RATES = (10, 20), (3, 5), (1e-3, 1e-4)
BATCH = 32


def dataset(split: manifest.Images, size: int, *, shuffle: bool) -> Any:
    """As ``image_dataset_from_directory`` does it: decode, resize, batch, prefetch; every epoch anew."""

    def read(path: Any, label: Any) -> tuple[Any, Any]:
        pixels = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
        return tf.image.resize(pixels, (size, size)), label

    files = tf.data.Dataset.from_tensor_slices((list(split.paths), split.labels))
    if shuffle:
        files = files.shuffle(len(split), seed=0)
    return files.map(read, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(tf.data.AUTOTUNE)


def main() -> None:
    project, out = sys.argv[1:3]
    os.chdir(project)
    params, _ = load.read()
    keras.utils.set_random_seed(0)
    train, val, test = manifest.read(params.data.raw, "train", "val", "test")
    card = model.Card(params.backbone, "", params.image, params.head, manifest.classes())
    classifier = model.build(card, weights=params.backbone.weights)
    boundary = freeze_boundaries.find(classifier.backbone, UnfreezeSpec.parse("40"))

    augment = keras.Sequential(
        [
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomRotation(10 / 360),
            keras.layers.RandomZoom(0.1),
            keras.layers.RandomTranslation(0.05, 0.05),
            keras.layers.RandomContrast(0.1),
            keras.layers.RandomBrightness(0.1),
        ]
    )
    inputs = keras.Input((params.image.size, params.image.size, 3))
    features = classifier.pool(classifier.backbone(augment(inputs), training=False))
    whole = keras.Model(inputs, classifier.head(features))

    size = params.image.size
    training, validation = dataset(train, size, shuffle=True), dataset(val, size, shuffle=False)
    times, epochs, clock = [], [], epoch_clock.EpochClock()
    for phase in (0, 1):
        begin = time.monotonic()
        thawed = set(freeze_boundaries.split(classifier.backbone, boundary)[1].layers) if phase else set()
        for layer in classifier.backbone.layers:
            layer.trainable = layer in thawed and not isinstance(layer, keras.layers.BatchNormalization)
        whole.compile(
            keras.optimizers.Adam(RATES[phase]),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=False,
        )
        stop = keras.callbacks.EarlyStopping("val_loss", patience=PATIENCE[phase], restore_best_weights=True)
        callbacks = [stop, clock]
        if not phase:
            callbacks.append(keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=2))
        history = whole.fit(training, validation_data=validation, epochs=EPOCHS[phase], verbose=0, callbacks=callbacks)
        times.append(time.monotonic() - begin)
        epochs.append(len(history.history["loss"]))
    kept = sum(epochs[:-1]) + stop.best_epoch
    wall = time.time() - psutil.Process().create_time()  # with its imports, as the pipeline's stages are timed
    predicted = np.argmax(whole.predict(dataset(test, size, shuffle=False), verbose=0), axis=1)
    record = {
        "wall": wall,
        "phase1": times[0],
        "phase2": times[1],
        "epochs": epochs,
        "clock": clock.epochs,
        "val_accuracy": clock.epochs[kept][1],
        "right": int((predicted == test.labels).sum()),
        "images": len(test),
    }
    Path(out).write_text(json.dumps(record), encoding="utf-8")


if __name__ == "__main__":
    main()
