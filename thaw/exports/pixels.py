"""Ask a model that takes pixels about encoded files: decoded by the one Pillow path, on all cores. No TensorFlow."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from thaw.config import schema
from thaw.exports.exported import Exported
from thaw.images import decoding
from thaw.runtime import threads

Row = TypeVar("Row")

# (batch, height, width, 3) uint8 RGB → (batch, classes) float32 probabilities, and the labels
Run = Callable[[np.ndarray], tuple[np.ndarray, list[str]]]


def by_shape(pictures: Sequence[np.ndarray], run: Callable[[np.ndarray], Sequence[Row]]) -> list[Row]:
    """Return what a model says of each picture, those of one shape asked at once.

    Args:
        pictures: (height, width, 3) uint8 each.
        run: (batch, height, width, 3) uint8 → one answer a picture.
    """
    places: dict[tuple[int, ...], list[int]] = {}
    for place, picture in enumerate(pictures):
        places.setdefault(picture.shape, []).append(place)
    found: dict[int, Row] = {}
    for group in places.values():
        found |= dict(zip(group, run(np.stack([pictures[place] for place in group])), strict=True))
    return [found[place] for place in range(len(pictures))]


def exported(about: Mapping[str, Any], run: Run, *, has_labels: bool = True) -> Exported:
    """Return a loaded model.

    Args:
        about: what its file says of it.
        run: the model; it is called from several threads at once.
        has_labels: whether the labels are the model's own answer.
    """
    image, reading = schema.Image(**about["image"]), decoding.Reading(**about["files"])
    pool = ThreadPoolExecutor(threads.used(), "thaw")  # starts no thread before it is needed

    def decode(data: bytes) -> np.ndarray:
        return decoding.pixels(data, reading, image)

    def one(data: bytes) -> tuple[np.ndarray, list[str]]:
        return run(decode(data)[None])

    def labelled(files: Sequence[bytes]) -> tuple[np.ndarray, list[str]]:
        if not files:
            return np.zeros((0, len(about["classes"])), np.float32), []
        found = [one(files[0])] if len(files) == 1 else list(pool.map(one, files))
        return np.concatenate([rows for rows, _ in found]), [label for _, labels in found for label in labels]

    return Exported(
        about["classes"],
        lambda files: labelled(files)[0],
        labelled if has_labels else None,
        reading,
        about,
        decode,
        run,
    )
