"""The classifier as it is deployed: raw images in, probabilities and labels out, preprocessing inside."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from thaw import paths, records
from thaw.catalog import backbones
from thaw.classifier import model
from thaw.exports import formats, hashes
from thaw.exports.exported import ABOUT, Deployed, unless_refused
from thaw.exports.unfamiliarity import Unfamiliarity
from thaw.images import content, decoding, preprocessing
from thaw.runtime.framework import keras


def serving(classifier: model.Classifier, temperature: float = 1.0) -> keras.Model:
    """Return the deployed model: (batch, height, width, 3) uint8 RGB of any size → (batch, classes) float32
    probabilities, of the logits divided by the temperature.
    """
    pixels = keras.Input((None, None, 3), dtype="uint8", name="images")
    fitted = preprocessing.resizer(classifier.card.image)(pixels)
    features = classifier.pool(classifier.backbone(fitted, training=False))
    logits = classifier.head(features)
    if temperature != 1:
        logits = keras.layers.Rescaling(1 / temperature, dtype="float32", name="temperature")(logits)
    probabilities = keras.layers.Softmax(dtype="float32", name="probabilities")(logits)
    return keras.Model(pixels, probabilities, name="thaw")


def write(
    folder: Path,
    classifier: model.Classifier,
    wanted: Sequence[str],
    reading: decoding.Reading = decoding.USUAL,
    *,
    temperature: float = 1.0,
    provenance: Mapping[str, str] | None = None,
    calibration: Callable[[], Iterator[np.ndarray]] = lambda: iter(()),
    unfamiliarity: Unfamiliarity | None = None,
    go_on: bool = False,
) -> Deployed:
    """Write the formats asked for, and the labels beside them; return what they were written from.

    Args:
        folder: emptied first, unless ``go_on``.
        classifier: the one to deploy.
        wanted: names of ``thaw.exports.formats.FORMATS``.
        reading: how training read files; each format carries it for ``thaw predict``.
        temperature: by which the logits are divided.
        provenance: what the model came of, by hashes; each format carries it.
        calibration: pixels of training images, for the int8 formats.
        unfamiliarity: the score of images unlike the training images; None: the formats have none.
        go_on: leave the formats that an unfinished run of the same inputs has written whole.
    """
    hashes.leave_whole(folder) if go_on else records.make_new(folder)
    about = described(classifier.card, reading, temperature, provenance or {}, unfamiliarity)
    records.write_json(folder / paths.LABELS, about)
    deployed = Deployed(
        serving(classifier, temperature), classifier, reading, about, temperature, unfamiliarity, calibration
    )
    # TensorFlow numbers the functions of a SavedModel by how many the process has made, so it is the first: whether
    # others were there already then makes no difference to its bytes.
    for name, form in sorted(formats.FORMATS.items(), key=lambda each: each[0] != "saved_model"):
        if name in wanted and not (folder / form.about.file).exists():
            others = [other for other in wanted if other != name] or [
                "keras" if name == "saved_model" else "saved_model"
            ]
            with unless_refused(form.about.title, ",".join(others)):
                form.write(folder / form.about.file, deployed if form.about.scores else deployed.unscored())
            hashes.write(folder)
    hashes.write(folder)
    return deployed


def described(
    card: model.Card,
    reading: decoding.Reading,
    temperature: float,
    provenance: Mapping[str, str],
    unfamiliarity: Unfamiliarity | None = None,
) -> dict[str, Any]:
    """Return the content of labels.json, which each format holds too: what whoever asks the model must know of it."""
    return {
        "classes": card.classes,
        "image": asdict(card.image),
        "pixels": backbones.contract(card.backbone.name, card.backbone.pixels),
        "files": asdict(reading),
        "limits": {"max_pixels": reading.max_pixels, "max_bytes": content.MAX_BYTES},
        "temperature": temperature,
        "provenance": dict(provenance),
        **({ABOUT: unfamiliarity.about()} if unfamiliarity else {}),
    }


def put_in_place(folder: Path) -> None:
    """Copy an export that is proven to where it is looked for.

    What was there stays whole until its successor is, beside it, so a kill at any moment loses neither.
    """
    new, old = (paths.EXPORTED.with_name(f".{paths.EXPORTED.name}.{which}") for which in ("new", "old"))
    shutil.rmtree(new, ignore_errors=True)  # of a run that was killed
    try:
        with records.room_said(paths.EXPORTED):
            shutil.copytree(folder, new)
    except OSError:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if paths.EXPORTED.exists():
        shutil.rmtree(old, ignore_errors=True)
        paths.EXPORTED.rename(old)
    new.rename(paths.EXPORTED)
    shutil.rmtree(old, ignore_errors=True)


def set_aside(folder: Path) -> None:
    """Move an export that its proof has refused to where nobody takes it for one that may be deployed."""
    shutil.rmtree(paths.EXPORTED, ignore_errors=True)  # of an earlier run
    records.make_new(paths.REFUSED)
    paths.REFUSED.rmdir()
    shutil.move(folder, paths.REFUSED)
