"""The classifier as it is deployed: raw images in, probabilities and labels out, preprocessing inside."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from thaw import paths, records
from thaw.classifier import model
from thaw.exports import formats
from thaw.exports.exported import Deployed
from thaw.images import decoding, preprocessing
from thaw.runtime.framework import keras


def serving(classifier: model.Classifier) -> keras.Model:
    """Return the deployed model: (batch, height, width, 3) uint8 RGB of any size → (batch, classes) float32
    probabilities.
    """
    pixels = keras.Input((None, None, 3), dtype="uint8", name="images")
    fitted = preprocessing.resizer(classifier.card.image)(pixels)
    features = classifier.pool(classifier.backbone(fitted, training=False))
    logits = classifier.head(features)
    probabilities = keras.layers.Softmax(dtype="float32", name="probabilities")(logits)
    return keras.Model(pixels, probabilities, name="thaw")


def write(
    folder: Path, classifier: model.Classifier, wanted: Sequence[str], reading: decoding.Reading = decoding.USUAL
) -> None:
    """Write the formats asked for, and the labels beside them.

    Args:
        wanted: names of ``thaw.exports.formats.FORMATS``.
        reading: how training read files; each format carries it for ``thaw predict``.
    """
    records.make_new(folder)
    card = classifier.card
    about = {"classes": card.classes, "image": asdict(card.image), "files": asdict(reading)}
    records.write_json(folder / paths.LABELS, about)
    deployed = Deployed(serving(classifier), classifier, reading, about)
    for name, form in formats.FORMATS.items():
        if name in wanted:
            form.write(folder / form.about.file, deployed)
