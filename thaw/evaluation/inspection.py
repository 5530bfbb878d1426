"""Look inside the model: pictures of its mistakes and of some hits as it sees them, with Grad-CAM, for the report."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from thaw import paths, records
from thaw.classifier import model
from thaw.evaluation import confusion, gradcam, label_errors, mistakes
from thaw.images import manifest

SIDE = 132  # pixels of a picture; the page holds some 100 of them
QUALITY = 72  # of their JPEGs
HEAT = 0.55  # how far the strongest place of a heat map covers the picture


def write(phase: str, classifier: model.Classifier, split: manifest.Images, probabilities: np.ndarray) -> None:
    """Write the table of mistakes, and the pictures that the report shows.

    Args:
        phase: whose model is looked into.
        classifier: that model.
        split: the test images.
        probabilities: (images, classes), its answers for them.
    """
    classes, names, labels = classifier.card.classes, split.names, split.labels
    suspects = {row["path"] for row in label_errors.suspects("test", names, labels, probabilities, classes)}
    copies = records.read_csv(paths.COPIES) if paths.COPIES.is_file() else []
    rows = mistakes.table(names, labels, probabilities, classes, suspects, copies)
    mistakes.write(rows)
    answers = probabilities.argmax(axis=1)
    wrong, right = mistakes.confident(probabilities, labels), mistakes.hits(probabilities, labels)
    pairs = confusion.confused(confusion.counted(labels, answers, len(classes)), mistakes.PAIRS)
    examples = [mistakes.examples(probabilities, labels, pair) for pair in pairs]
    explained = [*wrong, *right]
    others = [image for each in examples for image in (*each["mistaken"], *each["right"])]
    shown = list(dict.fromkeys([*explained, *others]))
    pixels = _pixels(classifier, split, shown)
    maps = gradcam.heat_maps(classifier, pixels[: len(explained)], answers[explained])
    looked = zip(explained, pixels, maps, strict=False)  # those that are explained come first
    record = {
        "phase": phase,
        "places": list(maps.shape[1:]),  # of a heat map, height and width
        "pictures": {names[image]: jpeg(seen) for image, seen in zip(shown, pixels, strict=True)},
        "heat_maps": {names[image]: jpeg(overlay(seen, heat)) for image, seen, heat in looked},
        "mistakes": rows[: len(wrong)],
        "hits": [
            {"path": names[i], "label": classes[labels[i]], "probability": round(float(probabilities[i].max()), 4)}
            for i in right
        ],
        "pairs": [_named(*pair, names, classes) for pair in zip(pairs, examples, strict=True)],
    }
    records.write_json(paths.PICTURES, record)


def _pixels(classifier: model.Classifier, split: manifest.Images, images: Sequence[int]) -> np.ndarray:
    """Return some images as the classifier gets them, (n, size, size, 3) float32 in [0, 255]."""
    files, hashes = [split.paths[i] for i in images], [split.hashes[i] for i in images]
    return np.concatenate(list(manifest.pixels(classifier.card.image, files, hashes, gradcam.BATCH)))


def _named(
    pair: Mapping[str, int], examples: Mapping[str, Sequence[int]], names: Sequence[str], classes: Sequence[str]
) -> dict[str, Any]:
    """Return a pair with its examples, with the names of classes and images in place of their numbers."""
    named = {key: classes[pair[key]] for key in ("actual", "predicted")}
    return {**pair, **named, **{key: [names[image] for image in images] for key, images in examples.items()}}


def overlay(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Return the picture in grey under its heat map: from blue over yellow to red, the stronger the more it covers.

    Args:
        pixels: (size, size, 3) float32 in [0, 255].
        heat: (height, width) float32 from 0 to 1; it is resized to the picture.

    Returns:
        (size, size, 3) float32 in [0, 255].
    """
    size = pixels.shape[1::-1]
    wide = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    stops = np.array([[40, 60, 200], [240, 220, 60], [220, 30, 20]])  # at 0, 0.5 and 1
    colours = np.stack([np.interp(wide, (0, 0.5, 1), stops[:, channel]) for channel in range(3)], axis=-1)
    cover = HEAT * wide[..., None] ** 0.5
    grey = pixels @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    mixed: np.ndarray = grey[..., None] * (1 - cover) + colours * cover
    return mixed.astype(np.float32)


def jpeg(pixels: np.ndarray) -> str:
    """Return a picture, at most ``SIDE`` pixels wide, as a data URI."""
    image = Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8))
    if image.width > SIDE:
        image = image.resize((SIDE, round(SIDE * image.height / image.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
