"""Ask a model that takes pixels about encoded files: decoded by the one Pillow path, on all cores. No TensorFlow."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from thaw.config import schema
from thaw.exports.exported import ABOUT, Answer, Exported
from thaw.images import decoding
from thaw.runtime import threads

Row = TypeVar("Row")
Run = Callable[[np.ndarray], Sequence[Answer]]  # (batch, height, width, 3) uint8 RGB → an answer each


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


def exported(about: Mapping[str, Any], run: Run) -> Exported:
    """Return a loaded model.

    Args:
        about: what its file says of it.
        run: the model; it is called from several threads at once.
    """
    image, reading = schema.Image(**about["image"]), decoding.Reading(**about["files"])
    pool = ThreadPoolExecutor(threads.used(), "thaw")  # starts no thread before it is needed

    def decode(data: bytes) -> np.ndarray:
        return decoding.pixels(data, reading, image)

    def one(data: bytes) -> Answer:
        return run(decode(data)[None])[0]

    def say(files: Sequence[bytes]) -> list[Answer]:
        return [one(files[0])] if len(files) == 1 else list(pool.map(one, files))

    return Exported(about["classes"], say, reading, about, decode, run, ABOUT in about)
